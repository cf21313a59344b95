"""Vector search: equal to a naive scan where it is exact, near enough where it is a graph, never starved."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from lamina.errors import InvalidInput
from lamina.store.vectors import VectorIndex


def unit(rows: NDArray[np.float64]) -> NDArray[np.float32]:
    return np.asarray(rows / np.linalg.norm(rows, axis=-1, keepdims=True), np.float32)


def clustered(n: int, d: int, seed: int) -> NDArray[np.float32]:
    """Clusters as wide as they are far apart: neither trivial nor hopeless for a graph."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((n // 50, d))
    return unit(centres[rng.integers(0, len(centres), n)] + rng.standard_normal((n, d)))


def naive(
    vectors: NDArray[np.float32], query: NDArray[np.float32], k: int, allowed: NDArray[np.bool_] | None
) -> list[int]:
    scored = [(-float(np.float32(v @ query)), row) for row, v in enumerate(vectors) if allowed is None or allowed[row]]
    return [row for _, row in sorted(scored)[:k]]


@given(st.integers(0, 2**32 - 1), st.integers(1, 60), st.integers(1, 70), st.booleans())
def test_exact_search_equals_a_naive_scan(seed: int, n: int, k: int, masked: bool) -> None:
    rng = np.random.default_rng(seed)
    vectors = unit(rng.standard_normal((n, 8)))
    query = unit(rng.standard_normal(8))
    allowed = rng.random(n) < 0.5 if masked else None
    index = VectorIndex()
    for start in range(0, n, 7):
        index.extend(list(vectors[start : start + 7]))
    rows, scores = index.search(query, k, allowed)
    expected = naive(vectors, query, k, allowed)
    assert len(rows) == len(expected)
    np.testing.assert_allclose(scores, vectors[expected] @ query, atol=1e-6)
    np.testing.assert_allclose(scores, vectors[rows] @ query, atol=1e-6)
    assert allowed is None or allowed[rows].all()


def test_equal_vectors_come_in_order_of_rows() -> None:
    index = VectorIndex()
    one = unit(np.ones(4))
    index.extend([one] * 9)
    assert index.search(one, 3)[0].tolist() == [0, 1, 2]


def test_graph_finds_what_a_scan_finds() -> None:
    vectors = clustered(6_000, 32, seed=1)
    graph, scan = VectorIndex(exact_rows=500), VectorIndex()
    for start in range(0, 6_000, 1_000):
        graph.extend(list(vectors[start : start + 1_000]))
    scan.extend(list(vectors))
    assert graph._covered > 5_000
    queries = unit(vectors[::60] + 0.1 * np.random.default_rng(2).standard_normal((100, 32)))
    shared = []
    for query in queries:
        found, scores = graph.search(query, 10)
        np.testing.assert_allclose(scores, vectors[found] @ query, atol=1e-6)  # rescored exactly
        shared.append(len(set(found.tolist()) & set(scan.search(query, 10)[0].tolist())) / 10)
    assert np.mean(shared) >= 0.95


def test_rows_the_graph_does_not_cover_yet_are_found() -> None:
    vectors = clustered(3_000, 16, seed=3)
    index = VectorIndex(exact_rows=100)
    for start in range(0, 3_000, 1_500):
        index.extend(list(vectors[start : start + 1_500]))
    index._covered -= 400  # as if the graph were behind
    assert index.search(vectors[2_990], 1)[0].tolist() == [2_990]


@pytest.mark.parametrize("share", [0.5, 0.02, 0.001])
def test_a_filter_never_starves_a_graph_search(share: float) -> None:
    vectors = clustered(4_000, 16, seed=4)
    index = VectorIndex(exact_rows=200)
    index.extend(list(vectors))
    allowed = np.random.default_rng(5).random(4_000) < share
    want = min(20, int(allowed.sum()))
    rows, _ = index.search(vectors[0], 20, allowed)
    assert len(rows) == want and allowed[rows].all()


@pytest.mark.parametrize("exact_rows", [10_000, 50])
def test_erased_and_replaced_rows(exact_rows: int) -> None:
    vectors = clustered(400, 16, seed=6)
    index = VectorIndex(exact_rows=exact_rows)
    index.extend(list(vectors))
    index.erase(7)
    assert 7 not in index.search(vectors[7], 50)[0]
    new = unit(np.arange(1.0, 17))
    index.replace(9, new)
    assert index.search(new, 1)[0].tolist() == [9]


def test_rows_without_a_vector_are_never_similar() -> None:
    index = VectorIndex()
    index.extend([None, None])
    index.extend([unit(np.ones(3)), None, unit(np.ones(5))])  # the last is of another embedder
    rows, scores = index.search(unit(np.ones(3)), 5)
    assert rows[0] == 2 and scores.tolist() == pytest.approx([1, 0, 0, 0, 0])


def test_query_of_another_dimension_is_refused() -> None:
    index = VectorIndex()
    assert len(index.search(unit(np.ones(3)), 5)[0]) == 0  # empty: nothing to compare with
    index.extend([unit(np.ones(4))])
    with pytest.raises(InvalidInput, match=r"shape \(3,\).*vectors of 4"):
        index.search(unit(np.ones(3)), 5)


@pytest.mark.parametrize("exact_rows", [10_000, 50])
def test_saved_and_loaded(tmp_path: Path, exact_rows: int) -> None:
    vectors = clustered(400, 16, seed=7)
    index = VectorIndex(exact_rows=exact_rows)
    index.extend(list(vectors))
    index.save(tmp_path)
    loaded = VectorIndex.load(tmp_path)
    loaded.extend([vectors[3]])  # moves to memory of its own
    rows, scores = loaded.search(vectors[3], 5)
    assert rows[:2].tolist() == [3, 400]
    np.testing.assert_allclose(scores, np.append(vectors, vectors[3:4], axis=0)[rows] @ vectors[3], atol=1e-6)


@pytest.mark.parametrize("exact_rows", [10, 1_000])
def test_many_searches_equal_single_ones(exact_rows: int) -> None:
    rng = np.random.default_rng(11)
    rows = rng.standard_normal((300, 16)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    index = VectorIndex(exact_rows=exact_rows)
    index.extend(list(rows))
    allowed = rng.random(300) < 0.4
    for (many, scores), query in zip(index.search_many(rows[:130], 7, allowed), rows[:130], strict=True):
        one, expected = index.search(query, 7, allowed)
        np.testing.assert_array_equal(many, one)
        np.testing.assert_allclose(scores, expected, atol=1e-6)
    assert all(len(found) == 0 for found, _ in index.search_many(rows[:3], 7, np.zeros(300, bool)))
