"""``LaminaStore`` against LangGraph's ``InMemoryStore``: the same operations give the same results.

Three things are taken out of the comparison. Scores. The order of a search without a query: here the newest put comes
first, as in LangGraph's own database stores; the reference is sorted so. Namespaces without items, which the reference
keeps listing when they were merely read.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langgraph.store.base import GetOp, Item, Op, PutOp
from langgraph.store.memory import InMemoryStore

from lamina import Memory
from lamina.client import Client
from lamina.integrations.langgraph import LaminaStore

ALL = 10_000
_numbers = itertools.count()

# Few, so that operations meet; those that are spelled alike, and that a path must escape.
SPACES = st.sampled_from([("a",), ("ab",), ("a", "b"), ("a b", "ü%2E/"), ("a", "b", "*"), ("b", "b")])
KEYS = st.sampled_from(["k", "K", "ключ и 2", ""])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda part: st.lists(part, max_size=3) | st.dictionaries(st.text(max_size=4), part, max_size=3),
    max_leaves=6,
)
VALUES = st.fixed_dictionaries(
    {"n": st.integers(-2, 2), "tag": st.sampled_from(["x", "y", None]), "o": st.fixed_dictionaries({"p": JSON})},
    optional={"text": st.text(max_size=20), "list": st.lists(st.integers(0, 1), max_size=2), "any": JSON},
)
INDEX = st.none() | st.just(False) | st.sampled_from([["text"], ["list[*]", "o.p"], ["nowhere"]])
COMPARED = st.sampled_from(["$eq", "$ne", "$gt", "$gte", "$lt", "$lte"])
FILTERS = st.none() | st.one_of(
    st.fixed_dictionaries({"tag": st.sampled_from(["x", None])}),
    st.fixed_dictionaries({"n": st.dictionaries(COMPARED, st.integers(-2, 2), min_size=1, max_size=2)}),
    st.fixed_dictionaries({"list": st.lists(st.integers(0, 1), max_size=2)}),
    st.fixed_dictionaries({"o": st.fixed_dictionaries({"p": st.none() | st.booleans()}), "n": st.integers(-1, 1)}),
)
PAGES = st.fixed_dictionaries({"limit": st.integers(0, 5), "offset": st.integers(0, 3)})
PREFIXES = st.just(()) | SPACES
PATHS = st.none() | SPACES | st.sampled_from([("*",), ("*", "b"), ("a", "*"), ("b",), ("a b",)])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), SPACES, KEYS, VALUES, INDEX),
        st.tuples(st.just("delete"), SPACES, KEYS),
        st.tuples(st.just("get"), SPACES, KEYS),
        st.tuples(st.just("search"), PREFIXES, FILTERS, PAGES),
        st.tuples(st.just("query"), PREFIXES, FILTERS, st.sampled_from(["x", "two words", " "])),
        st.tuples(st.just("list"), PATHS, PATHS, st.none() | st.integers(1, 3), PAGES),
        st.tuples(st.just("batch"), SPACES, KEYS, VALUES, VALUES),
    ),
    min_size=3,
    max_size=25,
)


class Both:
    """Does each step to both stores and holds the results against each other."""

    def __init__(self, store: LaminaStore) -> None:
        self.store = store
        self.plain = InMemoryStore()  # with an index it fails where two paths hold the same text
        self.order: dict[tuple[tuple[str, ...], str], int] = {}

    def step(self, name: str, *given: Any) -> None:
        getattr(self, name)(*given)
        for space in [space for space, kept in self.plain._data.items() if not kept]:
            del self.plain._data[space]

    def put(self, space: tuple[str, ...], key: str, value: dict[str, Any], index: Any) -> None:
        for store in (self.store, self.plain):
            store.put(space, key, value, index)
        self.order[(space, key)] = next(_numbers)
        self.get(space, key)

    def delete(self, space: tuple[str, ...], key: str) -> None:
        for store in (self.store, self.plain):
            store.delete(space, key)
        self.get(space, key)

    def get(self, space: tuple[str, ...], key: str) -> None:
        ours = self.store.get(space, key)
        assert _seen([ours]) == _seen([self.plain.get(space, key)])
        assert ours is None or ours.created_at <= ours.updated_at

    def search(self, prefix: tuple[str, ...], wanted: Any, page: dict[str, Any]) -> None:
        found = self.plain.search(prefix, filter=wanted, limit=ALL)
        found.sort(key=lambda item: -self.order[(item.namespace, item.key)])
        expected = found[page["offset"] :][: page["limit"]]
        assert _seen(self.store.search(prefix, filter=wanted, **page)) == _seen(expected)

    def query(self, prefix: tuple[str, ...], wanted: Any, query: str) -> None:
        expected = _seen(self.plain.search(prefix, filter=wanted, query=query, limit=ALL))
        found = self.store.search(prefix, filter=wanted, query=query, limit=ALL)
        assert sorted(_seen(found)) == sorted(expected)
        scores = [item.score for item in found if item.score is not None]
        assert scores == sorted(scores, reverse=True) and all(item.score is None for item in found[len(scores) :])
        pages = [self.store.search(prefix, filter=wanted, query=query, limit=2, offset=n) for n in range(0, 8, 2)]
        assert _seen(itertools.chain(*pages)) == _seen(found[:8])

    def list(self, prefix: Any, suffix: Any, depth: int | None, page: dict[str, int]) -> None:
        given = {"prefix": prefix, "suffix": suffix, "max_depth": depth, **page}
        assert self.store.list_namespaces(**given) == self.plain.list_namespaces(**given)

    def batch(self, space: tuple[str, ...], key: str, one: dict[str, Any], two: dict[str, Any]) -> None:
        """Reads see what was before, the last put counts."""
        ops: list[Op] = [
            PutOp(space, key, one),
            GetOp(space, key),
            PutOp(space, key, two),
            PutOp((*space, "deep"), key, None),
        ]
        ours, theirs = self.store.batch(ops), self.plain.batch(ops)
        assert _seen(ours) == _seen(theirs)
        self.order[(space, key)] = next(_numbers)
        self.get(space, key)


def _seen(items: Any) -> list[str]:
    """What a caller sees of items, types of numbers included."""
    return [repr(one and (one.namespace, one.key, one.value)) for one in items if one is None or isinstance(one, Item)]


@settings(max_examples=120)
@given(steps=STEPS)
def test_it_does_what_langgraphs_own_store_does(hashed: Memory, steps: Sequence[tuple[Any, ...]]) -> None:
    both = Both(LaminaStore(hashed, agent_id=f"agent{next(_numbers)}"))
    for step in steps:
        both.step(*step)


@settings(max_examples=12)
@given(steps=STEPS)
def test_it_does_so_behind_http(remote: Client, steps: Sequence[tuple[Any, ...]]) -> None:
    both = Both(LaminaStore(remote, user_id=f"user{next(_numbers)}", on_delete="forget"))
    for step in steps:
        both.step(*step)


@pytest.mark.parametrize("kind", ["prefix", "suffix"])
def test_namespaces_that_begin_alike_are_kept_apart(hashed: Memory, kind: str) -> None:
    both = Both(LaminaStore(hashed, agent_id=f"alike-{kind}"))
    for space in [("a",), ("ab",), ("a", "b"), ("a b",), ("a", "b", "c"), ("b", "a")]:
        both.put(space, "k", {"n": 1}, None)
    for path in [("a",), ("a", "b"), ("*", "b"), ("b",), ("*",), ("a", "*", "c")]:
        for depth in (None, 1, 2):
            found: dict[str, Any] = {kind: path, "max_depth": depth}
            assert both.store.list_namespaces(**found) == both.plain.list_namespaces(**found)
        if "*" not in path:
            both.search(path, None, {"limit": 10, "offset": 0})


@pytest.mark.parametrize("name", ["$eq", "$ne", "$gt", "$gte", "$lt", "$lte"])
def test_operators_compare_alike(hashed: Memory, name: str) -> None:
    both = Both(LaminaStore(hashed, agent_id=f"operators{name.removeprefix('$')}"))
    for key, value in enumerate([-2, -1, 0, 1, 1.5, "1", "2", True, False]):
        both.put(("v",), str(key), {"n": value}, None)
    for bound in (-2, 0, 1, 1.5, "1"):
        for wanted in ({name: bound}, {name: bound, "$lt": 2}, {name: bound, "$ne": 1}):
            both.search(("v",), {"n": wanted}, {"limit": 10, "offset": 0})


def test_a_dot_in_a_label_is_no_level(hashed: Memory) -> None:
    """``put`` refuses it, ``batch`` does not."""
    both = Both(LaminaStore(hashed, agent_id="dots"))
    for store in (both.store, both.plain):
        store.batch([PutOp(("a.b",), "k", {"n": 1}), PutOp(("a%2Eb",), "k", {"n": 2})])
    assert both.store.list_namespaces() == both.plain.list_namespaces() == [("a%2Eb",), ("a.b",)]
    both.get(("a", "b"), "k")
    assert both.store.search(("a",)) == []
