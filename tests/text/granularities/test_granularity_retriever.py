"""MemGAS on a store: sessions follow what is written, corrected, deleted and forgotten, in every scope and time."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from lamina import Memory
from lamina.bench.synthetic import WordVectors
from lamina.cube.cube import Header, MemCube, Provenance, Scope, Source, Utterance
from lamina.cube.payload import TextPayload
from lamina.errors import NotFound
from lamina.settings import Settings
from lamina.store.base import Write
from lamina.store.index import IndexCache
from lamina.store.sqlite import SqliteStore
from lamina.text.base import Hit
from lamina.text.granularities.following import FollowedSessions, SessionVectors, session_name
from lamina.text.granularities.retriever import SESSION, GranularityRetriever
from lamina.text.retrieval import HybridRetriever

T0 = datetime(2024, 1, 1, tzinfo=UTC)
ANN, BEN = Scope(user="ann"), Scope(user="ben")
TOPICS = {
    "boat": "We sailed the boat around the harbour",
    "bread": "I baked bread with sourdough and seeds",
    "chess": "The chess tournament had seven rounds",
    "oak": "An oak tree fell in the storm",
}


class Keeping(WordVectors):
    """Remembers which texts it has encoded and was not told to forget."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: set[str] = set()
        self.encoded: list[str] = []

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.kept |= set(texts)
        self.encoded += texts
        return super().encode(texts)

    def forget(self, texts: Iterable[str]) -> None:
        self.kept -= set(texts)


class Desk:
    def __init__(self, store: SqliteStore) -> None:
        self.store, self.embedder, self.indexes = store, Keeping(), IndexCache()
        self.retriever = GranularityRetriever(self.indexes, self.embedder)

    def say(self, session: str, *texts: str, scope: Scope = ANN, day: int = 0, start: int = 0) -> list[str]:
        """Store turns ``{session}-{n}`` of a session."""
        cubes = [self._turn(session, text, n, scope, day) for n, text in enumerate(texts, start=start)]
        with self.store.transaction() as tx:
            vectors = WordVectors().encode(texts)
            tx.insert([Write(cube, vector) for cube, vector in zip(cubes, vectors, strict=True)])
        return [cube.id for cube in cubes]

    def _turn(self, session: str, text: str, n: int, scope: Scope, day: int) -> MemCube:
        said = Utterance(session, n, "Ann" if n % 2 else "Ben", "user")
        id = f"{scope.user}-{session}-{n}"
        header = Header(id=id, semantic_type="turn", scope=scope, recorded=T0 + timedelta(days=day), utterance=said)
        return MemCube(header, TextPayload(text))

    def fact(self, text: str, turn: str, scope: Scope = ANN) -> str:
        header = Header(scope=scope, recorded=T0, provenance=Provenance(sources=(Source(turn, 0, 3),)))
        with self.store.transaction() as tx:
            tx.insert([Write(MemCube(header, TextPayload(text)), WordVectors().encode([text])[0])])
        return header.id

    def ask(self, query: str, k: int = 5, scope: Scope = ANN, **how: object) -> list[Hit]:
        vector = WordVectors().encode([query])[0]
        return self.retriever.search(query, vector, self.store, scope, k=k, **how)  # type: ignore[arg-type]

    def ids(self, query: str, k: int = 5, scope: Scope = ANN, **how: object) -> list[str]:
        return [hit.cube.id for hit in self.ask(query, k, scope, **how)]

    def fill(self, sessions: int = 8) -> None:
        for number in range(sessions):
            topic = list(TOPICS.values())[number % len(TOPICS)]
            self.say(f"s{number}", f"{topic}, number{number}.", "That is nice.", f"{topic} again.", day=number)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with SqliteStore(tmp_path / "m.db", durable=False) as store:
        yield Desk(store)


