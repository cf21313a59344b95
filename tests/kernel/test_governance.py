"""Denied unless allowed; the filter in the query says what ``check`` says; no verb answers across tenants."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from lamina.cube.cube import Header, Lineage, MemCube, Policy, Provenance, Scope, Source, State, now
from lamina.cube.payload import TextPayload
from lamina.errors import FrozenCube, InvalidInput, NotFound, NotPermitted
from lamina.kernel import lifecycle
from lamina.kernel.governance import ACTIONS, Allow, Context, Deny, Principal, check, checked, owns, readable
from lamina.kernel.governing.guarded import Guarded
from lamina.memory import Memory
from lamina.store.base import Edge, Write
from lamina.store.filters import matches, parse
from lamina.store.sqlite import SqliteStore

ALICE, BOB = Principal(user="alice"), Principal(user="bob")
BOSS = Principal(user="boss", roles=frozenset({"governance"}))


class HashEmbedder:
    """Unit vectors that depend on the text and need no model."""

    name, dimension = "hash", 16

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        rows = [np.random.default_rng(len(t) * 7919 + sum(map(ord, t))).standard_normal(16) for t in texts]
        array = np.asarray(rows, np.float32)
        return array / np.linalg.norm(array, axis=1, keepdims=True)

    def forget(self, texts: Any) -> None:
        """Nothing is kept."""


def header(**fields: Any) -> Header:
    return Header(**{"scope": Scope(user="alice"), **fields})


@pytest.mark.parametrize(
    ("who", "action", "fields", "context", "allowed"),
    [
        (ALICE, "read", {}, {}, True),
        (BOB, "read", {}, {}, False),
        (Principal(tenant="acme", user="alice"), "read", {}, {}, False),
        (Principal(tenant="acme", roles=frozenset({"admin"})), "read", {"policy": Policy(read=("*",))}, {}, False),
        (BOB, "read", {"policy": Policy(read=("user:bob",))}, {}, True),
        (BOB, "read", {"policy": Policy(write=("user:bob",))}, {}, False),
        (BOB, "write", {"policy": Policy(read=("*",))}, {}, False),
        (BOB, "write", {"policy": Policy(write=("user:bob",))}, {}, True),
        (BOB, "forget", {"policy": Policy(("*",), ("*",), ("*",))}, {}, False),
        (BOB, "export", {"policy": Policy(("*",), ("*",), ("*",))}, {}, False),
        (Principal(agent="bot"), "read", {"policy": Policy(read=("agent:bot",))}, {}, True),
        (Principal(roles=frozenset({"nurse"})), "read", {"policy": Policy(read=("role:nurse",))}, {}, True),
        (Principal(roles=frozenset({"auditor"})), "read", {}, {}, True),
        (Principal(roles=frozenset({"auditor"})), "write", {}, {}, False),
        (Principal(roles=frozenset({"admin"})), "write", {}, {}, True),
        (Principal(), "read", {"scope": Scope()}, {}, False),
        (Principal(user="alice", agent="bot"), "read", {}, {}, True),
        (Principal(user="alice", agent="bot"), "read", {"scope": Scope(user="alice", agent="other")}, {}, False),
        (ALICE, "read", {"scope": Scope(user="alice", agent="other")}, {}, True),
        (Principal(user="bob", agent="bot"), "read", {"scope": Scope(agent="bot")}, {}, True),
        (ALICE, "read", {"expires": now() - timedelta(days=1)}, {}, False),
        (ALICE, "forget", {"expires": now() - timedelta(days=1)}, {}, True),
        (ALICE, "write", {"state": State.FROZEN}, {}, False),
        (ALICE, "promote", {"state": State.FROZEN}, {"form": "activation"}, True),
        (ALICE, "forget", {"state": State.FROZEN}, {}, False),
        (ALICE, "forget", {"state": State.FROZEN}, {"legal_override": True}, False),
        (BOSS, "forget", {"state": State.FROZEN}, {"legal_override": True}, True),
        (BOSS, "write", {}, {}, False),
        (ALICE, "promote", {}, {"form": "parameter"}, True),
        (ALICE, "promote", {}, {}, False),
        (ALICE, "promote", {"access": ("text",)}, {"form": "activation"}, False),
        (ALICE, "promote", {"sensitivity": ("email",)}, {"form": "parameter"}, False),
        (ALICE, "promote", {"sensitivity": ("email",)}, {"form": "activation"}, True),
        (ALICE, "export", {}, {}, True),
        (ALICE, "export", {}, {"destination": "user:bob"}, False),
        (ALICE, "share", {}, {}, False),
        (ALICE, "share", {"policy": Policy(share=("user:bob",))}, {"destination": "user:bob"}, True),
        (ALICE, "share", {"policy": Policy(share=("tenant:acme",))}, {"destination": "tenant:other"}, False),
        (ALICE, "share", {"policy": Policy(share=("*",))}, {"destination": "tenant:other"}, True),
        (ALICE, "export", {"state": State.ARCHIVED, "tags": ("quarantined",)}, {}, False),
        (ALICE, "read", {"state": State.ARCHIVED, "tags": ("quarantined",)}, {}, True),
    ],
)
def test_rules(who: Principal, action: Any, fields: Any, context: Any, allowed: bool) -> None:
    verdict = check(who, action, header(**fields), Context(**context))
    assert bool(verdict) is allowed
    assert isinstance(verdict, Allow if allowed else Deny)


def test_what_means_nobody_is_refused() -> None:
    assert checked(Policy(("user:a", "*"), ("role:b",), ("tenant:c",)))
    for bad in (Policy(read=("tenant:x",)), Policy(write=("alice",)), Policy(share=("user:",))):
        with pytest.raises(InvalidInput, match="means nobody"):
            checked(bad)
    with pytest.raises(InvalidInput, match="action"):
        check(ALICE, "fly", header())  # type: ignore[arg-type]


names = st.sampled_from([None, "alice", "bob"])
agents = st.sampled_from([None, "bot", "crawler"])
roles = st.frozensets(st.sampled_from(["admin", "auditor", "nurse", "governance"]), max_size=2)
principals = st.builds(Principal, st.just("default"), names, agents, roles)
entries = st.sampled_from(["*", "user:alice", "user:bob", "agent:bot", "role:nurse", "user:carol"])
policies = st.none() | st.builds(Policy, st.lists(entries, max_size=2).map(tuple))
headers = st.builds(Header, scope=st.builds(Scope, st.just("default"), names, agents), policy=policies)


@settings(max_examples=300, deadline=None)
@given(who=principals, of=headers)
def test_the_filter_and_the_check_agree(who: Principal, of: Header) -> None:
    where = readable(who)
    passes = where is None or matches(parse(where), of)
    assert passes == bool(check(who, "read", of))
    if owns(who, of):
        assert all(check(who, action, of, Context(form="text")) or action == "share" for action in ACTIONS)


def test_the_filter_means_the_same_in_the_database(tmp_path: Path) -> None:
    rng = random.Random(5)
    entry = ["*", "user:alice", "user:bob", "agent:bot", "role:nurse", "user:carol"]
    cubes = [
        MemCube(
            Header(
                scope=Scope("default", rng.choice([None, "alice", "bob"]), rng.choice([None, "bot"])),
                policy=rng.choice([None, Policy(tuple(rng.sample(entry, rng.randint(0, 2))))]),
            ),
            TextPayload(f"tea {n}"),
        )
        for n in range(150)
    ]
    with SqliteStore(tmp_path / "m.db", durable=False) as store:
        with store.transaction() as tx:
            tx.insert([Write(one) for one in cubes])
        for who in (
            ALICE, BOB, Principal(agent="bot"), Principal("default", "bob", "bot"), Principal(), BOSS,
            Principal(roles=frozenset({"nurse"})), Principal("acme", "alice"),
        ):  # fmt: skip
            guard = Guarded(store, who)
            expected = {one.id for one in cubes if check(who, "read", one)}
            assert {one.id for one in guard.query(Scope(), limit=1000).cubes} == expected
            assert len(guard.query(Scope(), limit=7).cubes) == min(7, len(expected)), "filtered before it is cut"
            keys = [key for key, _ in guard.match("tea", Scope(), limit=7)]
            assert len(keys) == min(7, len(expected))
            assert {one.id for one in store.load(keys)} <= expected
            full = [pair for pair in store.match("tea", Scope(), limit=1000) if store.load([pair[0]])[0].id in expected]
            assert guard.match("tea", Scope(), limit=7) == (full[:7] if who.tenant == "default" else [])


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Memory, dict[str, list[MemCube]]]]:
    """Four tenants with twenty-five open-handed memories each: only the tenant stands between them."""
    rng = random.Random(1)
    embedder = HashEmbedder()
    path = tmp_path_factory.mktemp("world") / "m.db"
    cubes = {
        tenant: [
            MemCube(
                Header(scope=Scope(tenant, rng.choice(["alice", "bob"])), policy=Policy(("*",), ("*",), ("*",))),
                TextPayload(f"{tenant} likes tea number {n}"),
            )
            for n in range(25)
        ]
        for tenant in ("t0", "t1", "t2", "t3")
    }
    with Memory(store=SqliteStore(path, durable=False, embedder="hash"), embedder=embedder) as memory:
        with memory.store.transaction() as tx:
            for group in cubes.values():
                tx.insert([Write(one, embedder.encode([one.text])[0]) for one in group])
                mine = [one for one in group if one.header.scope.user == "alice"]
                for one, other in itertools.pairwise(mine):
                    tx.connect([Edge(source=one.id, target=other.id, relation="next", recorded=now())])
        yield memory, cubes


def test_a_hundred_thousand_accesses_across_tenants_are_never_answered(
    world: tuple[Memory, dict[str, list[MemCube]]],
) -> None:
    memory, cubes = world
    store, rng = memory.store, random.Random(2)
    tenants = list(cubes)
    owner = {one.id: tenant for tenant, group in cubes.items() for one in group}
    rights = [frozenset[str](), frozenset({"admin"}), frozenset({"governance", "auditor"})]
    guards = {
        tenant: [
            Guarded(store, Principal(tenant, user, None, own), searcher=memory)
            for user in (None, "alice", "bob")
            for own in rights
        ]
        for tenant in tenants
    }
    by_id = ["get", "versions", "history", "update", "delete", "forget", "export", "promote", "share"]
    verbs = by_id * 3 + ["query", "match", "search", "edges"]
    before = store.last_change()
    asked: Counter[str] = Counter()
    for n in range(100_000):
        tenant, verb = tenants[n % 4], verbs[rng.randrange(len(verbs))]
        guard = guards[tenant][rng.randrange(9)]
        other = tenants[(n + 1 + rng.randrange(3)) % 4]
        one = cubes[other][rng.randrange(25)]
        scope = Scope(tenant if n % 50 == 0 else other)  # its own tenant now and then, with the other's words and ids
        asked[verb] += 1
        if verb in ("get", "versions", "history"):
            assert not getattr(guard, verb)(one.id)
        elif verb == "query":
            assert not [c for c in guard.query(scope, {"id": one.id}).cubes if owner[c.id] != tenant]
        elif verb == "match":
            assert not [c for c in store.load([k for k, _ in guard.match(one.text, scope)]) if owner[c.id] != tenant]
        elif verb == "search":
            assert not [hit for hit in guard.search(one.text, scope) if owner[hit.cube.id] != tenant]
        elif verb == "edges":
            assert not guard.edges(scope, [one.id])
        else:
            with pytest.raises(NotFound):
                _try(guard, verb, one)
    assert min(asked.values()) > 2000
    assert store.last_change() == before, "nothing was written"
    hits = Guarded(store, Principal("t0", "alice"), searcher=memory).search("tea", Scope("t0"))
    assert hits and {owner[hit.cube.id] for hit in hits} == {"t0"}, "its own are answered"


def _try(guard: Guarded, verb: str, one: MemCube) -> None:
    if verb == "update":
        guard.update(MemCube(replace(one.header, version=2), one.payload))
    elif verb == "promote":
        guard.promote(one.id, "activation")
    elif verb == "share":
        guard.share(one.id, destination="*")
    else:
        getattr(guard, verb)(one.id)


def test_what_may_be_read_but_not_changed_says_why(tmp_path: Path) -> None:
    one = MemCube(header(policy=Policy(read=("user:bob",))), TextPayload("tea"))
    with SqliteStore(tmp_path / "m.db", durable=False) as store:
        alice, bob = Guarded(store, ALICE), Guarded(store, BOB)
        with pytest.raises(NotPermitted):
            bob.insert(Write(one))
        alice.insert(Write(one, actor="forged"))
        assert next(iter(store.events())).actor == "user:alice"
        assert bob.get(one.id) == one
        for verb in ("update", "delete", "forget", "export", "promote", "share"):
            with pytest.raises(NotPermitted, match="user:bob may not"):
                _try(bob, verb, one)
        wider = replace(one.header, version=2, policy=Policy(("user:bob",), ("user:bob",)))
        alice.update(MemCube(wider, one.payload))
        for wrong in ({"state": State.FROZEN}, {"trust": "assistant"}, {"scope": Scope(user="bob")}):
            with pytest.raises((NotPermitted, InvalidInput)):
                bob.update(MemCube(replace(wider, version=3, **wrong), one.payload))
        with pytest.raises(NotPermitted, match="begin"):
            alice.insert(Write(MemCube(header(state=State.ARCHIVED), TextPayload("x"))))
        mine = replace(wider, version=3, policy=Policy(share=("*",)))
        with pytest.raises(NotPermitted, match="export"):
            bob.update(MemCube(mine, one.payload))
        bob.update(MemCube(replace(wider, version=3), TextPayload("green tea")))
        assert [v.text for v in alice.versions(one.id)] == ["tea", "tea", "green tea"]
        assert [e.actor for e in alice.history(one.id)] == ["user:alice", "user:alice", "user:bob"]
        assert alice.get(one.id, version=2) is not None
        with pytest.raises(NotPermitted, match="searcher"):
            alice.search("tea", Scope(user="alice"))
        assert [c.header.version for c in bob.query(Scope(), closed=True).cubes] == [3, 2, 1]
        closed = MemCube(replace(wider, version=4, policy=None), TextPayload("my tea"))
        alice.update(closed)
        assert bob.query(Scope(), closed=True).cubes == bob.query(Scope(), as_of=closed.header.recorded).cubes == []
        alice.update(MemCube(replace(wider, version=5), one.payload))
        bob.delete(one.id)
        boss = Guarded(store, BOSS)
        made = MemCube(header(lineage=Lineage(((one.id, 1),), "extract")), TextPayload("made of it"))
        alice.insert(Write(made))
        lifecycle.freeze(store, made.id, actor=BOSS, reason="evidence")
        for way in (alice.forget, boss.forget):
            with pytest.raises(FrozenCube):
                way(one.id)
        with pytest.raises(NotPermitted):
            alice.forget(made.id, legal_override=True)
        assert boss.forget(made.id, legal_override=True) == [made.id]
        assert alice.forget(one.id) == [one.id]
        assert alice.history(one.id) == []


@pytest.mark.parametrize("theirs", [Scope(user="alice"), Scope("acme", "alice")])
def test_forgetting_ones_own_takes_no_turn_of_others_along(tmp_path: Path, theirs: Scope) -> None:
    """A memory may name any turn as its source; whoever wrote it must not erase the turn by forgetting the memory."""
    turn = MemCube(Header(scope=theirs, semantic_type="turn", policy=Policy(read=("*",))), TextPayload("I like tea"))
    cites = Provenance((Source(turn.id, 0, 4),))
    with SqliteStore(tmp_path / "m.db", durable=False) as store:
        with store.transaction() as tx:
            tx.insert([Write(turn)])
        bob, boss = Guarded(store, BOB), Guarded(store, BOSS)
        for who in (bob, boss):
            fact = MemCube(Header(scope=Scope(user="bob"), provenance=cites), TextPayload("tea"))
            bob.insert(Write(fact))
            may = who is boss and theirs.tenant == "default"  # whose role lets it forget the turn as well
            assert who.forget(fact.id) == sorted([fact.id, *([turn.id] if may else [])])
        assert (store.get(turn.id) is None) == (theirs.tenant == "default")
