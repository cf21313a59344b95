"""The index is derived: synced step by step it equals one built from scratch, and what is forgotten is gone from it."""

from __future__ import annotations

import json
import random
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from lamina.cube.cube import Claim, Header, MemCube, Provenance, Scope, Source, State, Utterance
from lamina.cube.payload import TextPayload
from lamina.store import snapshot
from lamina.store.base import Write
from lamina.store.index import IndexCache, ScopeIndex
from lamina.store.sqlite import SqliteStore
from lamina.store.table import FACT, TURN

T0 = datetime(2024, 1, 1, tzinfo=UTC)
ANN = Scope(user="ann")
WORDS = ["apple", "boat", "cloud", "drum", "eagle", "flute", "garden", "harbour"]


def vector(seed: int, dimension: int = 8) -> NDArray[np.float32]:
    rows = np.random.default_rng(seed).standard_normal(dimension)
    return (rows / np.linalg.norm(rows)).astype(np.float32)


def turn(n: int, text: str = "", *, session: str = "s", scope: Scope = ANN, speaker: str = "Ann") -> MemCube:
    header = Header(
        id=f"turn-{n}",
        semantic_type="turn",
        scope=scope,
        recorded=T0 + timedelta(minutes=n),
        utterance=Utterance(session, n, speaker, "user"),
    )
    return MemCube(header, TextPayload(text or WORDS[n % len(WORDS)]))


def fact(n: int, source: int, text: str = "", **header: Any) -> MemCube:
    made = Header(
        id=f"fact-{n}",
        scope=ANN,
        recorded=T0 + timedelta(minutes=source),
        provenance=Provenance((Source(f"turn-{source}", 0, 1),), "rules"),
        claim=Claim("Ann"),
        **header,
    )
    return MemCube(made, TextPayload(text or f"Ann knows {WORDS[n % len(WORDS)]}"))


def insert(store: SqliteStore, *cubes: MemCube) -> None:
    with store.transaction() as tx:
        tx.insert([Write(cube, vector(hash(cube.id) % 1_000)) for cube in cubes])


def state(index: ScopeIndex) -> dict[str, Any]:
    """Everything a search could see, by key, in a form that does not depend on the order of rows."""
    table = index.table
    keys = table["key"].tolist()
    alive = [row for row in range(len(table)) if table["alive"][row]]
    near = index.neighbours.array
    links = {keys[r]: [keys[n] if n >= 0 else None for n in near[r].tolist()] for r in alive}
    ids = index.words.known(WORDS)
    scores = index.words.score(ids, np.asarray(alive, np.int64), near)
    rows, cosines = index.vectors.search(vector(1), len(table), table["alive"])
    groups: dict[int, set[int]] = {}
    for row in alive:
        groups.setdefault(int(table["group"][row]), set()).add(keys[row])
    return {
        "links": links,
        "words": {keys[row]: round(float(score), 9) for row, score in zip(alive, scores, strict=True)},
        "cosines": {keys[row]: round(float(c), 5) for row, c in zip(rows.tolist(), cosines.tolist(), strict=True)},
        "open": {keys[row] for row in np.flatnonzero(index.visible()).tolist()},
        "past": {keys[row] for row in np.flatnonzero(index.visible(T0 + timedelta(minutes=5))).tolist()},
        "groups": {frozenset(members) for members in groups.values()},
        "speakers": {keys[row]: int(table["speaker"][table["group"][row]]) >= 0 for row in alive},
    }


def fresh(store: SqliteStore) -> ScopeIndex:
    index = ScopeIndex(ANN)
    index.sync(store)
    return index


