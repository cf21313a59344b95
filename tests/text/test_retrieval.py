"""The hybrid ranker: each signal does what it says, parts add up, filters and time apply before ranking."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from lamina.cube.cube import Claim, Header, MemCube, Provenance, Scope, Source, Utterance
from lamina.cube.payload import TextPayload
from lamina.store.analysis import terms
from lamina.store.base import Write
from lamina.store.index import IndexCache
from lamina.store.sqlite import SqliteStore
from lamina.text.base import Hit
from lamina.text.retrieval import HybridRetriever

T0 = datetime(2024, 1, 1, tzinfo=UTC)
ANN = Scope(user="ann")


class Bag:
    """A real, if modest, embedder: words hashed to random directions, summed."""

    name, dimension = "bag", 64

    def __init__(self) -> None:
        self.asked: list[str] = []

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.asked += texts
        rows = [sum((self._word(word) for word in terms(text)), np.full(64, 1e-3)) for text in texts]
        return np.stack([(row / np.linalg.norm(row)).astype(np.float32) for row in rows])

    def forget(self, texts: Iterable[str]) -> None:
        """Keeps nothing."""

    def _word(self, word: str) -> NDArray[np.float64]:
        return np.random.default_rng(list(word.encode())).standard_normal(64)


class Desk:
    """A store with one user's dialogue, and questions to it."""

    def __init__(self, store: SqliteStore) -> None:
        self.store, self.bag, self.indexes = store, Bag(), IndexCache()
        self.retriever = HybridRetriever(self.indexes, self.bag)

    def put(self, *cubes: MemCube) -> None:
        vectors = self.bag.encode([cube.text for cube in cubes])
        with self.store.transaction() as tx:
            tx.insert([Write(cube, vector) for cube, vector in zip(cubes, vectors, strict=True)])

    def ask(self, query: str, k: int = 5, **how: Any) -> list[Hit]:
        vector = self.bag.encode([query])[0]
        return self.retriever.search(query, vector, self.store, ANN, k=k, **how)

    def ids(self, query: str, k: int = 5, **how: Any) -> list[str]:
        return [hit.cube.id for hit in self.ask(query, k, **how)]


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with SqliteStore(tmp_path / "m.db", durable=False) as store:
        yield Desk(store)


def turn(id: str, text: str, *, n: int = 0, session: str | None = None, speaker: str = "Ann", days: int = 0) -> MemCube:
    header = Header(
        id=id,
        semantic_type="turn",
        scope=ANN,
        recorded=T0 + timedelta(days=days),
        utterance=Utterance(session or id, n, speaker, "user"),
    )
    return MemCube(header, TextPayload(text))


def fact(id: str, source: str, text: str, *, days: int = 0, **header: Any) -> MemCube:
    made = Header(
        id=id,
        scope=ANN,
        recorded=T0 + timedelta(days=days),
        provenance=Provenance((Source(source, 0, 1),), "rules"),
        claim=Claim("Ann"),
        **header,
    )
    return MemCube(made, TextPayload(text))


def note(id: str, text: str, **header: Any) -> MemCube:
    return MemCube(Header(id=id, scope=ANN, recorded=T0, **header), TextPayload(text))


PARTS = {"dense", "lexical", "speaker", "period", "question", "stated", "session"}


def test_finds_by_word_and_explains_itself(desk: Desk) -> None:
    desk.put(
        turn("cats", "My cat chases red balloons", n=0, session="s"),
        turn("dogs", "A dog sleeps all day long?", n=1, session="s", speaker="Bob"),
        note("trains", "Trains leave at noon"),
    )
    for query in ("Which cat chases balloons?", "What did Bob say on 1 January 2024 about the dog?", "trains"):
        for hit in desk.ask(query):
            assert hit.score == sum(hit.parts.values())
            assert set(hit.parts) <= PARTS
            assert hit.cosine == hit.parts.get("dense", 0.0)
    assert desk.ids("Which cat chases balloons?")[0] == "cats"
    best = desk.ask("trains")[0]
    assert best.cube.id == "trains" and best.source is None and best.lexical == 0.5
    assert "session" not in best.parts  # a note is part of no conversation
    assert desk.ask("cat")[0].source == desk.store.get("cats")


