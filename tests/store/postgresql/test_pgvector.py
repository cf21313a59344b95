"""Nearest vectors: exact below a limit, the graph above, checked against brute force in float64."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from contracts.store import ALICE, BOB, close, cube, unit
from lamina.cube.cube import Scope, now
from lamina.errors import InvalidInput
from lamina.store.base import Write
from lamina.store.postgres import PostgresStore
from lamina.store.postgresql import vectors

COUNT, WIDTH = 2_000, 24


def corpus() -> NDArray[np.float32]:
    """Around 40 centres, as the vectors of texts are: no two queries have the same distance to all."""
    rng = np.random.default_rng(5)
    rows = rng.standard_normal((40, WIDTH))[rng.integers(0, 40, COUNT)] + 0.6 * rng.standard_normal((COUNT, WIDTH))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def filled(postgres: object) -> Iterator[tuple[PostgresStore, NDArray[np.float32], NDArray[np.int64]]]:
    with PostgresStore(postgres.new_database()) as store:  # type: ignore[attr-defined]
        table = corpus()
        cubes = [cube(str(n), metadata={"n": n % 50}) for n in range(COUNT)]
        with store.transaction() as tx:
            tx.insert([Write(one, vector) for one, vector in zip(cubes, table, strict=True)])
            tx.insert([Write(cube("elsewhere", scope=BOB), vector) for vector in table[:100]])
        yield store, table, store.keys(ALICE, {"kind": "text"})


def queries() -> NDArray[np.float32]:
    return corpus()[::150] @ np.eye(WIDTH, dtype=np.float32)[::-1]


def brute(table: NDArray[np.float32], keys: NDArray[np.int64], query: NDArray[np.float32], k: int) -> list[int]:
    return [int(keys[row]) for row in np.argsort(-(table.astype(np.float64) @ query), kind="stable")[:k]]


def test_a_small_scope_is_searched_exactly(
    filled: tuple[PostgresStore, NDArray[np.float32], NDArray[np.int64]],
) -> None:
    store, table, keys = filled
    for query in queries():
        found = store.neighbours(query, ALICE, limit=20)
        assert [key for key, _ in found] == brute(table, keys, query, 20)
        expected = np.sort(table.astype(np.float64) @ query)[::-1][:20]
        np.testing.assert_allclose([score for _, score in found], expected, atol=1e-6)


def test_a_large_scope_is_searched_through_the_graph(
    filled: tuple[PostgresStore, NDArray[np.float32], NDArray[np.int64]], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, table, keys = filled
    monkeypatch.setattr(vectors, "EXACT_ROWS", 1_000)
    monkeypatch.setattr(vectors, "_EXACT", "the graph must answer")
    hits = sum(
        len({key for key, _ in store.neighbours(query, ALICE, limit=10)} & set(brute(table, keys, query, 10)))
        for query in queries()
    )
    assert hits / (10 * len(queries())) >= 0.95


def test_a_narrow_filter_over_a_large_scope_gets_all_it_asks_for(
    filled: tuple[PostgresStore, NDArray[np.float32], NDArray[np.int64]], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, table, keys = filled
    monkeypatch.setattr(vectors, "EXACT_ROWS", 10)
    mine = np.arange(COUNT) % 50 == 7
    for query in queries()[:3]:
        found = store.neighbours(query, ALICE, {"n": 7}, limit=60)
        assert [key for key, _ in found] == brute(table[mine], keys[mine], query, 60)


def test_the_graph_is_used_under_row_security(
    filled: tuple[PostgresStore, NDArray[np.float32], NDArray[np.int64]],
) -> None:
    store, _, _ = filled
    with store.locked() as (db, head):
        db.index_vectors(WIDTH)
        db.commit(head)
    plans = []

    def work(db: object, _: object) -> None:
        db.execute(vectors._WALK)  # type: ignore[attr-defined]
        sql = vectors._GRAPH.format(dimension=WIDTH, condition="c.tenant = ? AND c.user_id = ?")
        asked = vectors.packed(queries()[0].tobytes())
        plans.extend(db.execute(f"EXPLAIN {sql}", [asked, "default", "alice", asked, 10]).fetchall())  # type: ignore[attr-defined]

    store._read("default", work)
    assert any("Index Scan using vectors_nearest" in line for (line,) in plans), plans


def test_closed_and_foreign_memories_are_nobodys_neighbours(postgres_url: str) -> None:
    with PostgresStore(postgres_url) as store:
        assert store.neighbours(unit(1), ALICE) == []
        here, gone, other = cube("here"), cube("gone"), cube("other", scope=Scope("elsewhere"))
        with store.transaction() as tx:
            tx.insert([Write(here, unit(1)), Write(gone, unit(1)), Write(other, unit(1))])
        close(store, gone, now())
        ((key, score),) = store.neighbours(unit(1), ALICE)
        assert store.load([key]) == [here] and score == pytest.approx(1.0)
        with pytest.raises(InvalidInput, match="query vector has shape"):
            store.neighbours(unit(1, 4), ALICE)
