"""The front door, as a user walks through it: real database, real embedder, mem0's shapes and rules."""

from __future__ import annotations

import asyncio
import inspect
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lamina import AsyncMemory, LaminaError, Memory, Scope
from lamina.cube.cube import Header, Lineage, MemCube
from lamina.cube.payload import Fingerprint, TensorPayload
from lamina.errors import Conflict, InvalidInput, MissingDependency, NotFound
from lamina.llm.base import Embedder
from lamina.store.base import Write

ALICE = {"user_id": "alice"}


def _facts(result: dict[str, Any]) -> list[dict[str, Any]]:
    return [row for row in result["results"] if row["semantic_type"] != "turn"]


def _found(memory: Memory, query: str, **options: Any) -> list[str]:
    return [row["memory"] for row in memory.search(query, filters=ALICE, **options)["results"]]


# -- adding and finding ------------------------------------------------------------------------------


def test_what_was_said_is_found_with_its_source(memory: Memory) -> None:
    memory.add("I work as a nurse at a children's hospital.", user_id="alice", timestamp="2026-03-01T10:00:00Z")
    memory.add("The weather has been awful lately.", user_id="alice", timestamp="2026-03-02T10:00:00Z")
    best = memory.search("What is Alice's job?", filters=ALICE)["results"][0]
    assert "nurse" in best["memory"]
    assert best["source"]["text"] == "I work as a nurse at a children's hospital."
    assert best["source"]["timestamp"].startswith("2026-03-01T10:00:00")
    assert best["user_id"] == "alice"


def test_explain_parts_sum_to_the_score(memory: Memory) -> None:
    memory.add([{"role": "user", "content": "I adopted a cat called Miso."}], user_id="alice")
    for row in memory.search("What is the cat called?", filters=ALICE, explain=True)["results"]:
        assert sum(row["score_details"].values()) == pytest.approx(row["score"], abs=1e-6)


def test_infer_false_keeps_each_message_and_nothing_else(memory: Memory) -> None:
    messages = [
        {"role": "system", "content": "You are helpful."},
        {"role": "user", "content": "I live in Boston.", "name": "Alice"},
        {"role": "assistant", "content": "Noted."},
    ]
    rows = memory.add(messages, user_id="alice", infer=False)["results"]
    assert [(row["memory"], row["role"]) for row in rows] == [("I live in Boston.", "user"), ("Noted.", "assistant")]
    assert rows[0]["actor_id"] == "Alice"


def test_a_new_address_supersedes_the_old_one(memory: Memory) -> None:
    memory.add("I live in Boston.", user_id="alice", timestamp="2026-01-05")
    changed = memory.add("I moved to Denver.", user_id="alice", timestamp="2026-06-07")
    update = next(row for row in changed["results"] if row["event"] == "UPDATE")
    assert "Boston" in update["previous_memory"]
    assert update["reason"]
    found = _found(memory, "Where does Alice live?")
    assert "Denver" in found[0]
    stale = [i for i, text in enumerate(found) if "Boston" in text]
    current = next(i for i, text in enumerate(found) if "Denver" in text)
    assert all(i > current for i in stale)


def test_as_of_answers_from_the_past(memory: Memory) -> None:
    memory.add("I live in Boston.", user_id="alice", timestamp="2026-01-05")
    memory.add("I moved to Denver.", user_id="alice", timestamp="2026-06-07")
    then = _found(memory, "Where does Alice live?", as_of="2026-03-01")
    assert "Boston" in then[0]
    assert not any("Denver" in text for text in then)
    assert _found(memory, "Where does Alice live?", as_of="2025-01-01") == []


def test_a_late_arrival_does_not_overwrite_newer_knowledge(memory: Memory) -> None:
    memory.add("I moved to Denver.", user_id="alice", timestamp="2026-06-07")
    memory.add("I live in Boston.", user_id="alice", timestamp="2026-01-05")
    assert "Denver" in _found(memory, "Where does Alice live?")[0]