def test_a_turn_is_understood_with_its_neighbours(desk: Desk) -> None:
    desk.put(
        turn("asks", "Which instrument do you play?", n=0, session="a", speaker="Bob"),
        turn("answer", "Clarinet, since childhood", n=1, session="a"),
        turn("alone", "Clarinet, since childhood", n=0, session="b"),
    )
    hits = {hit.cube.id: hit for hit in desk.ask("Which instrument does she play?")}
    assert hits["answer"].parts["lexical"] > 0 and "lexical" not in hits["alone"].parts
    assert hits["answer"].cosine > hits["alone"].cosine


def test_a_named_speaker_selects_turns_and_leaves_the_vector(desk: Desk) -> None:
    desk.put(turn("mine", "I adopted a parrot"), turn("yours", "Bob, I adopted a parrot", speaker="Cleo"))
    desk.put(turn("bobs", "I adopted a parrot", speaker="Bob"))
    hits = desk.ask("Why did Bob adopt a parrot?")
    assert hits[0].cube.id == "bobs" and hits[0].parts["speaker"] == 0.25
    assert all("speaker" not in hit.parts for hit in hits[1:])
    assert desk.bag.asked[-1] == "Why did adopt a parrot?"
    plain = HybridRetriever(desk.indexes).search(
        "Why did Bob adopt a parrot?", desk.bag.encode(["parrot"])[0], desk.store, ANN, k=3
    )
    assert plain[0].cube.id == "bobs"  # works, less well, without an embedder


def test_a_period_favours_what_was_told_then_or_is_about_then(desk: Desk) -> None:
    desk.put(
        turn("january", "We repaired the old boat", days=3),
        turn("march", "We repaired the old boat", days=62),
        turn("later", "A word about the boat", days=200),
        fact("about", "later", "The boat was repaired", days=200, valid_from=T0 + timedelta(days=70)),
    )
    assert desk.ids("Who repaired the old boat in January 2024?")[0] == "january"
    march = desk.ask("Who repaired the boat in March 2024?")
    assert {hit.cube.id for hit in march if hit.parts.get("period")} == {"march"}
    only = desk.ask("Who repaired the boat in March 2024?", allow=desk.store.keys(ANN, {"semantic_type": "fact"}))
    assert [(hit.cube.id, hit.parts["period"]) for hit in only] == [("about", 0.25)]
    february = desk.ask("Who repaired the boat in February 2024?")  # told within a week of it
    assert {hit.cube.id for hit in february if hit.parts.get("period")} == {"march"}
    week = desk.ask("Who repaired the boat last week?", reference=T0 + timedelta(days=10))
    assert {hit.cube.id for hit in week if hit.parts.get("period")} == {"january"}


def test_asking_is_not_telling(desk: Desk) -> None:
    desk.put(turn("asks", "The museum in Oslo?"), turn("tells", "The museum in Oslo."))
    desk.put(turn("captioned", "The museum in Oslo? [shares an image: a ship]"))
    hits = {hit.cube.id: hit.parts for hit in desk.ask("museum Oslo")}
    assert hits["asks"]["question"] == hits["captioned"]["question"] == -0.1
    assert "question" not in hits["tells"]


def test_a_turn_and_its_facts_are_one_hit(desk: Desk) -> None:
    desk.put(turn("t", "Well, so I moved there, and I like tea"))
    desk.put(fact("moved", "t", "Ann moved to Lisbon"), fact("tea", "t", "Ann likes tea"), note("n", "unrelated"))
    hits = desk.ask("moved Lisbon")
    assert [hit.cube.id for hit in hits] == ["moved", "n"]
    assert hits[0].source is not None and hits[0].source.id == "t"
    assert [cube.id for cube in hits[0].facts] == ["tea"]
    assert hits[0].parts["stated"] == 0.05 and "stated" not in hits[1].parts


