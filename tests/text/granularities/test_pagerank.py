"""The walk is the solution of its linear equation, found here by solving it densely in float64."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from lamina.errors import InvalidInput
from lamina.text.granularities.pagerank import personalized_pagerank


def solved(edges: NDArray[np.int64], restart: NDArray[np.float64], damping: float) -> NDArray[np.float64]:
    """(I - d M) x = (1 - d) v, where column j of M says where a walker at j goes."""
    n, v = len(restart), restart / restart.sum()
    move = np.zeros((n, n))
    for one, other in edges:
        move[other, one] += 1
        move[one, other] += 1
    for node in range(n):
        out = move[:, node].sum()
        move[:, node] = move[:, node] / out if out else v
    return np.linalg.solve(np.eye(n) - damping * move, (1 - damping) * v)


@given(st.integers(0, 10_000), st.integers(2, 25), st.integers(0, 60), st.floats(0.0, 0.9))
def test_it_solves_the_equation(seed: int, nodes: int, links: int, damping: float) -> None:
    rng = np.random.default_rng(seed)
    pairs = rng.integers(0, nodes, (links, 2))
    edges = np.unique(pairs[pairs[:, 0] > pairs[:, 1]], axis=0)
    restart = rng.random(nodes) * (rng.random(nodes) < 0.5)
    restart[0] += 0.1
    found = personalized_pagerank(edges, restart, damping)
    assert found == pytest.approx(solved(edges, restart, damping), abs=1e-8)
    assert found.sum() == pytest.approx(1.0)


def test_a_link_lends_probability_and_distance_loses_it() -> None:
    chain = np.asarray([[1, 0], [2, 1], [3, 2]])
    x = personalized_pagerank(chain, np.asarray([1.0, 0, 0, 0, 0]), 0.5)
    assert x[0] > x[1] > x[2] > x[3] > x[4] == 0
    assert personalized_pagerank(np.empty((0, 2), np.int64), np.asarray([3.0, 1.0]), 0.1).tolist() == [0.75, 0.25]


def test_without_anywhere_to_start_nothing_is_reached() -> None:
    assert personalized_pagerank(np.asarray([[1, 0]]), np.zeros(2), 0.1).tolist() == [0.0, 0.0]


@pytest.mark.parametrize("restart", [[-1.0, 2.0], [np.nan, 1.0], [np.inf, 1.0]])
def test_impossible_restarts_are_refused(restart: list[float]) -> None:
    with pytest.raises(InvalidInput, match="restart"):
        personalized_pagerank(np.asarray([[1, 0]]), np.asarray(restart), 0.1)


@pytest.mark.parametrize("damping", [-0.1, 1.0, np.nan])
def test_impossible_damping_is_refused(damping: float) -> None:
    with pytest.raises(InvalidInput, match="damping"):
        personalized_pagerank(np.asarray([[1, 0]]), np.ones(2), damping)