def test_saying_it_twice_stores_one_fact(memory: Memory) -> None:
    first = memory.add("I am allergic to peanuts.", user_id="alice", timestamp="2026-01-05")
    second = memory.add("I am allergic to peanuts.", user_id="alice", timestamp="2026-01-06")
    assert [row["event"] for row in _facts(second)] == ["NONE"]
    assert _facts(second)[0]["id"] == _facts(first)[0]["id"]
    listed = memory.get_all(filters=ALICE | {"semantic_type": {"ne": "turn"}})["results"]
    assert len(listed) == 1


def test_batch_equals_one_by_one(tmp_path: Path, minilm: Embedder) -> None:
    said = [("I live in Boston.", "2026-01-05"), ("I have a dog.", "2026-01-06"), ("I moved to Denver.", "2026-06-07")]
    with Memory(tmp_path / "a.db", embedder=minilm) as one, Memory(tmp_path / "b.db", embedder=minilm) as many:
        for text, at in said:
            one.add(text, user_id="alice", timestamp=at)
        many.add_batch([{"messages": text, "user_id": "alice", "timestamp": at} for text, at in said])
        answers = [_found(m, "Where does Alice live?") for m in (one, many)]
        assert answers[0] == answers[1]
        views = [sorted(r["memory"] for r in m.get_all(filters=ALICE)["results"]) for m in (one, many)]
        assert views[0] == views[1]


def test_metadata_filters(memory: Memory) -> None:
    memory.add("Budget is 5000 euros.", user_id="alice", metadata={"project": "kitchen", "n": 1})
    memory.add("Budget is 900 euros.", user_id="alice", metadata={"project": "garden", "n": 2})
    rows = memory.search("budget", filters=ALICE | {"project": "garden"})["results"]
    assert rows and all(row["metadata"]["project"] == "garden" for row in rows)
    rows = memory.search("budget", filters=ALICE | {"OR": [{"n": {"gt": 1}}, {"project": {"in": ["x"]}}]})["results"]
    assert rows and all(row["metadata"]["n"] == 2 for row in rows)


def test_owners_do_not_see_each_other(memory: Memory) -> None:
    memory.add("My code word is heron.", user_id="alice")
    memory.add("My code word is osprey.", user_id="bob")
    assert all("osprey" not in text for text in _found(memory, "code word"))
    bob = memory.search("code word", filters={"user_id": "bob"})["results"]
    assert bob and all("heron" not in row["memory"] for row in bob)


def test_expired_memories_are_not_found(memory: Memory) -> None:
    memory.add("The door code is 4711.", user_id="alice", expiration_date="2020-01-01", timestamp="2019-12-01")
    assert _found(memory, "door code") == []


def test_mem0_1x_top_level_ids_still_work(memory: Memory) -> None:
    memory.add("I play the cello.", user_id="alice")
    with pytest.warns(DeprecationWarning, match="user_id"):
        assert memory.search("instrument", user_id="alice")["results"]


# -- changing and taking back ------------------------------------------------------------------------


def test_update_history_and_optimistic_versions(memory: Memory) -> None:
    id = memory.add("My bike is red.", user_id="alice", infer=False)["results"][0]["id"]
    assert memory.update(id, "My bike is blue.")["version"] == 2
    rows = memory.history(id)
    assert [(r["event"], r["old_memory"], r["new_memory"]) for r in rows] == [
        ("ADD", None, "My bike is red."),
        ("UPDATE", "My bike is red.", "My bike is blue."),
    ]
    assert "blue" in _found(memory, "What colour is the bike?")[0]


def test_correcting_a_fact_retires_its_wording(memory: Memory) -> None:
    added = memory.add("I live in Boston.", user_id="alice")
    memory.update(_facts(added)[0]["id"], "Alice lives in Bolton.")
    found = _found(memory, "Where does Alice live?")
    assert "Bolton" in found[0] and not any("Boston" in text for text in found)


@pytest.mark.parametrize("which", ["fact", "turn"])
def test_delete_hides_the_fact_and_its_turn_but_keeps_history(memory: Memory, which: str) -> None:
    rows = memory.add("My landlord is called Mr Okafor.", user_id="alice")["results"]
    target = next(row for row in rows if (row["semantic_type"] == "turn") == (which == "turn"))
    memory.delete(target["id"])
    assert _found(memory, "landlord") == []
    assert memory.history(target["id"])[-1]["event"] == "DELETE"
    assert memory.history(target["id"])[-1]["is_deleted"]
    assert memory.get(target["id"])["memory"]  # still there for history