def test_what_only_a_fact_says_counts_for_its_turn(desk: Desk) -> None:
    """The turn ranks, by what it says; whether the hit has to do with the question, any open memory of it may tell."""
    desk.put(turn("t", "Well, so I went there for good"), turn("other", "The kettle sings"))
    desk.put(fact("moved", "t", "Ann emigrated to Lisbon"), fact("gone", "t", "Zorro", valid_to=T0))
    (hit,) = [hit for hit in desk.ask("Lisbon") if hit.source and hit.source.id == "t"]
    assert hit.lexical == 0.0 and hit.most("lexical") == 0.5 and hit.most("dense") > 0.5 > hit.cosine
    (hit,) = [hit for hit in desk.ask("Zorro") if hit.source and hit.source.id == "t"]
    assert hit.most("lexical") == 0.0  # what no longer holds answers nothing
    assert all(hit.most(part) >= value for part, value in hit.parts.items())
    assert Hit(desk.store.load([1])[0], 1.0, {"dense": 0.3}).most("dense") == 0.3  # of a retriever that says no more


def test_every_group_is_found_when_k_allows(desk: Desk) -> None:
    desk.put(*(turn(f"t{n:03}", f"words number {n}", n=n, session="s") for n in range(300)))
    assert len(set(desk.ids("something else", k=280))) == 280
    assert len(desk.ids("words", k=1_000)) == 300
    assert desk.ids("words", k=10) == desk.ids("words", k=300)[:10]


def test_ties_are_broken_by_key(desk: Desk) -> None:
    desk.put(*(note(f"n{n}", "the same words") for n in range(9)))
    assert desk.ids("same words", k=9) == [f"n{n}" for n in range(9)]


def test_a_filter_applies_before_ranking(desk: Desk) -> None:
    desk.put(*(note(f"n{n}", "violin lesson", metadata={"topic": "a"}) for n in range(400)))
    desk.put(note("one", "a lesson", metadata={"topic": "b"}), note("two", "else", metadata={"topic": "b"}))
    allow = desk.store.keys(ANN, {"topic": "b"})
    assert desk.ids("violin lesson", allow=allow) == ["one", "two"]
    assert desk.ids("violin lesson", allow=allow[:0]) == []


def supersede(desk: Desk) -> None:
    desk.put(turn("old-turn", "I live in Boston now", days=0), fact("old", "old-turn", "Ann lives in Boston"))
    desk.put(turn("new-turn", "I went to Denver for good", days=30))
    desk.put(fact("new", "new-turn", "Ann is at home in Denver", days=30))
    with desk.store.transaction() as tx:
        tx.close("old", at=T0 + timedelta(days=30), by="new", valid_to=T0 + timedelta(days=30), action="supersede")


def test_the_successor_comes_before_what_it_superseded(desk: Desk) -> None:
    supersede(desk)
    hits = desk.ask("Is it true that Ann lives in Boston?")
    assert [hit.cube.id for hit in hits][:2] == ["new", "old-turn"]  # the closed fact itself is never returned
    assert hits[1].superseded_by == "new" and hits[0].superseded_by is None
    assert hits[0].parts["succession"] > 0 and hits[0].score > hits[1].score
    assert all(hit.score == sum(hit.parts.values()) for hit in hits)
    assert "old" not in {cube.id for hit in hits for cube in hit.facts}