def test_a_turn_is_worth_its_own_score_and_a_part_for_its_session(desk: Desk) -> None:
    desk.fill()
    query = "Where did the boat go?"
    hybrid = HybridRetriever(desk.indexes, desk.embedder)
    plain = {h.cube.id: h for h in hybrid.search(query, WordVectors().encode([query])[0], desk.store, ANN, k=50)}
    hits = desk.ask(query, k=50)
    assert {hit.cube.id for hit in hits} == set(plain)
    for hit in hits:
        session = hit.parts.get("memgas", 0.0)
        assert 0 <= session <= SESSION
        assert hit.score == pytest.approx(plain[hit.cube.id].score + session)
        assert hit.parts == {**plain[hit.cube.id].parts, **({"memgas": session} if session else {})}
    best = [hit for hit in hits if hit.parts.get("memgas") == SESSION]
    assert best
    assert all("boat" in desk.store.get(hit.cube.id).text or "nice" in hit.cube.text for hit in best)  # type: ignore[union-attr]
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    assert desk.ids(query, k=3) == [hit.cube.id for hit in hits[:3]]


def test_two_turns_that_say_the_same_are_told_apart_by_their_sessions(desk: Desk) -> None:
    desk.say("cooking", "I love it.", "The sourdough bread was in the oven.", "Bread and butter!", day=0)
    desk.say("sailing", "I love it.", "The boat left the harbour.", "Wind and waves!", day=1)
    for number in range(4):
        desk.say(f"other{number}", "The chess club met.", "Storm and rain.", day=2 + number)
    for about, session in (("bread oven butter", "cooking"), ("boat harbour wind", "sailing")):
        ranked = desk.ids(f"love it: {about}", k=20)
        other = "sailing" if session == "cooking" else "cooking"
        assert ranked.index(f"ann-{session}-0") < ranked.index(f"ann-{other}-0")


def test_facts_come_with_their_turn_and_share_its_session(desk: Desk) -> None:
    desk.fill()
    fact = desk.fact("Ann sailed the boat around the harbour.", "ann-s0-0")
    hit = next(hit for hit in desk.ask("boat harbour", k=50) if hit.source and hit.source.id == "ann-s0-0")
    assert fact in {hit.cube.id, *(other.id for other in hit.facts)}
    assert hit.parts["memgas"] > 0


def test_scopes_times_and_filters_are_kept(desk: Desk) -> None:
    desk.fill()
    desk.say("s0", "Ben has a secret boat.", scope=BEN)
    assert all(id.startswith("ann-") for id in desk.ids("boat", k=50))
    assert desk.ids("boat", k=50, scope=BEN) == ["ben-s0-0"]
    assert {"ann-s0-0", "ben-s0-0"} <= set(desk.ids("boat", k=50, scope=Scope()))  # same name, two sessions
    early = desk.ids("boat", k=50, as_of=T0 + timedelta(days=3))
    assert set(early) == {f"ann-s{n}-{turn}" for n in range(4) for turn in range(3)}
    allow = _keys(desk, ["ann-s4-0", "ann-s1-1"])
    assert set(desk.ids("boat", k=50, allow=allow)) == {"ann-s4-0", "ann-s1-1"}


def _keys(desk: Desk, ids: list[str]) -> NDArray[np.int64]:
    changes = desk.store.changes(ANN)
    return np.asarray([change.key for change in changes if change.cube and change.cube.id in ids], np.int64)


def test_nothing_stored_is_nothing_found(desk: Desk) -> None:
    assert desk.ask("anything") == []
    fact = Header(scope=ANN, recorded=T0)
    with desk.store.transaction() as tx:
        tx.insert([Write(MemCube(fact, TextPayload("A note about boats.")), WordVectors().encode(["boats"])[0])])
    assert desk.ids("boats") == [fact.id]  # without any session


def state(desk: Desk, sessions: FollowedSessions, query: str = "boat and bread", **how: object) -> dict[str, float]:
    index = desk.indexes.get(desk.store, ANN)
    vector = WordVectors().encode([query])[0]
    return sessions.scores(query, vector, index, desk.store, how.get("as_of"))  # type: ignore[arg-type]