@pytest.mark.parametrize("which", ["turn", "fact"])
def test_a_deletion_can_be_undone(memory: Memory, which: str) -> None:
    rows = memory.add("My landlord is called Mr Okafor.", user_id="alice", timestamp="2024-05-01")["results"]
    (before,) = memory.search("landlord", filters={"user_id": "alice"})["results"]
    target = next(row for row in rows if (row["semantic_type"] == "turn") == (which == "turn"))
    memory.delete(target["id"])
    assert _found(memory, "landlord") == []
    assert set(memory.restore(target["id"])["restored"]) == {row["id"] for row in rows}
    (after,) = memory.search("landlord", filters={"user_id": "alice"})["results"]
    assert after.pop("score") == pytest.approx(before.pop("score"))
    assert after == before
    assert [row["action"] for row in memory.history(target["id"])][-2:] == ["delete", "restore"]
    with pytest.raises(LaminaError, match="nothing to restore"):
        memory.restore(target["id"])


def test_a_wrong_supersession_can_be_undone(memory: Memory) -> None:
    memory.add("I live in Boston.", user_id="alice", timestamp="2024-05-01")
    moved = memory.add("I moved to Denver.", user_id="alice", timestamp="2024-06-01")["results"][-1]
    assert moved["event"] == "UPDATE"
    page = memory.store.query(Scope("default", user="alice"), {"semantic_type": "fact"}, closed=True).cubes
    old = next(cube for cube in page if "Boston" in cube.text)
    memory.restore(old.id)
    memory.delete(moved["id"])
    assert "Boston" in _found(memory, "Where does Alice live?")[0]
    restored = memory.store.get(old.id)
    assert restored is not None and restored.header.valid_to is None


def test_what_was_forgotten_cannot_be_restored(memory: Memory) -> None:
    id = memory.add("My code is 4711.", user_id="alice")["results"][0]["id"]
    memory.forget(id)
    with pytest.raises(LaminaError, match="no such memory"):
        memory.restore(id)


def test_delete_all_needs_an_owner_and_spares_the_others(memory: Memory) -> None:
    memory.add("I like tea.", user_id="alice")
    memory.add("I like coffee.", user_id="bob")
    with pytest.raises(InvalidInput, match="user_id"):
        memory.delete_all()
    assert memory.delete_all(user_id="alice")["deleted"] >= 1
    assert _found(memory, "drink") == []
    assert memory.search("drink", filters={"user_id": "bob"})["results"]


def test_forget_leaves_no_byte(tmp_path: Path, minilm: Embedder) -> None:
    canary = "qxzj7canary93vbnmklptrwq81hgfdsa"  # lower case, as indexes store words
    with Memory(tmp_path / "m.db", embedder=minilm) as memory:
        for day in range(1, 4):
            memory.add(f"I have a meeting number {day}.", user_id="alice", timestamp=f"2026-01-0{day}")
        rows = memory.add(f"My secret phrase is {canary}.", user_id="alice")["results"]
        memory.add(f"I repeat, my secret phrase is {canary}.", user_id="alice")
        for row in memory.search("secret phrase", filters=ALICE)["results"]:
            if canary in row["memory"] or canary in row.get("source", {}).get("text", ""):
                memory.forget(row["id"])
        assert memory.get(rows[0]["id"]) is None
        assert not any(canary in text for text in _found(memory, "secret phrase"))
        files = [path for path in tmp_path.rglob("*") if path.is_file()]
        assert files and not [path for path in files if canary.encode() in path.read_bytes()]
        assert memory.store.verify() == []
        actions = [event.action for event in memory.store.events()]
        assert "forget" in actions  # the log keeps that it happened, not what it was


def test_reset_erases_everything(memory: Memory) -> None:
    memory.add("I like tea.", user_id="alice")
    memory.reset()
    assert memory.get_all(filters=ALICE)["results"] == []
    memory.add("I like coffee.", user_id="alice")
    assert _found(memory, "drink")


