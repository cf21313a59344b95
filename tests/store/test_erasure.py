"""After ``forget`` no byte of what was forgotten is left in any file; until then the store says so."""

from __future__ import annotations

import random
import sqlite3
import string
from pathlib import Path

import numpy as np
import pytest

from contracts.store import ALICE, cube, insert, revise, unit
from lamina.cube.cube import Claim, Header, Lineage, MemCube, Utterance, now
from lamina.cube.payload import Fingerprint, TensorPayload
from lamina.store.base import Write
from lamina.store.migrations import back_up
from lamina.store.sqlite import SqliteStore


def canary(rng: random.Random) -> str:
    return "".join(rng.choices(string.ascii_lowercase + string.digits, k=32))


def traces(folder: Path, *needles: str | bytes) -> list[str]:
    """Files under ``folder`` that hold any of the needles, in UTF-8 or UTF-16."""
    found = []
    for path in sorted(folder.rglob("*")):
        data = path.read_bytes() if path.is_file() else b""
        for needle in needles:
            forms = [needle] if isinstance(needle, bytes) else [needle.encode(), needle.encode("utf-16-le")]
            if any(form in data for form in forms):
                found.append(f"{path.name}: {needle!r}")
    return found


def test_every_field_of_a_memory_is_erased_from_every_file(tmp_path: Path) -> None:
    rng = random.Random(1)
    words = [canary(rng) for _ in range(12)]
    vector = unit(9)
    with SqliteStore(tmp_path / "m.db") as store:
        insert(store, *[cube(f"bystander {n}") for n in range(50)])
        secret = cube(
            f"first {words[0]} words", metadata={words[1]: [words[2]]}, tags=(words[3],), keywords=(words[4],),
            entities=(words[5],), claim=Claim(words[6], words[7], words[8]), valid_to=None,
            utterance=Utterance(words[9], 0, words[10], "user"),
        )  # fmt: skip
        with store.transaction() as tx:
            tx.insert([Write(secret, vector)])
        revise(store, secret, f"second {words[11]}")
        assert len({line.split(": ")[1] for line in traces(tmp_path, *words)}) == 12, "the search finds what is there"
        assert traces(tmp_path, vector.tobytes())
        with store.transaction() as tx:
            tx.forget([secret.id])
        assert traces(tmp_path, *words, vector.tobytes()) == []
        assert store.verify() == []
        assert store.stats()["erasing"] is None


def test_no_trace_in_unallocated_space_after_much_moving_of_rows(tmp_path: Path) -> None:
    """Pages split and merge while rows are inserted, closed and forgotten; SQLite leaves copies behind."""
    rng = random.Random(2)
    live: dict[str, str] = {}
    gone: list[str] = []
    with SqliteStore(tmp_path / "m.db", durable=False) as store:
        for _ in range(12):
            for _ in range(60):
                word = canary(rng)
                one = cube(f"{word} {'x' * rng.randrange(1500)}", metadata={"w": word}, entities=(word,))
                live[one.id] = word
                insert(store, one)
            with store.transaction() as tx:
                for id in rng.sample(list(live), 20):
                    newest = tx.newest(id)
                    if newest is not None and newest.header.superseded is None:
                        tx.close(id, at=now(), by="x" * rng.randrange(200))
                for id in rng.sample(list(live), 25):
                    gone.append(live.pop(id))
                    tx.forget([id])
            assert traces(tmp_path, *gone) == []
        assert len({line.split(": ")[1] for line in traces(tmp_path, *live.values())}) == len(live)
        assert store.verify() == []


def test_blobs_of_forgotten_tensors_are_removed_and_shared_ones_stay(tmp_path: Path) -> None:
    fingerprint = Fingerprint("llama", "w", "t", "float32")
    shared = TensorPayload.from_numpy({"k": np.arange(64, dtype=np.float32)}, fingerprint)
    own = TensorPayload.from_numpy({"k": np.arange(64, dtype=np.float32) + 0.5}, fingerprint)
    first, second, third = (MemCube(Header(scope=ALICE, kind="activation"), p) for p in (shared, shared, own))
    with SqliteStore(tmp_path / "m.db") as store:
        insert(store, first, second, third)
        assert len(list((tmp_path / "m.db.blobs").rglob("*/*"))) == 2
        with store.transaction() as tx:
            tx.forget([first.id, third.id])
        assert traces(tmp_path, own.tensors["k"].numpy().tobytes()) == []
        assert store.get(second.id) == second
        assert store.verify() == []