STEPS = st.tuples(st.sampled_from(["say", "more", "close", "forget"]), st.integers(0, 30))


@settings(max_examples=8)
@given(st.lists(STEPS, min_size=3, max_size=6))
def test_following_gives_what_starting_anew_does(steps: list[tuple[str, int]]) -> None:
    """Whatever was written, ended and forgotten in between, and whatever the past was asked."""
    with SqliteStore(":memory:", durable=False) as store:
        desk = Desk(store)
        desk.fill(6)
        now, past = FollowedSessions(SessionVectors(desk.embedder)), FollowedSessions(SessionVectors(desk.embedder))
        open_ids = [f"ann-s{n}-{turn}" for n in range(6) for turn in range(3)]
        for at, (step, pick) in enumerate(steps):
            topic = list(TOPICS.values())[pick % 4]
            if step == "say":
                open_ids += desk.say(f"new{at}", topic, day=10 + at)
            elif step == "more":
                open_ids += desk.say(f"s{pick % 6}", f"{topic} more", start=100 + at, day=9)
            elif open_ids:
                id = open_ids.pop(pick % len(open_ids))
                with store.transaction() as tx:
                    if step == "close":
                        tx.close(id, at=T0 + timedelta(days=40 + at))
                    else:
                        tx.forget([id])
            when = T0 + timedelta(days=pick)
            state(desk, past, as_of=when)
            assert state(desk, now) == state(desk, FollowedSessions(SessionVectors(desk.embedder)))
            assert state(desk, past, as_of=when) == state(
                desk, FollowedSessions(SessionVectors(desk.embedder)), as_of=when
            )


def test_a_new_turn_encodes_only_its_own_session(desk: Desk) -> None:
    desk.fill()
    desk.ask("boat")
    before = len(desk.embedder.encoded)
    desk.ask("bread")
    assert len(desk.embedder.encoded) == before
    desk.say("s7", "One more thing.", start=9, day=8)
    desk.ask("bread")
    fresh = desk.embedder.encoded[before:]  # its text, and what became other words of summary and keywords
    assert 1 <= len(fresh) <= 3 and "One more thing." in fresh[0]


def test_an_early_change_encodes_no_later_session_again(desk: Desk) -> None:
    desk.fill(12)
    desk.ask("boat")
    before = len(desk.embedder.encoded)
    desk.say("s0", "One more thing.", start=9, day=8)
    desk.ask("boat")
    fresh = desk.embedder.encoded[before:]
    texts = [text for text in fresh if text.startswith("[")]  # sessions and summaries; keywords may differ anywhere
    assert 1 <= len(texts) <= 2 and "One more thing." in texts[0]
    assert state(desk, desk.retriever._of(desk.indexes.get(desk.store, ANN)).now) == state(
        desk, FollowedSessions(SessionVectors(desk.embedder))
    )


def test_the_past_uses_the_vectors_of_the_present(desk: Desk) -> None:
    desk.fill(8)
    desk.ask("boat")
    before = len(desk.embedder.encoded)
    for day in (20, 2, 20, 5):
        desk.ask("boat", as_of=T0 + timedelta(days=day))
    assert len(desk.embedder.encoded) == before


def test_vectors_are_bounded_and_keep_no_text() -> None:
    embedder = Keeping()
    vectors = SessionVectors(embedder, limit=3)
    texts = ["canary one", "canary two", "canary one", "canary three", "canary four"]
    assert np.array_equal(vectors.encode(texts), WordVectors().encode(texts))
    assert len(vectors) == 3
    assert not embedder.kept
    assert "canary" not in repr(vars(vectors))
    embedder.encoded.clear()
    vectors.encode(["canary three"])
    assert not embedder.encoded
    vectors.encode(["canary one"])  # the least recently used had gone
    assert embedder.encoded == ["canary one"]