def test_a_chain_of_successors_leads_to_the_last(desk: Desk) -> None:
    supersede(desk)
    desk.put(turn("last-turn", "Hello from Oslo", days=60), fact("last", "last-turn", "Home: Oslo", days=60))
    with desk.store.transaction() as tx:
        tx.close("new", at=T0 + timedelta(days=60), by="last", action="supersede")
    hits = desk.ask("Is it true that Ann lives in Boston?")
    assert hits[0].cube.id in ("last", "last-turn") and hits[0].source is not None
    assert {hit.source.id: hit.superseded_by for hit in hits if hit.source} == {
        "last-turn": None,
        "old-turn": "last",
        "new-turn": "last",
    }


def test_a_turn_profits_from_its_session(desk: Desk) -> None:
    desk.put(
        turn("asks", "Which instrument do you play?", n=0, session="a", speaker="Bob"),
        turn("answer", "Clarinet, since childhood", n=1, session="a"),
        turn("other", "Clarinet, since childhood", n=0, session="b"),
    )
    hits = {hit.cube.id: hit for hit in desk.ask("Which instrument does Ann play?")}
    base = {id: hit.score - hit.parts["session"] for id, hit in hits.items()}
    for session in (("asks", "answer"), ("other",)):
        for id in session:
            assert hits[id].parts["session"] == pytest.approx(0.2 * max(base[one] for one in session))


def test_a_hidden_turn_lends_its_session_nothing(desk: Desk) -> None:
    desk.put(
        turn("best", "The clarinet is my instrument", n=0, session="a"),
        turn("rest", "It is an old one", n=1, session="a"),
    )
    with desk.store.transaction() as tx:
        tx.close("best", at=T0 + timedelta(days=1))
    (hit,) = desk.ask("clarinet instrument old")
    base = sum(part for name, part in hit.parts.items() if name != "session")
    assert hit.parts["session"] == pytest.approx(0.2 * base)


def test_as_of_asks_the_past(desk: Desk) -> None:
    supersede(desk)
    before = desk.ask("Ann lives in Boston", as_of=T0 + timedelta(days=10))
    assert [hit.source.id for hit in before if hit.source] == ["old-turn"] and before[0].superseded_by is None
    assert "old" in {cube.id for hit in before for cube in (hit.cube, *hit.facts)}
    after = desk.ids("Ann lives in Boston", as_of=T0 + timedelta(days=31))
    assert "old" not in after and len(after) == 2
    assert desk.ids("Boston", as_of=T0 - timedelta(days=1)) == []


def test_expired_memories_are_not_found_but_future_ones_are(desk: Desk) -> None:
    desk.put(note("gone", "umbrella", expires=T0), note("soon", "umbrella"), turn("ahead", "umbrella", days=10**5))
    assert set(desk.ids("umbrella")) == {"soon", "ahead"}


def test_revised_turn_shows_its_newest_version(desk: Desk) -> None:
    first = turn("t", "I play the harp")
    desk.put(first)
    second = MemCube(Header(**{**_fields(first), "version": 2}), TextPayload("I play the lute"))
    with desk.store.transaction() as tx:
        tx.revise(Write(second, desk.bag.encode([second.text])[0]), expect=1)
    (hit,) = desk.ask("who plays the harp")
    assert hit.cube.text == "I play the lute" and hit.source == hit.cube


def _fields(cube: MemCube) -> dict[str, Any]:
    return {name: getattr(cube.header, name) for name in ("id", "semantic_type", "scope", "recorded", "utterance")}


def test_nothing_stored_nothing_found(desk: Desk) -> None:
    assert desk.ask("anything") == []


def test_forgotten_between_ranking_and_loading(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.put(note("stays", "green tea"), note("goes", "green tea"))
    load = desk.store.load

    def slow(keys: Sequence[int]) -> list[MemCube]:
        monkeypatch.setattr(desk.store, "load", load)
        with desk.store.transaction() as tx:  # another thread is faster
            tx.forget(["goes"])
        return load(keys)

    monkeypatch.setattr(desk.store, "load", slow)
    assert desk.ids("green tea") == ["stays"]
