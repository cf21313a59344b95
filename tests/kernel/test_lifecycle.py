"""Only the ways of the table are walked, each is one row of the log, and nothing gets past a frozen memory."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from contracts.store import ALICE, cube, revise, unit
from lamina.cube.cube import MemCube, Scope, State, Usage, now
from lamina.cube.merge import fuse
from lamina.cube.payload import TextPayload
from lamina.errors import FrozenCube, IllegalTransition, InvalidInput, LaminaError, NotFound, NotPermitted
from lamina.kernel import lifecycle
from lamina.kernel.governance import Principal
from lamina.kernel.lifecycle import TRANSITIONS, state_of, transition
from lamina.memory import Memory
from lamina.store.base import Edge, Write
from lamina.store.sqlite import SqliteStore

BOSS = Principal(user="boss", roles=frozenset({"governance"}))
USER = Principal(user="alice")
DAY = timedelta(days=1)
LIVE = (State.GENERATED, State.ACTIVE, State.FROZEN)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    with SqliteStore(tmp_path / "m.db", durable=False) as store:
        yield store
        assert store.verify() == []


def put(store: SqliteStore, state: State = State.ACTIVE, text: str = "Alice lives in Boston", **header: Any) -> MemCube:
    one = cube(text, state=state, **header)
    with store.transaction() as tx:
        tx.insert([Write(one, unit(1))])
    return one


def reached(store: SqliteStore, state: State) -> MemCube:
    """A memory in ``state``, by legal ways only."""
    if state is State.DELETED:
        return lifecycle.retract(store, put(store).id, actor=USER, reason="")
    return put(store, state)


@pytest.mark.parametrize(("since", "to"), list(itertools.product(State, State)), ids=lambda state: state.value)
def test_every_pair_of_states(store: SqliteStore, since: State, to: State) -> None:
    one = reached(store, since)
    rows = len(list(store.events(cube=one.id)))
    legal = (since, to) in TRANSITIONS and not (since is State.FROZEN and to is not State.ACTIVE)
    if not legal:
        with pytest.raises((IllegalTransition, FrozenCube)):
            transition(store, one.id, to, actor=BOSS, reason="why")
        assert store.get(one.id) == one
        assert len(list(store.events(cube=one.id))) == rows
        return
    after = transition(store, one.id, to, actor=BOSS, reason="why")
    assert state_of(after) is to
    assert after.payload == one.payload
    events = list(store.events(cube=one.id))[rows:]
    assert [(e.action, e.actor, e.reason) for e in events] == [(TRANSITIONS[since, to], "user:boss", "why")]
    assert (events[0].details["from"], events[0].details["to"]) == (since.value, to.value)
    vector = store.vector(one.id)
    assert vector is not None
    np.testing.assert_array_equal(vector, unit(1))
    assert (one.id in [found.id for found in store.query(ALICE).cubes]) == (to in LIVE)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(st.sampled_from([*State, "update", "close", "back"]), max_size=12), start=st.sampled_from(State))
def test_any_series_of_wishes_leaves_a_chain_of_legal_steps(
    store: SqliteStore, steps: list[State | str], start: State
) -> None:
    one = reached(store, start)
    frozen_in = state = start
    if start is State.FROZEN:
        frozen_in = State.ACTIVE
    for step in steps:
        before = store.get(one.id)
        assert before is not None
        try:
            if isinstance(step, State):
                transition(store, one.id, step, actor=BOSS, reason="")
                if step is State.FROZEN:
                    frozen_in = state
                assert state is not State.FROZEN or step is frozen_in
                assert (state, step) in TRANSITIONS
                state = step
            elif step == "update":
                changed = replace(before.header, version=before.header.version + 1)
                with store.transaction() as tx:
                    tx.revise(Write(MemCube(changed, TextPayload("new")), action="update"), expect=changed.version - 1)
                state = state_of(store.get(one.id) or before)
            elif step == "close":
                with store.transaction() as tx:
                    tx.close(one.id, at=now())
                state = State.DELETED
            else:
                restored = lifecycle.restore(store, one.id, version=1, actor=BOSS, reason="")
                state = state_of(restored)
                assert restored.text == one.text
        except LaminaError:
            assert store.get(one.id) == before, "a refused wish changes nothing"
            if state is State.FROZEN and not isinstance(step, State):
                continue
        else:
            assert not (before.header.state is State.FROZEN and step in ("update", "close", "back"))
        newest = store.get(one.id)
        assert newest is not None
        assert state_of(newest) is state
    told = [(e.details["from"], e.details["to"]) for e in store.events(cube=one.id) if "from" in e.details]
    for pair in told:
        legal = tuple(map(State, pair))
        assert legal in TRANSITIONS or legal[0] is legal[1]


def test_a_frozen_memory_refuses_every_write_and_allows_reads_and_copies(store: SqliteStore) -> None:
    one = put(store)
    with pytest.raises(NotPermitted, match="governance"):
        lifecycle.freeze(store, one.id, actor=USER, reason="")
    frozen = lifecycle.freeze(store, one.id, actor=BOSS, reason="evidence")
    with pytest.raises(FrozenCube, match="frozen"):
        revise(store, frozen, "another text")
    with pytest.raises(FrozenCube), store.transaction() as tx:
        tx.close(one.id, at=now())
    for verb in (lifecycle.archive, lifecycle.retract, lifecycle.restore):
        with pytest.raises(LaminaError):
            verb(store, one.id, actor=BOSS, reason="")
    with pytest.raises(FrozenCube):
        lifecycle.restore(store, one.id, version=1, actor=BOSS, reason="")
    copy = lifecycle.branch(store, one.id, actor=USER, reason="what if")
    assert store.get(one.id) == frozen
    assert (copy.text, copy.header.state, copy.header.version) == (one.text, State.GENERATED, 1)
    assert copy.header.lineage.derived_from == ((one.id, 2),)
    assert [found.id for found in store.query(ALICE).cubes] == [one.id], "the owner finds the original alone"
    revise(store, copy, "what if she lived in Rome")
    assert store.get(one.id) == frozen
    with pytest.raises(NotPermitted):
        lifecycle.unfreeze(store, one.id, actor=USER, reason="")
    assert lifecycle.unfreeze(store, one.id, actor=BOSS, reason="done").header.state is State.ACTIVE


def test_unfreezing_goes_back_to_where_it_was_frozen(store: SqliteStore) -> None:
    one = put(store, State.ARCHIVED)
    lifecycle.freeze(store, one.id, actor=BOSS, reason="")
    with pytest.raises(IllegalTransition, match="archived when it was frozen"):
        transition(store, one.id, State.ACTIVE, actor=BOSS, reason="")
    assert lifecycle.unfreeze(store, one.id, actor=BOSS, reason="").header.state is State.ARCHIVED


def test_restore_writes_a_new_version_equal_to_an_old_one(store: SqliteStore) -> None:
    one = put(store)
    revise(store, one, "Alice lives in Denver")
    back = lifecycle.restore(store, one.id, version=1, vector=unit(1), actor=USER, reason="undo")
    assert [v.text for v in store.versions(one.id)] == ["Alice lives in Boston", "Alice lives in Denver", one.text]
    assert (back.header.version, back.header.claim, back.header.lineage.derived_from) == (3, None, ((one.id, 1),))
    with pytest.raises(NotFound):
        lifecycle.restore(store, one.id, version=9, actor=USER, reason="")
    with pytest.raises(NotFound):
        transition(store, "nobody", State.ACTIVE, actor=USER, reason="")


def test_merged_parents_leave_search_and_their_child_inherits_edges(store: SqliteStore) -> None:
    first, second = put(store, text="Alice likes tea"), put(store, text="Alice likes green tea")
    other = put(store, text="Tea is grown in Assam")
    at = now()
    edges = [
        Edge(source=first.id, target=other.id, relation="about", recorded=at),
        Edge(source=second.id, target=other.id, relation="about", recorded=at),
        Edge(source=first.id, target=second.id, relation="like", recorded=at),
    ]
    with store.transaction() as tx:
        tx.connect(edges)
    child = lifecycle.merge(store, fuse([first, second]), unit(2), actor=USER, reason="duplicate")
    assert {one.id for one in store.query(ALICE).cubes} == {child.id, other.id}
    assert [state_of(store.get(one.id) or one) for one in (first, second)] == [State.MERGED] * 2
    now_open = [(edge.source, edge.target) for edge in store.edges(ALICE, [child.id])]
    assert now_open == [(child.id, other.id)]
    frozen = put(store, text="a")
    lifecycle.freeze(store, frozen.id, actor=BOSS, reason="")
    both = fuse([frozen, other])
    with pytest.raises(FrozenCube):
        lifecycle.merge(store, both, unit(2), actor=USER, reason="")
    assert store.get(both.id) is None, "all or nothing"
    with pytest.raises(InvalidInput, match="no parents"):
        lifecycle.merge(store, cube(), None, actor=USER, reason="")


def test_sweep_closes_what_expired_and_archives_what_is_idle(store: SqliteStore) -> None:
    at = now()
    old = datetime(2020, 1, 1, tzinfo=UTC)
    expired, later = put(store, expires=at - DAY), put(store, expires=at + 200 * DAY)
    imported = put(store, recorded=old)  # said long ago, new here
    keeper = put(store, retention=1000)
    brief = put(store, retention=2)
    entity = put(store, semantic_type="entity")
    used = put(store)
    frozen = put(store, expires=at - DAY)
    lifecycle.freeze(store, frozen.id, actor=BOSS, reason="")
    foreign = put(store, scope=Scope(user="bob"), expires=at - DAY)
    swept = lifecycle.sweep(store, ALICE, at)
    assert (swept.expired, swept.archived) == ([expired.id], [])
    row = list(store.events(cube=expired.id))[-1]
    assert (row.action, row.reason, row.details["to"]) == ("retract", "TTL", "deleted")
    assert lifecycle.sweep(store, ALICE, at + 3 * DAY).archived == [brief.id]
    last = {used.id: at + 80 * DAY}
    swept = lifecycle.sweep(store, ALICE, at + 91 * DAY, last_use=lambda one: last.get(one.id))
    assert set(swept.archived) == {imported.id, later.id}
    for one in (keeper, entity, used):
        assert store.get(one.id) == one
    assert store.get(foreign.id) == foreign
    assert lifecycle.restore(store, brief.id, actor=USER, reason="needed").header.state is State.ACTIVE
    assert state_of(store.get(frozen.id) or frozen) is State.FROZEN
    assert lifecycle.sweep(store, ALICE, at + 91 * DAY, last_use=lambda one: last.get(one.id)).archived == [brief.id]


def test_use_recorded_in_the_header_counts(store: SqliteStore) -> None:
    at = now()
    one = put(store, usage=Usage(3, at + 50 * DAY))
    assert lifecycle.sweep(store, ALICE, at + 100 * DAY).archived == []
    assert lifecycle.sweep(store, ALICE, at + 141 * DAY).archived == [one.id]


def test_says_the_same_tells_a_change_of_state_from_a_change_of_content(store: SqliteStore) -> None:
    one = put(store)
    frozen = lifecycle.freeze(store, one.id, actor=BOSS, reason="")
    assert lifecycle.says_the_same(store, one.id, 1) and lifecycle.says_the_same(store, one.id, 2)
    lifecycle.unfreeze(store, one.id, actor=BOSS, reason="")
    revise(store, store.get(one.id) or frozen, "Alice lives in Denver")
    assert not lifecycle.says_the_same(store, one.id, 2)
    assert lifecycle.says_the_same(store, one.id, 4)
    assert not lifecycle.says_the_same(store, one.id, 9)
    assert not lifecycle.says_the_same(store, "nobody", 1)
    lifecycle.retract(store, one.id, actor=USER, reason="")
    assert not lifecycle.says_the_same(store, one.id, 4)


def test_the_front_door_cannot_change_what_is_frozen(tmp_path: Path) -> None:
    class Embedder:
        name, dimension = "unit", 8

        def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
            return np.stack([unit(len(text)) for text in texts])

        def forget(self, texts: Any) -> None:
            """Nothing is kept."""

    with Memory(tmp_path / "front.db", embedder=Embedder()) as memory:
        added = memory.add("I live in Boston.", user_id="alice")["results"]
        id = added[-1]["id"]
        lifecycle.freeze(memory.store, id, actor=BOSS, reason="evidence")
        before = memory.store.versions(id)
        for change in (
            lambda: memory.update(id, "I live in Rome."),
            lambda: memory.update(id, metadata={"a": 1}),
            lambda: memory.delete(id),
            lambda: memory.delete_all(user_id="alice"),
            lambda: memory.forget(id),
            lambda: memory.reset(),
        ):
            with pytest.raises(FrozenCube, match="frozen"):
                change()
        assert memory.store.versions(id) == before
        assert id in [hit["id"] for hit in memory.search("Where do I live?", filters={"user_id": "alice"})["results"]]