def test_vectors_of_what_was_forgotten_go_though_no_session_holds_it_any_more(desk: Desk) -> None:
    """A turn is ended, its session followed without it; then another process forgets it: its vectors must go, too."""
    desk.fill()
    (id,) = desk.say("secret", "qqzzxxkk", day=30)
    desk.say("secret", "Something else.", start=1, day=30)
    desk.ask("code")
    index = desk.indexes.get(desk.store, ANN)
    vectors = desk.retriever._of(index).now._vectors
    with desk.store.transaction() as tx:
        tx.close(id, at=T0 + timedelta(days=40))
    desk.ask("code")
    old = dict(vectors._vectors)
    with desk.store.transaction() as tx:
        tx.forget([id])
    index.sync(desk.store)
    desk.retriever._of(index).past.drop_forgotten(index)
    assert not len(vectors)
    assert old
    desk.ask("code")
    kept = desk.retriever._of(desk.indexes.get(desk.store, ANN)).now._vectors
    secret = WordVectors().encode(["[Ben]: qqzzxxkk\n[Ann]: Something else."])[0]
    assert any(np.allclose(vector, secret) for vector in old.values())
    assert not any(np.allclose(vector, secret) for vector in kept._vectors.values())


def test_nothing_forgotten_stays(desk: Desk) -> None:
    """The canary is in no object that the retriever keeps, and the embedder was told to forget what was made of it."""
    desk.fill()
    canary = "qqzzxxkk"
    ids = desk.say("secret", f"The code is {canary}.", "Keep it safe.", day=3)
    desk.ask("code")
    desk.ask("code", as_of=T0 + timedelta(days=5))
    assert not [text for text in desk.embedder.kept if canary in text]
    assert canary in _everything(desk.retriever)  # or this test could not fail
    with desk.store.transaction() as tx:
        tx.forget(ids)
    desk.ask("code")
    assert canary not in _everything(desk.retriever)
    assert all(canary not in (hit.cube.text + (hit.source.text if hit.source else "")) for hit in desk.ask("code", 50))


def test_dropping_the_indexes_drops_the_sessions(desk: Desk) -> None:
    desk.fill()
    desk.say("secret", "qqzzxxkk")
    desk.ask("boat")
    assert "qqzzxxkk" in _everything(desk.retriever)
    desk.indexes.drop(desk.store)
    gc.collect()
    assert len(desk.retriever._followed) == 0
    assert "qqzzxxkk" not in _everything(desk.retriever)


def _everything(retriever: GranularityRetriever) -> str:
    """All strings in the sessions a retriever follows."""
    found = []
    for followed in retriever._followed.values():
        for sessions in (followed.now, followed.past):
            memory = sessions._memory
            found += [repr(memory.ids), repr(vars(memory._words))]
    return "\n".join(found)


def test_what_was_superseded_stays_behind_what_replaced_it(desk: Desk) -> None:
    old = desk.say("old", "I keep my boat in Oslo harbour, the boat is red.", "The boat! The boat!", day=0)[0]
    new = desk.say("new", "Moved it to Bergen.", "Chess and bread.", day=1)[0]
    for number in range(4):
        desk.say(f"x{number}", "Nothing to say.", day=2)
    first = desk.fact("Ann keeps the boat in Oslo harbour.", old)
    second = desk.fact("Ann keeps it in Bergen.", new)
    with desk.store.transaction() as tx:
        tx.close(first, at=T0 + timedelta(days=1), by=second)
    hits = desk.ask("Where is the boat kept, in which harbour?", k=50)
    places = {hit.source.id: at for at, hit in enumerate(hits) if hit.source}
    stale = next(hit for hit in hits if hit.source and hit.source.id == old)
    assert stale.superseded_by == second
    assert places[new] < places[old]
    heir = next(hit for hit in hits if hit.source and hit.source.id == new)
    assert heir.parts["succession"] > 0
    assert heir.score - stale.score < 1e-5 or heir.score > stale.score