def random_write(store: SqliteStore, rng: random.Random, counter: list[int]) -> None:
    """One of everything a store can do to the scope, or to a stranger's."""
    everything = store.query(ANN, closed=True, limit=1_000).cubes
    opened = [cube for cube in everything if cube.header.superseded is None]
    action = rng.choice(["turn", "turn", "fact", "other", "revise", "close", "forget", "archive"])
    counter[0] += 1
    n = counter[0]
    if action == "turn":
        insert(store, turn(n, f"{rng.choice(WORDS)} {rng.choice(WORDS)}?", session=rng.choice("st")))
    elif action == "fact":
        insert(store, fact(n, rng.randint(0, n)))
    elif action == "other":
        insert(store, turn(n + 10_000, scope=Scope(user="bob")))
    elif opened:
        cube = rng.choice(opened)
        with store.transaction() as tx:
            if action == "forget":
                tx.forget([cube.id])
            elif action == "close":
                tx.close(cube.id, at=T0 + timedelta(minutes=n), valid_to=T0)
            else:
                new = replace(cube.header, version=cube.header.version + 1)
                new = replace(new, state=State.ARCHIVED) if action == "archive" else new
                text = TextPayload(f"{rng.choice(WORDS)} {rng.choice(WORDS)}")
                tx.revise(Write(MemCube(new, text), vector(n)), expect=cube.header.version)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_synced_step_by_step_equals_built_from_scratch(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    rng = random.Random(seed)
    with SqliteStore(tmp_path_factory.mktemp("db") / "m.db", durable=False) as store:
        index, counter = ScopeIndex(ANN), [0]
        for _ in range(8):
            for _ in range(rng.randint(0, 4)):
                random_write(store, rng, counter)
            index.sync(store)
            assert state(index) == state(fresh(store))


def test_visible_is_what_the_store_calls_open(tmp_path: Path) -> None:
    rng = random.Random(7)
    day = timedelta(days=1)
    with SqliteStore(tmp_path / "m.db", durable=False) as store:
        counter = [0]
        insert(
            store,
            fact(900, 1, valid_to=datetime.now(UTC) - day),
            fact(901, 1, valid_to=datetime.now(UTC) + day),
            fact(902, 1, valid_to=T0, semantic_type="event"),
            fact(903, 1, expires=T0 + timedelta(minutes=3)),
            fact(904, 10**7),  # stamped in the future
        )
        for _ in range(60):
            random_write(store, rng, counter)
        index = fresh(store)
        for as_of in (None, T0, T0 + timedelta(minutes=2), T0 + timedelta(minutes=20), datetime.now(UTC)):
            keys = index.table["key"][np.flatnonzero(index.visible(as_of))].tolist()
            expected = store.query(ANN, as_of=as_of, limit=1_000).cubes
            found = {(cube.id, cube.header.version) for cube in store.load(keys)}
            assert found == {(cube.id, cube.header.version) for cube in expected}


def test_follows_writes_of_another_connection(tmp_path: Path) -> None:
    with SqliteStore(tmp_path / "m.db") as mine, SqliteStore(tmp_path / "m.db") as other:
        cache = IndexCache()
        insert(mine, turn(0))
        assert len(cache.get(mine, ANN)) == 1
        insert(other, turn(1), turn(2))
        assert len(cache.get(mine, ANN)) == 3
        with other.transaction() as tx:
            tx.forget(["turn-1"])
        assert cache.get(mine, ANN).visible().sum() == 2


def test_threads_read_while_others_write(tmp_path: Path) -> None:
    with SqliteStore(tmp_path / "m.db", durable=False) as store:
        cache, problems = IndexCache(), []

        def write(start: int) -> None:
            for n in range(start, start + 40):
                insert(store, turn(n))

        def read() -> None:
            for _ in range(60):
                index = cache.get(store, ANN)
                with index.lock:
                    sizes = {len(index.table), len(index.vectors), len(index.words), len(index.neighbours)}
                    if len(sizes) != 1:
                        problems.append(sizes)
                    index.words.find(index.words.known(WORDS), 5, index.neighbours.array, index.visible())

        threads = [threading.Thread(target=write, args=(start,)) for start in (0, 100)]
        threads += [threading.Thread(target=read) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not problems
        assert state(cache.get(store, ANN)) == state(fresh(store))


def test_allowed_keys_become_rows(tmp_path: Path) -> None:
    with SqliteStore(tmp_path / "m.db") as store:
        insert(store, *(turn(n) for n in range(6)))
        index = fresh(store)
        keys = index.table["key"]
        mask = index.visible(allow=np.asarray([int(keys[4]), int(keys[1]), 999_999]))
        assert np.flatnonzero(mask).tolist() == [1, 4]
        assert not index.visible(allow=np.empty(0, np.int64)).any()


def test_nearest_facts_are_open_facts(tmp_path: Path) -> None:
    with SqliteStore(tmp_path / "m.db") as store:
        insert(store, turn(0), fact(1, 0), fact(2, 0), fact(3, 0))
        with store.transaction() as tx:
            tx.close("fact-2", at=T0 + timedelta(days=1))
        index = fresh(store)
        asked = np.stack([vector(hash("fact-3") % 1_000), vector(0)])
        found = index.nearest_facts(asked, 10)
        assert [len(row) for row in found] == [2, 2]
        cubes = store.load([key for key, _ in found[0]])
        assert cubes[0].id == "fact-3" and found[0][0][1] == pytest.approx(1, abs=1e-6)
        assert {cube.id for cube in cubes} == {"fact-1", "fact-3"}


def test_kinds_and_groups(tmp_path: Path) -> None:
    with SqliteStore(tmp_path / "m.db") as store:
        insert(store, fact(1, 5), turn(5), MemCube(Header(id="plain", scope=ANN), TextPayload("note")))
        table = fresh(store).table
        assert sorted(table["kind"].tolist()) == sorted([FACT, TURN, 0])
        assert len(set(table["group"].tolist())) == 2  # the fact came before its turn


def test_vectors_of_another_embedder_are_read_anew(tmp_path: Path) -> None:
    class Wider:
        name, dimension = "wider", 12

        def encode(self, texts: Any) -> NDArray[np.float32]:
            return np.stack([vector(len(text), 12) for text in texts])

    with SqliteStore(tmp_path / "m.db", embedder="narrow") as store:
        insert(store, turn(0), turn(1))
        index = fresh(store)
        store.reembed(Wider())
        index.sync(store)
        assert index.vectors.dimension == 12 and len(index) == 2


# -- snapshots -----------------------------------------------------------------------------------


@pytest.fixture
def large(tmp_path: Path) -> Any:
    with SqliteStore(tmp_path / "m.db", durable=False) as store:
        insert(store, *(turn(n, session=f"s{n // 10}") for n in range(40)), *(fact(n, n) for n in range(20)))
        yield store


def folder_of(store: SqliteStore) -> Path:
    folder = snapshot.folder(store, ANN)
    assert folder is not None
    return folder


def test_snapshot_is_opened_and_rolled_forward(large: SqliteStore) -> None:
    IndexCache(snapshot_rows=50).get(large, ANN)
    assert (folder_of(large) / "meta.json").exists()
    insert(large, turn(40, session="s3"), fact(40, 40))
    with large.transaction() as tx:
        tx.close("turn-12", at=T0 + timedelta(days=3))
    opened = ScopeIndex(ANN)
    assert snapshot.load(opened, large, folder_of(large)) and len(opened) == 60
    opened.sync(large)
    assert state(opened) == state(fresh(large))


def test_small_indexes_leave_no_files(large: SqliteStore) -> None:
    IndexCache(snapshot_rows=61).get(large, ANN)
    assert not folder_of(large).exists()


@pytest.mark.parametrize("damage", ["truncate", "flip", "missing", "meta", "extra", "version"])
def test_damaged_snapshot_is_rebuilt(large: SqliteStore, damage: str) -> None:
    IndexCache(snapshot_rows=50).get(large, ANN)
    folder = folder_of(large)
    files = sorted(folder.glob("*.npy"))
    for file in files if damage in ("truncate", "flip", "missing") else files[:1]:
        kept = file.read_bytes()
        if damage == "truncate":
            file.write_bytes(kept[: len(kept) // 2])
        elif damage == "flip":
            file.write_bytes(kept[:-1] + bytes([kept[-1] ^ 1]))
        elif damage == "missing":
            file.unlink()
        elif damage == "meta":
            (folder / "meta.json").write_text("{")
        elif damage == "extra":
            (folder / "graph.usearch").write_bytes(b"junk")
        else:
            meta = json.loads((folder / "meta.json").read_text())
            (folder / "meta.json").write_text(json.dumps(meta | {"format": 0}))
        assert not snapshot.load(ScopeIndex(ANN), large, folder), file.name
        file.write_bytes(kept)
    (folder / files[0].name).write_bytes(b"")
    assert state(IndexCache(snapshot_rows=50).get(large, ANN)) == state(fresh(large))
    assert snapshot.load(ScopeIndex(ANN), large, folder)  # written anew


def test_snapshot_of_another_database_is_ignored(large: SqliteStore, tmp_path: Path) -> None:
    IndexCache(snapshot_rows=50).get(large, ANN)
    with SqliteStore(tmp_path / "other.db") as other:
        insert(other, *(turn(n) for n in range(70)))
        folder_of(large).parent.rename(folder_of(other).parent)
        assert not snapshot.load(ScopeIndex(ANN), other, folder_of(other))
        assert len(IndexCache().get(other, ANN)) == 70


def test_forgotten_text_stays_in_no_index_file(large: SqliteStore) -> None:
    insert(large, turn(99, "xylophone secret"))
    cache = IndexCache(snapshot_rows=50)
    cache.get(large, ANN)

    def holders() -> list[str]:
        base = folder_of(large).parent
        return [file.name for file in base.rglob("*") if file.is_file() and b"xylophon" in file.read_bytes()]

    assert holders() == ["vocabulary.txt"]
    with large.transaction() as tx:
        tx.forget(["turn-99"])
    assert large.last_change() > cache._indexes[id(large), ANN][1].change
    index = cache.get(large, ANN)  # learns it: the snapshot goes
    assert holders() == [] and not index.words.known(["xylophon"])
    cache.drop()
    assert cache.get(large, ANN).graves == 0 and holders() == []


def test_drop_removes_files(large: SqliteStore) -> None:
    cache = IndexCache(snapshot_rows=50)
    cache.get(large, ANN)
    cache.drop()
    assert not folder_of(large).parent.exists()


def test_snapshot_is_taken_back_if_the_store_moved_on(large: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    index = fresh(large)
    monkeypatch.setattr(large, "last_change", lambda: index.change + 1)  # a write between the two
    assert not snapshot.save(index, large, folder_of(large))
    assert not folder_of(large).exists()


def test_cache_evicts_the_least_recently_used(tmp_path: Path) -> None:
    with SqliteStore(tmp_path / "m.db") as store:
        scopes = [Scope(user=name) for name in "abc"]
        for place, scope in enumerate(scopes):
            insert(store, *(turn(10 * place + n, scope=scope) for n in range(4)))
        cache = IndexCache(max_rows=8)
        first, second = cache.get(store, scopes[0]), cache.get(store, scopes[1])
        assert cache.get(store, scopes[0]) is first
        cache.get(store, scopes[2])
        assert cache.get(store, scopes[0]) is first
        assert cache.get(store, scopes[1]) is not second