def test_copies_that_migrations_made_are_removed(tmp_path: Path) -> None:
    word = canary(random.Random(3))
    with SqliteStore(tmp_path / "m.db") as store:
        one = cube(word)
        insert(store, one)
        copy = back_up(sqlite3.connect(store.path), store.path, 0)
        assert any(copy.name in line for line in traces(tmp_path, word))
        with store.transaction() as tx:
            tx.forget([one.id])
        assert traces(tmp_path, word) == []
        assert not copy.exists()


def test_a_reader_of_an_older_state_postpones_the_last_step(tmp_path: Path) -> None:
    word = canary(random.Random(4))
    with SqliteStore(tmp_path / "m.db") as store:
        one = cube(word)
        insert(store, one)
        other = sqlite3.connect(store.path, isolation_level=None)
        other.execute("BEGIN")
        assert other.execute("SELECT count(*) FROM cubes").fetchone() == (1,)
        with store.transaction() as tx:
            tx.forget([one.id])
        assert store.get(one.id) is None
        (problem,) = store.verify()
        assert problem.startswith("erasure:")
        assert store.stats()["erasing"] == "checkpoint"
        other.execute("COMMIT")
        insert(store, cube("anything"))  # the next opportunity
        assert traces(tmp_path, word) == []
        assert store.verify() == []
        other.close()


@pytest.mark.parametrize("step", ["rebuild", "checkpoint"])
def test_a_crash_between_deleting_and_erasing_is_made_good_when_opened(tmp_path: Path, step: str) -> None:
    word = canary(random.Random(5))
    with SqliteStore(tmp_path / "m.db") as store:
        one = cube(word)
        insert(store, one)
    raw = sqlite3.connect(tmp_path / "m.db", isolation_level=None)
    raw.execute("PRAGMA secure_delete = OFF")  # as if nothing had been overwritten yet
    raw.execute("PRAGMA foreign_keys = ON")
    raw.execute("BEGIN")
    raw.execute("INSERT INTO texts (texts, rowid, text) SELECT 'delete', key, text FROM cubes")
    raw.execute("DELETE FROM cubes")
    raw.execute("INSERT INTO texts (texts) VALUES ('optimize')")
    raw.execute("INSERT INTO meta VALUES ('erasing', ?)", (step,))
    raw.execute("COMMIT")
    if step == "checkpoint":
        raw.execute("VACUUM")
    assert traces(tmp_path, word)
    with SqliteStore(tmp_path / "m.db") as store:
        assert traces(tmp_path, word) == []
        assert store.verify() == []
    raw.close()


def test_a_lock_during_the_rebuild_leaves_it_for_later(tmp_path: Path) -> None:
    """The memory is deleted at once; rebuilding the file needs the write lock that another process holds."""
    word = canary(random.Random(6))
    with SqliteStore(tmp_path / "m.db") as store:
        keep, one = cube("keep"), cube(word)
        insert(store, keep, one)
        other = sqlite3.connect(store.path, isolation_level=None)
        store._writer.execute("PRAGMA busy_timeout = 50")
        store._writer.set_trace_callback(lambda sql: other.execute("BEGIN IMMEDIATE") if sql == "VACUUM" else None)
        with store.transaction() as tx:
            tx.forget([one.id])
        store._writer.set_trace_callback(None)
        assert store.get(one.id) is None
        assert store.stats()["erasing"] == "rebuild"
        other.execute("ROLLBACK")
        insert(store, cube("anything"))
        assert traces(tmp_path, word) == []
        assert store.get(keep.id) == keep
        assert store.verify() == []
        other.close()


def test_forgetting_a_derived_memory_leaves_its_source(tmp_path: Path) -> None:
    words = [canary(random.Random(n)) for n in (7, 8)]
    with SqliteStore(tmp_path / "m.db") as store:
        turn = cube(words[0])
        fact = cube(words[1], lineage=Lineage(((turn.id, 1),)))
        insert(store, turn, fact)
        with store.transaction() as tx:
            assert tx.forget([fact.id]) == [fact.id]
        assert traces(tmp_path, words[1]) == []
        assert traces(tmp_path, words[0])
