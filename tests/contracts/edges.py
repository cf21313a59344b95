"""What every store must do with edges. Subclass ``EdgeContract`` and give it a ``store`` fixture."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contracts.store import ALICE, BOB, DAY, T0, cube, insert
from lamina.cube.cube import MemCube
from lamina.errors import InvalidInput, NotFound
from lamina.store.base import Edge, Store, Write


def edge(source: MemCube, target: MemCube, relation: str = "knows", at: datetime = T0, **more: Any) -> Edge:
    return Edge(source=source.id, target=target.id, relation=relation, recorded=at, **more)


def connect(store: Store, *edges: Edge) -> None:
    with store.transaction() as tx:
        tx.connect(edges)


def people(store: Store, count: int) -> list[MemCube]:
    cubes = [cube(f"person {number}", recorded=T0) for number in range(count)]
    insert(store, *cubes)
    return cubes


def entities(store: Store, *names: str) -> list[MemCube]:
    cubes = [cube(name, semantic_type="entity", recorded=T0) for name in names]
    insert(store, *cubes)
    return cubes


# Nodes are new for each example, and each store runs the same ones; no database of examples is kept.
_ON_EACH_STORE = [HealthCheck.function_scoped_fixture, HealthCheck.differing_executors]


class EdgeContract:
    @pytest.fixture
    def store(self) -> Store:
        raise NotImplementedError

    def test_every_field_comes_back(self, store: Store) -> None:
        a, b, said = people(store, 3)
        given = edge(a, b, weight=0.5, evidence=said.id, reason="said so", valid_from=T0, valid_to=T0 + DAY)
        connect(store, given)
        assert store.edges(ALICE) == [given]
        for id in (a.id, b.id, said.id):
            assert store.edges(ALICE, [id]) == [given]
        assert store.edges(ALICE, ["nobody"]) == []
        assert store.edges(ALICE, relations=["likes"]) == []
        assert store.edges(BOB) == []

    def test_an_edge_that_changes_keeps_its_past(self, store: Store) -> None:
        a, b = people(store, 2)
        connect(store, edge(a, b, weight=0.2))
        connect(store, edge(a, b, at=T0 + DAY, weight=0.9))
        assert [one.weight for one in store.edges(ALICE)] == [0.9]
        assert [one.weight for one in store.edges(ALICE, as_of=T0 + DAY / 2)] == [0.2]
        assert [one.weight for one in store.edges(ALICE, closed=True)] == [0.2, 0.9]

    def test_each_evidence_stands_for_itself(self, store: Store) -> None:
        a, b, first, second = people(store, 4)
        connect(store, edge(a, b, evidence=first.id), edge(a, b, evidence=second.id))
        with store.transaction() as tx:
            tx.forget([second.id])
        assert [one.evidence for one in store.edges(ALICE)] == [first.id]

    def test_disconnect_closes_and_keeps(self, store: Store) -> None:
        a, b = people(store, 2)
        connect(store, edge(a, b))
        with store.transaction() as tx:
            assert tx.disconnect(a.id, b.id, "knows", at=T0 + DAY, valid_to=T0 + DAY)
            assert not tx.disconnect(a.id, b.id, "knows", at=T0 + DAY)
            assert tx.edges([a.id]) == []
        assert store.edges(ALICE) == []
        (past,) = store.edges(ALICE, closed=True)
        assert past.superseded == past.valid_to == T0 + DAY

    @pytest.mark.parametrize("which", ["source", "target", "evidence"])
    def test_an_edge_closes_with_what_it_rests_on_and_opens_again_with_it(self, store: Store, which: str) -> None:
        a, b, said = people(store, 3)
        connect(store, edge(a, b, evidence=said.id))
        closed = {"source": a, "target": b, "evidence": said}[which]
        with store.transaction() as tx:
            tx.close(closed.id, at=T0 + DAY)
        assert store.edges(ALICE) == []
        assert len(store.edges(ALICE, as_of=T0 + DAY / 2)) == 1
        reopen(store, closed)
        assert len(store.edges(ALICE)) == 1

    def test_an_edge_stays_closed_while_anything_it_rests_on_is(self, store: Store) -> None:
        a, b, said = people(store, 3)
        connect(store, edge(a, b, evidence=said.id))
        with store.transaction() as tx:
            for one in (a, said):
                tx.close(one.id, at=T0 + DAY)
        reopen(store, a)
        assert store.edges(ALICE) == []
        reopen(store, said)
        assert len(store.edges(ALICE)) == 1

    @pytest.mark.parametrize("which", ["source", "target", "evidence"])
    def test_an_edge_is_forgotten_with_what_it_rests_on(self, store: Store, which: str) -> None:
        a, b, said = people(store, 3)
        connect(store, edge(a, b, evidence=said.id))
        with store.transaction() as tx:
            tx.forget([{"source": a, "target": b, "evidence": said}[which].id])
        assert store.edges(ALICE, closed=True) == []

    def test_an_entity_without_edges_is_forgotten_with_its_last_one(self, store: Store) -> None:
        alice, denver, boston = entities(store, "Alice", "Denver", "Boston")
        first, second = people(store, 2)
        connect(store, edge(alice, denver, evidence=first.id), edge(alice, boston, evidence=second.id))
        with store.transaction() as tx:
            assert set(tx.forget([second.id])) == {second.id, boston.id}
        assert store.get(alice.id) is not None
        assert store.get(boston.id) is None
        assert store.edges(ALICE)[0].target == denver.id

    def test_bad_edges_are_refused_and_nothing_is_written(self, store: Store) -> None:
        a, b = people(store, 2)
        stranger = cube("somebody else", scope=BOB)
        insert(store, stranger)
        for error, bad in (
            (NotFound, Edge(source=a.id, target="nobody", relation="knows", recorded=T0)),
            (NotFound, edge(a, b, evidence="nothing")),
            (InvalidInput, edge(a, stranger)),
            (InvalidInput, edge(a, b, evidence=stranger.id)),
            (InvalidInput, edge(a, a)),
            (InvalidInput, edge(a, b, relation="")),
            (InvalidInput, edge(a, b, weight=0.0)),
            (InvalidInput, edge(a, b, weight=1e300)),
            (InvalidInput, edge(a, b, weight=float("nan"))),
        ):
            with pytest.raises(error):
                connect(store, edge(a, b), bad)
            assert store.edges(ALICE, closed=True) == []

    def test_an_exception_undoes_edges(self, store: Store) -> None:
        a, b = people(store, 2)
        with pytest.raises(RuntimeError), store.transaction() as tx:
            tx.connect([edge(a, b)])
            raise RuntimeError
        assert store.edges(ALICE) == []

    @pytest.mark.parametrize(("name", "value"), [("hops", 0), ("hops", True), ("limit", 0)])
    def test_bad_bounds_are_refused(self, store: Store, name: str, value: Any) -> None:
        with pytest.raises(InvalidInput, match=name):
            store.reach(ALICE, ["x"], **{name: value})

    def test_reach_follows_either_direction_and_tells_the_way(self, store: Store) -> None:
        a, b, c, d = people(store, 4)
        connect(store, edge(a, b, weight=0.5), edge(c, b, weight=0.5, relation="likes"), edge(c, d))
        found = store.reach(ALICE, [a.id])
        assert [(one.id, one.hops, one.weight) for one in found] == [(b.id, 1, 0.5), (c.id, 2, 0.25)]
        assert found[1].path == (a.id, b.id, c.id)
        assert [one.id for one in store.reach(ALICE, [a.id], relations=["knows"])] == [b.id]
        assert [one.id for one in store.reach(ALICE, [a.id], limit=1)] == [b.id]
        assert store.reach(BOB, [a.id]) == []

    @settings(max_examples=25, suppress_health_check=_ON_EACH_STORE)
    @given(
        st.lists(
            st.tuples(st.integers(0, 7), st.integers(0, 7), st.booleans()), max_size=20, unique_by=lambda t: t[:2]
        ),
        st.integers(1, 4),
    )
    def test_reach_agrees_with_breadth_first_search(
        self, store: Store, links: list[tuple[int, int, bool]], hops: int
    ) -> None:
        nodes = people(store, 8)
        connect(store, *(edge(nodes[i], nodes[j]) for i, j, _ in links if i != j))
        with store.transaction() as tx:
            for i, j, ended in links:
                if ended and i != j:
                    tx.disconnect(nodes[i].id, nodes[j].id, "knows", at=T0 + DAY)
        around: dict[int, set[int]] = {n: set() for n in range(8)}
        for i, j, ended in links:
            if not ended and i != j:
                around[i].add(j)
                around[j].add(i)
        distance, queue = {0: 0}, deque([0])
        while queue:
            here = queue.popleft()
            for other in around[here] - set(distance):
                distance[other] = distance[here] + 1
                queue.append(other)
        expected = {nodes[n].id: d for n, d in distance.items() if 0 < d <= hops}
        assert {one.id: one.hops for one in store.reach(ALICE, [nodes[0].id], hops=hops)} == expected

    def test_a_hub_does_not_stop_a_walk(self, store: Store) -> None:
        hub, *others = people(store, 1_500)
        connect(store, *(edge(hub, other, weight=1 - n / 2_000) for n, other in enumerate(others)))
        found = store.reach(ALICE, [others[-1].id], hops=3, limit=10)
        assert [one.id for one in found] == [hub.id, *(other.id for other in others[:9])]
        assert len(store.reach(ALICE, [hub.id], limit=5_000)) == 200


def reopen(store: Store, one: MemCube) -> None:
    with store.transaction() as tx:
        header = replace(one.header, version=2, recorded=T0 + 2 * DAY)
        tx.revise(Write(MemCube(header, one.payload)), expect=1)
