"""Links look back only: one by one gives the graph of all at once, and removing leaves no trace of a session."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from lamina.errors import InvalidInput
from lamina.text.granularities.association import AssociationGraph
from lamina.text.granularities.mixture import accept_set

WIDTH = 4


def sessions(seed: int, count: int) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    topics = rng.normal(size=(4, 24))
    rows = topics[rng.integers(0, 4, count)][:, None] + 0.6 * rng.normal(size=(count, WIDTH, 24))
    return np.asarray(rows / np.linalg.norm(rows, axis=2, keepdims=True), np.float32)


def built(vectors: NDArray[np.float32], **how: float) -> AssociationGraph:
    graph = AssociationGraph(**how)  # type: ignore[arg-type]
    for one in vectors:
        graph.add(one)
    return graph


def at_once(vectors: NDArray[np.float32], candidates: int = 30, first: int = 5) -> set[tuple[int, int]]:
    flat = vectors.reshape(-1, vectors.shape[2]).astype(np.float64)
    similarity = flat @ flat.T
    found = set()
    for node in range(first * WIDTH, len(flat)):
        before = sorted(range(node // WIDTH * WIDTH), key=lambda other: (-similarity[node, other], other))[:candidates]
        taken = accept_set(np.asarray([similarity[node, other] for other in before]))
        found |= {(node, other) for other, yes in zip(before, taken, strict=True) if yes}
    return found


def as_set(graph: AssociationGraph) -> set[tuple[int, int]]:
    return {(late, early) for late, early in graph.edges.tolist()}


@settings(max_examples=30)
@given(st.integers(0, 1000), st.integers(0, 14), st.sampled_from([3, 10, 30]))
def test_one_by_one_is_all_at_once(seed: int, count: int, candidates: int) -> None:
    vectors = sessions(seed, count)
    graph = built(vectors, candidates=candidates)
    assert as_set(graph) == at_once(vectors, candidates)
    assert len(graph.edges) == len(as_set(graph))


def test_links_lead_to_earlier_sessions_only_and_the_first_five_make_none() -> None:
    edges = built(sessions(1, 15)).edges
    assert len(edges)
    assert (edges[:, 0] // WIDTH > edges[:, 1] // WIDTH).all()
    assert edges[:, 0].min() >= 5 * WIDTH
    assert edges[:, 1].min() < 5 * WIDTH  # later sessions do link to them


@settings(max_examples=30)
@given(st.integers(0, 1000), st.integers(1, 12), st.data())
def test_removing_drops_what_touches_a_session_and_nothing_else(seed: int, count: int, data: st.DataObject) -> None:
    vectors = sessions(seed, count)
    graph, gone = built(vectors), data.draw(st.integers(0, count - 1))
    kept = [pair for pair in as_set(graph) if gone not in (pair[0] // WIDTH, pair[1] // WIDTH)]
    graph.remove(gone)
    shift = {node: node - WIDTH * (node // WIDTH > gone) for node in range(count * WIDTH)}
    assert as_set(graph) == {(shift[late], shift[early]) for late, early in kept}
    assert np.array_equal(graph.nodes, np.delete(vectors, gone, axis=0).reshape(-1, 24))


def test_removing_the_last_and_adding_it_again_changes_nothing() -> None:
    vectors = sessions(2, 12)
    graph = built(vectors)
    before = as_set(graph)
    graph.remove(11)
    graph.add(vectors[11])
    assert as_set(graph) == before


def test_it_can_be_emptied_and_filled_with_other_vectors() -> None:
    graph = built(sessions(3, 1))
    graph.remove(0)
    assert len(graph) == len(graph.nodes) == len(graph.edges) == 0
    graph.add(np.ones((2, 7), np.float32))
    assert graph.nodes.shape == (2, 7)


def test_vectors_of_another_encoder_are_refused_and_change_nothing() -> None:
    graph = built(sessions(4, 6))
    with pytest.raises(InvalidInput, match="one encoder"):
        graph.add(np.ones((WIDTH, 25), np.float32))
    with pytest.raises(InvalidInput, match="one encoder"):
        graph.add(np.ones((3, 24), np.float32))
    assert len(graph) == 6
    for how in ({"candidates": 0}, {"first": 0}):
        with pytest.raises(InvalidInput):
            AssociationGraph(**how)


@settings(max_examples=30)
@given(st.integers(0, 1000), st.integers(1, 14), st.data())
def test_many_at_once_and_cut_back_is_one_by_one(seed: int, count: int, data: st.DataObject) -> None:
    vectors, graph = sessions(seed, count), AssociationGraph()
    at, keep = data.draw(st.integers(1, count)), data.draw(st.integers(0, count))
    graph.extend(vectors[:at])
    if at < count:
        graph.extend(vectors[at:])
    graph.truncate(keep)
    single = built(vectors[:keep])
    assert as_set(graph) == as_set(single)
    assert len(graph) == keep and np.array_equal(graph.nodes, vectors[:keep].reshape(-1, 24))