def test_update_of_a_turn_retires_what_was_taken_from_it(memory: Memory) -> None:
    turn = memory.add("I live in Boston.", user_id="alice")["results"][0]
    memory.update(turn["id"], "I live in Bolton.")
    rows = memory.search("Where does Alice live?", filters=ALICE)["results"]
    assert rows and not [row for row in rows if "Boston" in row["memory"] + row["source"]["text"]]


def test_a_retired_turn_is_nobodys_source(memory: Memory) -> None:
    added = memory.add("I live in Boston and I work at Google.", user_id="alice")
    home = next(row for row in _facts(added) if "Boston" in row["memory"])
    memory.update(home["id"], "Alice lives in Bolton.")
    rows = memory.search("Where does Alice live?", filters=ALICE)["results"]
    assert "Bolton" in rows[0]["memory"]
    assert not [row for row in rows if "Boston" in row["memory"] + row.get("source", {}).get("text", "")]
    assert "Google" in _found(memory, "Where does Alice work?")[0]  # the sibling stays


def test_a_deleted_memory_cannot_be_updated(memory: Memory) -> None:
    id = memory.add("My bike is red.", user_id="alice", infer=False)["results"][0]["id"]
    memory.delete(id)
    with pytest.raises(LaminaError, match="deleted"):
        memory.update(id, "My bike is blue.")
    with pytest.raises(LaminaError, match="closed"):
        memory.delete(id)


def test_dates_of_a_memory_do_not_move(memory: Memory) -> None:
    added = memory.add("My bike is red.", user_id="alice", infer=False, timestamp="2020-01-01", metadata={"v": 1})
    id = added["results"][0]["id"]
    memory.update(id, metadata={"v": 2})
    row = memory.get(id)
    assert row is not None and row["created_at"].startswith("2020-01-01") and row["updated_at"] is None
    memory.update(id, "My bike is blue.")
    row = memory.get(id)
    assert row is not None and row["created_at"].startswith("2020-01-01")
    assert row["updated_at"].startswith(str(datetime.now(UTC).year))
    past = memory.get_all(filters=ALICE, as_of="2021-01-01")["results"]
    assert [(r["memory"], r["metadata"]) for r in past] == [("My bike is red.", {"v": 2})]


def test_delete_all_takes_expired_memories_too(memory: Memory) -> None:
    added = memory.add("The code is 4711.", user_id="alice", infer=False, expiration_date="2020-01-01")
    assert memory.delete_all(user_id="alice")["deleted"] == 1
    with pytest.raises(LaminaError):
        memory.update(added["results"][0]["id"], expiration_date=None)


def test_a_wider_scope_changes_nobodys_facts(memory: Memory) -> None:
    def said(text: str) -> list[dict[str, str]]:
        return [{"role": "user", "name": "Sam", "content": text}]

    memory.add(said("I live in Boston."), user_id="u1", agent_id="bot")
    memory.add(said("I play the guitar."), user_id="u2", agent_id="bot")
    wide = memory.add(said("I live in Denver. I play the guitar."), agent_id="bot")
    assert {row["event"] for row in wide["results"]} == {"ADD"}
    for user, word in (("u1", "Boston"), ("u2", "guitar")):
        kept = memory.get_all(filters={"user_id": user, "semantic_type": {"ne": "turn"}})["results"]
        assert [word in row["memory"] for row in kept] == [True]


def test_an_unset_owner_is_no_owner(memory: Memory) -> None:
    memory.add("The PIN is 1234.", agent_id="bank")
    with pytest.raises(InvalidInput, match="user_id"):
        memory.search("PIN", filters={"user_id": None})


def test_saying_it_again_for_good_lifts_the_expiry(memory: Memory) -> None:
    memory.add("I am allergic to peanuts.", user_id="alice", expiration_date="2099-01-01", metadata={"a": 1})
    memory.add("I am allergic to peanuts.", user_id="alice", metadata={"b": 2})
    (fact,) = memory.get_all(filters=ALICE | {"semantic_type": {"ne": "turn"}})["results"]
    assert "expires" not in fact and fact["metadata"] == {"a": 1, "b": 2}


def test_forgetting_reaches_the_process_too(memory: Memory) -> None:
    row = memory.add("My secret word is quxcanary.", user_id="alice", infer=False)["results"][0]
    memory.forget(row["id"])
    assert "quxcanary" not in repr(memory._sessions._places)