def test_names_of_sessions_hold_the_exact_scope() -> None:
    header = Header(scope=ANN, utterance=Utterance("s", 0, "Ann", "user"))
    one = MemCube(header, TextPayload("x"))
    other = MemCube(replace(header, scope=BEN), TextPayload("x"))
    assert session_name(one) != session_name(other)


def test_turns_stored_without_vectors_are_encoded(desk: Desk) -> None:
    cubes = [desk._turn(f"s{n}", text, 0, ANN, n) for n, text in enumerate(TOPICS.values())]
    with desk.store.transaction() as tx:
        tx.insert([Write(cube) for cube in cubes])
    scores = state(desk, FollowedSessions(SessionVectors(desk.embedder)), "sourdough bread")
    assert next(iter(scores)) == session_name(cubes[1])
    assert len(scores) == 4


def test_searches_in_threads_meet_writes_and_forgetting(desk: Desk) -> None:
    desk.fill(4)
    failures: list[BaseException] = []

    def search() -> None:
        try:
            for number in range(8):
                past = T0 + timedelta(days=number) if number % 2 else None
                assert len(desk.ids("boat and bread", k=3, as_of=past)) >= 1
        except BaseException as error:
            failures.append(error)
            raise

    threads = [threading.Thread(target=search) for _ in range(3)]
    for thread in threads:
        thread.start()
    for number in range(4):
        ids = desk.say(f"more{number}", "The boat again.", "And bread.", day=20 + number)
        with desk.store.transaction() as tx:
            tx.forget(ids[:1])
    for thread in threads:
        thread.join()
    assert not failures
    now = desk.retriever._of(desk.indexes.get(desk.store, ANN)).now
    assert state(desk, now) == state(desk, FollowedSessions(SessionVectors(desk.embedder)))


def test_behind_the_front_door_forgetting_leaves_nothing(tmp_path: Path) -> None:
    embedder = Keeping()
    with Memory(tmp_path / "m.db", embedder=embedder, settings=Settings(durable=False)) as memory:
        retriever = GranularityRetriever(memory.indexes, embedder)
        memory.pipeline = replace(memory.pipeline, retriever=retriever)
        for number, topic in enumerate(TOPICS.values()):
            at = T0 + timedelta(days=number)
            memory.add([{"role": "user", "content": f"{topic}."}], user_id="ann", timestamp=at)
        added = memory.add("The code word is qqzzxxkk.", user_id="ann", timestamp=T0 + timedelta(days=9))
        found = memory.search("What is the code word?", user_id="ann", explain=True)["results"]
        assert "qqzzxxkk" in found[0]["memory"]
        assert "qqzzxxkk" in _everything(retriever)
        for row in added["results"]:
            if memory.get(row["id"]) is not None:
                memory.forget(row["id"])
        gc.collect()
        assert "qqzzxxkk" not in _everything(retriever)
        assert not [text for text in embedder.kept if "qqzzxxkk" in text]
        assert "qqzzxxkk" not in str(memory.search("What is the code word?", user_id="ann"))


def test_forgetting_what_was_deleted_before_leaves_nothing(tmp_path: Path) -> None:
    """Deleting is a retraction: sessions follow at the next search. Forgetting waits for no search."""
    with Memory(tmp_path / "m.db", embedder=Keeping(), settings=Settings(durable=False), pipeline="memgas") as memory:
        retriever = memory.pipeline.retriever
        assert isinstance(retriever, GranularityRetriever)
        added = memory.add("The code word is qqzzxxkk.", user_id="ann", timestamp=T0)
        for when in (None, T0 + timedelta(days=1)):
            memory.search("code", filters={"user_id": "ann"}, as_of=when)
        assert "qqzzxxkk" in _everything(retriever)
        memory.delete_all(user_id="ann")
        for row in added["results"]:
            with suppress(NotFound):  # a fact goes with its turn
                memory.forget(row["id"])
        gc.collect()
        assert "qqzzxxkk" not in _everything(retriever)
        assert not [found for followed in retriever._followed.values() for found in followed.now._vectors._vectors]