# -- wrong input -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda m: m.add("hello"), "user_id"),
        (lambda m: m.add("", user_id="a"), "empty"),
        (lambda m: m.add("   ", user_id="a"), "empty"),
        (lambda m: m.add(7, user_id="a"), "messages"),
        (lambda m: m.add([{"role": "user"}], user_id="a"), "content"),
        (lambda m: m.add([{"role": "king", "content": "x"}], user_id="a"), "role"),
        (lambda m: m.add("a\0b", user_id="a"), "NUL"),
        (lambda m: m.add("a\ud800b", user_id="a"), "surrogate"),
        (lambda m: m.add("x" * 10_000_000, user_id="a"), "split it"),
        (lambda m: m.add("x", user_id="a b"), "white space"),
        (lambda m: m.add("x", user_id=""), "user_id"),
        (lambda m: m.add("x", user_id="a", timestamp="yesterday"), "timestamp"),
        (lambda m: m.add("x", user_id="a", metadata=[1]), "metadata"),
        (lambda m: m.add("x", user_id="a", metadata={"f": float("nan")}), "JSON"),
        (lambda m: m.add("x", user_id="a", metadata={"f": object()}), "JSON"),
        (lambda m: m.add("x", user_id="a", infer="no"), "infer"),
        (lambda m: m.add_batch([{"text": "x"}]), "items"),
        (lambda m: m.search("", filters=ALICE), "query"),
        (lambda m: m.search("x"), "user_id"),
        (lambda m: m.search("x", filters="alice"), "filters"),
        (lambda m: m.search("x", filters=ALICE | {"n": {"near": 3}}), "near"),
        (lambda m: m.search("x", filters=ALICE, top_k=0), "top_k"),
        (lambda m: m.search("x", filters=ALICE, threshold=2), "threshold"),
        (lambda m: m.search("x", filters=ALICE, as_of="then"), "as_of"),
        (lambda m: m.get_all(filters=ALICE, cursor="zzz"), "cursor"),
        (lambda m: m.update("nope", "x"), "nope"),
        (lambda m: m.update("nope"), "nothing to change"),
        (lambda m: m.add("x", user_id="*"), "everybody"),
        (lambda m: m.delete("nope"), "nope"),
        (lambda m: m.forget("nope"), "nope"),
        (lambda m: m.history("nope"), "nope"),
    ],
)
def test_bad_input_gets_one_clear_error_and_stores_nothing(memory: Memory, call: Any, says: str) -> None:
    with pytest.raises(LaminaError) as caught:
        call(memory)
    assert says.lower() in str(caught.value).lower()
    assert memory.store.stats()["versions"] == 0


def test_a_bad_item_stores_nothing_of_its_batch(memory: Memory) -> None:
    with pytest.raises(InvalidInput):
        memory.add_batch([{"messages": "fine", "user_id": "a"}, {"messages": "", "user_id": "a"}])
    assert memory.store.stats()["versions"] == 0


def test_unknown_ids_are_value_errors_as_in_mem0(memory: Memory) -> None:
    with pytest.raises(ValueError, match="no such memory"):
        memory.delete("nope")
    assert issubclass(NotFound, ValueError)


def test_a_missing_model_package_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name, package=None: None)
    with Memory(tmp_path / "m.db") as memory, pytest.raises(MissingDependency, match="pip install"):
        memory.add("x", user_id="a")


# -- many at once ------------------------------------------------------------------------------------


def test_threads_lose_nothing(memory: Memory) -> None:
    errors: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for i in range(5):
                memory.add(f"Thread {number} wrote note {i}.", user_id=f"user{number % 3}", infer=False)
                memory.search("note", filters={"user_id": f"user{number % 3}"})
        except BaseException as error:
            errors.append(error)
            raise

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    kept = {
        r["memory"] for u in range(3) for r in memory.get_all(filters={"user_id": f"user{u}"}, top_k=100)["results"]
    }
    assert kept == {f"Thread {n} wrote note {i}." for n in range(8) for i in range(5)}
    assert memory.store.verify() == []


def test_threads_with_facts_deletes_and_forgets(memory: Memory) -> None:
    """Races may lose a turn to another thread's wipe, never more, and never leave the store unsound."""
    unexpected: list[BaseException] = []

    def work(number: int) -> None:
        for i in range(4):
            try:
                rows = memory.add(f"I live in Town{number}{i}. I like game{i}.", user_id="crowd")["results"]
                memory.search("Where do I live?", filters={"user_id": "crowd"})
                if i == 1:
                    memory.forget(rows[0]["id"])
                elif i == 2:
                    memory.delete_all(user_id="crowd")
                elif i == 3:
                    memory.delete(rows[0]["id"])
            except (Conflict, NotFound):
                pass  # another thread was faster, and this one was told so
            except BaseException as error:
                unexpected.append(error)
                raise

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not unexpected
    assert memory.store.verify() == []


def test_async_has_every_verb_and_works(tmp_path: Path, minilm: Embedder) -> None:
    verbs = {n for n, f in inspect.getmembers(Memory, inspect.isfunction) if not n.startswith("_")}
    assert verbs <= set(dir(AsyncMemory))

    async def session() -> list[dict[str, Any]]:
        async with AsyncMemory(tmp_path / "m.db", embedder=minilm) as memory:
            await asyncio.gather(*(memory.add(f"I own {n} bikes.", user_id=f"u{n}") for n in range(4)))
            found = await memory.search("bikes", filters={"user_id": "u3"})
            return list(found["results"])

    assert "3 bikes" in asyncio.run(session())[0]["memory"]


def test_two_processes_share_one_file(tmp_path: Path, minilm: Embedder) -> None:
    with Memory(tmp_path / "m.db", embedder=minilm) as one, Memory(tmp_path / "m.db", embedder=minilm) as two:
        one.add("I play the oboe.", user_id="alice")
        assert "oboe" in two.search("instrument", filters=ALICE)["results"][0]["memory"]
        two.add("I sold the oboe and bought a harp.", user_id="alice")
        assert "harp" in one.search("instrument", filters=ALICE)["results"][0]["source"]["text"]


def test_sessions_and_order_survive_a_restart(tmp_path: Path, minilm: Embedder) -> None:
    at = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)
    with Memory(tmp_path / "m.db", embedder=minilm) as memory:
        memory.add("Which film shall we see?", user_id="alice", timestamp=at, infer=False)
    with Memory(tmp_path / "m.db", embedder=minilm) as memory:
        memory.add("The one about bees.", user_id="alice", timestamp=at.replace(minute=1), infer=False)
        memory.add("Good morning.", user_id="alice", timestamp=at.replace(day=6), infer=False)
        page = memory.store.query(_scope(), newest_first=False)
        places = [(c.header.utterance.session, c.header.utterance.ordinal) for c in page.cubes if c.header.utterance]
        assert places[0][0] == places[1][0] != places[2][0]
        assert [ordinal for _, ordinal in places] == [0, 1, 0]


def _scope() -> Any:
    return Scope(user="alice")


def test_caches_and_adapters_are_no_memories_to_list_and_are_not_read_by_search(
    tmp_path: Path, minilm: Embedder
) -> None:
    with Memory(tmp_path / "m.db", embedder=minilm) as memory:
        (row,) = memory.add("I live in Porto.", user_id="alice", infer=False)["results"]
        header = Header(kind="activation", scope=Scope(user="alice"), lineage=Lineage(((row["id"], 1),), "prefill"))
        tensors = TensorPayload.from_numpy(
            {"k": np.zeros((4, 4), np.float32)}, Fingerprint("tiny", "w", "t", "float32")
        )
        with memory.store.transaction() as tx:
            tx.insert([Write(MemCube(header, tensors))])
        blobs = [path for path in (tmp_path / "m.db.blobs").rglob("*") if path.is_file()]
        assert blobs, sorted(tmp_path.iterdir())
        for blob in blobs:
            blob.unlink()
        assert [one["id"] for one in memory.get_all(filters=ALICE)["results"]] == [row["id"]]
        assert _found(memory, "Where does Alice live?") == ["I live in Porto."]
        assert set(memory.forget(row["id"])["forgotten"]) == {row["id"], header.id}
