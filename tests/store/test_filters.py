"""Filters: what is refused, what each operator means, and that SQL and the naive meaning always agree."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contracts.postgres import PostgresServer
from contracts.store import ALICE, BOB, cube, insert
from lamina.cube.cube import Claim, Header, Utterance
from lamina.errors import InvalidInput
from lamina.store.base import Write
from lamina.store.filters import HEADER_FIELDS, OPERATORS, Node, matches, parse
from lamina.store.postgres import PostgresStore
from lamina.store.sqlite import SqliteStore
from lamina.store.transaction import SqlTransaction

Both = SqliteStore | PostgresStore
T = datetime(2024, 5, 1, tzinfo=UTC)


def holds(where: dict[str, Any], **header: Any) -> bool:
    return matches(parse(where), Header(scope=ALICE, **header))


# -- meaning, case by case ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("where", "metadata", "expected"),
    [
        ({"a": 1}, {"a": 1.0}, True),
        ({"a": 1}, {"a": True}, False),
        ({"a": 1}, {"a": "1"}, False),
        ({"a": True}, {"a": 1}, False),
        ({"a": True}, {"a": True}, True),
        ({"a": ""}, {"a": ""}, True),
        ({"a": None}, {}, True),
        ({"a": None}, {"a": None}, True),
        ({"a": None}, {"a": 0}, False),
        ({"a": {"ne": None}}, {"a": 0}, True),
        ({"a": {"ne": 1}}, {}, True),
        ({"a": {"ne": 1}}, {"a": "1"}, True),
        ({"a": {"ne": 1}}, {"a": 1}, False),
        ({"a": {"gt": 1}}, {"a": 2}, True),
        ({"a": {"gt": 1}}, {"a": "2"}, False),
        ({"a": {"gt": 1}}, {"a": True}, False),
        ({"a": {"gt": 1}}, {}, False),
        ({"a": {"gte": "b"}}, {"a": "ba"}, True),
        ({"a": {"lt": "b"}}, {"a": "ä"}, False),
        ({"a": {"gt": 1, "lt": 3}}, {"a": 3}, False),
        ({"a": {"in": [1, "x", None]}}, {}, True),
        ({"a": {"in": [1, "x"]}}, {}, False),
        ({"a": {"in": [1, "x"]}}, {"a": 1.0}, True),
        ({"a": {"in": [1, "x"]}}, {"a": ["y", "x"]}, True),
        ({"a": {"in": []}}, {"a": 1}, False),
        ({"a": {"nin": []}}, {}, True),
        ({"a": {"nin": [1]}}, {"a": [1]}, False),
        ({"a": {"contains": "bc"}}, {"a": "abcd"}, True),
        ({"a": {"contains": "bc"}}, {"a": ["abcd"]}, False),
        ({"a": {"contains": "bc"}}, {"a": ["bc"]}, True),
        ({"a": {"contains": 1}}, {"a": [True]}, False),
        ({"a": {"contains": 1}}, {"a": 1}, False),
        ({"a": {"icontains": "STRASSE"}}, {"a": "Die Straße"}, True),
        ({"a": {"icontains": "STRASSE"}}, {"a": ["straße"]}, True),
        ({"a": {"icontains": "STRASS"}}, {"a": ["straße"]}, False),
        ({"a": "*"}, {"a": None}, False),
        ({"a": "*"}, {"a": []}, True),
        ({"a": {"eq": "*"}}, {"a": "*"}, True),
        ({"a": {"eq": "*"}}, {"a": "x"}, False),
        ({"a.b": 1}, {"a": {"b": 1}}, True),
        ({"a.b": 1}, {"a.b": 1}, True),
        ({"a.b": 1}, {"a": [{"b": 1}]}, False),
        ({"a.b": 1}, {"a": "text"}, False),
        ({"a": 1, "b": 2}, {"a": 1}, False),
        ({"metadata.kind": "x"}, {"kind": "x"}, True),
        ({"AND": [{"a": 1}, {"b": 2}]}, {"a": 1, "b": 2}, True),
        ({"or": [{"a": 1}, {"b": 2}]}, {"b": 2}, True),
        ({"NOT": [{"a": 1}, {"b": 2}]}, {"b": 2}, False),
        ({"not": {"a": 1}}, {"b": 2}, True),
        ({"NOT": [{"NOT": [{"a": 1}]}]}, {"a": 1}, True),
        ({"a": {"gt": 2**53}}, {"a": 2**53 + 1}, True),
    ],
)
def test_metadata(store: Both, where: dict[str, Any], metadata: dict[str, Any], expected: bool) -> None:
    assert holds(where, metadata=metadata) is expected
    with pytest.raises(ZeroDivisionError), store.transaction() as tx:
        tx.insert([Write(cube("x", metadata=metadata))])
        assert len(passing(store, tx, parse(where))) == expected
        raise ZeroDivisionError


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ({"user_id": "alice"}, True),
        ({"agent_id": None}, True),
        ({"agent_id": "*"}, False),
        ({"kind": {"in": ["text"]}}, True),
        ({"speaker": {"icontains": "ÄL"}}, True),
        ({"role": "user", "session": "s", "ordinal": 3}, True),
        ({"ordinal": {"gte": 2.5, "lt": 4}}, True),
        ({"subject": "ALICE"}, True),
        ({"slot": {"ne": "residence"}}, False),
        ({"importance": {"gte": 0.5}}, True),
        ({"version": {"in": [1, 2]}}, True),
        ({"recorded": {"gt": "2024-04-30"}}, True),
        ({"created_at": {"lt": "2024-05-01T02:00:00+02:00"}}, False),
        ({"updated_at": {"lte": "2024-05-01T02:00:00+02:00"}}, True),
        ({"valid_from": date(2024, 5, 1)}, True),
        ({"valid_to": None}, True),
        ({"valid_to": {"lt": T}}, False),
        ({"recorded": {"in": [datetime(2024, 5, 1, 1, tzinfo=timezone(timedelta(hours=1)))]}}, True),
        ({"tags": {"contains": "a"}}, True),
        ({"tags": {"icontains": "A"}}, True),
        ({"tags": {"in": ["x", "b"]}}, True),
        ({"tags": {"nin": ["x"]}}, True),
        ({"tags": "*"}, True),
        ({"entities": "*"}, False),
        ({"entities": None}, True),
        ({"state": "active"}, True),
        ({"trust": {"contains": "se"}}, True),
    ],
)
def test_header_fields(where: dict[str, Any], expected: bool) -> None:
    header = Header(
        scope=ALICE, recorded=T, valid_from=T, tags=("a", "b"), utterance=Utterance("s", 3, "Älice", "user"),
        claim=Claim("alice", "residence"),
    )  # fmt: skip
    assert matches(parse(where), header) is expected


# -- what is refused ----------------------------------------------------------------------------------


def _deep(levels: int) -> dict[str, Any]:
    where: dict[str, Any] = {"a": 1}
    for _ in range(levels):
        where = {"AND": [where]}
    return where


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ({}, "non-empty dict"),
        ([], "non-empty dict"),
        ("a", "non-empty dict"),
        ({1: 2}, "name of a field"),
        ({"": 2}, "name of a field"),
        ({"a": {}}, "empty dict of operators; allowed: eq, ne"),
        ({"a": {"like": 1}}, "unknown operator 'like' for a; allowed: eq, ne, gt"),
        ({"a": {"$gt": 1}}, r"unknown operator '\$gt'"),
        ({"a": {"b": 1, "eq": 2}}, "unknown operator 'b'"),
        ({"AND": []}, "AND takes a non-empty list"),
        ({"or": "x"}, "or takes a non-empty list"),
        ({"NOT": [1]}, "non-empty dict"),
        ({"a": [1, 2]}, r"a is compared with \[1, 2\]"),
        ({"a": {"eq": {"b": 1}}}, "a is compared with"),
        ({"a": {"gt": True}}, "true and false have no order"),
        ({"a": {"gt": None}}, "a is compared with None"),
        ({"a": {"in": "abc"}}, "give a list"),
        ({"a": {"in": range(20_000)}}, "give a list"),
        ({"a": {"in": list(range(20_000))}}, "the limit is 10000"),
        ({"a": {"contains": None}}, "contains None"),
        ({"a": {"contains": [1]}}, "a is compared with"),
        ({"a": {"icontains": 1}}, "give text"),
        ({"a": float("nan")}, "finite"),
        ({"a": {"lt": float("inf")}}, "finite"),
        ({"a": 2**63}, "64 bits"),
        ({"a": "\0"}, "NUL"),
        ({"\0": 1}, "NUL"),
        ({"a": "\ud800"}, "surrogate"),
        ({"a.\ud800": 1}, "surrogate"),
        ({"a.b.c.d.e.f.g.h.i": 1}, "the limit is 8"),
        ({"user_id": 3}, "give text"),
        ({"importance": "high"}, "give a number"),
        ({"importance": True}, "give a number"),
        ({"importance": {"contains": 1}}, "does not apply"),
        ({"recorded": "yesterday"}, "recorded is a time"),
        ({"recorded": 17}, "recorded is a time"),
        ({"recorded": {"icontains": "2024"}}, "does not apply"),
        ({"recorded": "0001-01-01T00:00:00+09:00"}, "years 1 to 9999"),
        ({"tags": "home"}, "tags is a list; use contains"),
        ({"tags": {"gt": "home"}}, "tags is a list; use contains"),
        ({"tags": {"contains": 1}}, "give text"),
        ({"OR": [{str(n): n} for n in range(300)]}, "300 conditions; the limit is 256"),
        (_deep(33), "deeper than 32"),
        (_deep(10_000), "deeper than 32"),
    ],
)
def test_refusals_name_what_is_wrong(where: Any, message: str) -> None:
    with pytest.raises(InvalidInput, match=message) as caught:
        parse(where)
    assert "where" in str(caught.value)
    assert len(str(caught.value)) < 500


def test_the_limits_themselves_are_allowed(store: Both) -> None:
    for where in (_deep(32), {"OR": [{str(n): n} for n in range(256)]}, {"a": {"in": list(range(10_000))}}):
        assert store.query(ALICE, where).cubes == []


# -- SQL and Python agree -----------------------------------------------------------------------------

# Few keys and values, so that filters and memories often speak of the same; hostile ones among them.
TEXTS = st.sampled_from(["a", "ab", "A"]) | st.sampled_from(
    ["", "b", "ß", "SS", "z\u0301", "東", "🎈", '"', "'", "\\", "a.b", "*", "0", "1"]
)
KEYS = st.sampled_from(["a", "b"]) | st.sampled_from(
    ["a.b", "x y", '"', "'", "$", "[0]", "\\", "é", "kind", "🎈", "0", "#-1", "a[0]"]
)
NUMBERS = st.one_of(
    st.sampled_from([0, 1, 1.0, 0.1]),
    st.sampled_from([-1, 2**53, 2**53 + 1, 2**63 - 1, -(2**63) + 1, 0.0, -0.0, 1e300, 5e-324]),
    st.integers(-(2**63) + 1, 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False).filter(lambda x: abs(x) < 1e308),
)
SCALARS = st.one_of(TEXTS, NUMBERS, st.booleans())
JSON = st.recursive(
    st.one_of(SCALARS, st.none()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(KEYS, inner, max_size=3)),
    max_leaves=6,
)
TIMES = st.sampled_from([T + timedelta(microseconds=n) for n in (-1, 0, 1)])
WORDS = st.sampled_from(["alice", "Alice", "bob", "", "ß"])
HEADERS = st.builds(
    Header,
    scope=st.sampled_from([ALICE, BOB]),
    semantic_type=st.sampled_from(["fact", "turn"]),
    recorded=TIMES,
    valid_from=st.none() | TIMES,
    utterance=st.none() | st.builds(Utterance, WORDS, st.integers(0, 3), WORDS, st.sampled_from(["user", "tool"])),
    claim=st.none() | st.builds(Claim, WORDS, st.none() | WORDS),
    importance=st.sampled_from([0.0, 0.1, 0.5, 1.0]),
    tags=st.lists(TEXTS, max_size=3).map(tuple),
    metadata=st.dictionaries(KEYS, JSON, max_size=4),
)
FIELDS = st.one_of(KEYS, st.lists(KEYS, min_size=1, max_size=3).map(".".join), KEYS.map("metadata.{}".format))
JSON_CONDITIONS = st.one_of(
    SCALARS,
    st.none(),
    st.just("*"),
    st.dictionaries(st.sampled_from(["eq", "ne"]), st.one_of(SCALARS, st.none()), min_size=1),
    st.dictionaries(st.sampled_from(["gt", "gte", "lt", "lte"]), st.one_of(TEXTS, NUMBERS), min_size=1),
    st.dictionaries(st.sampled_from(["in", "nin"]), st.lists(st.one_of(SCALARS, st.none()), max_size=4), min_size=1),
    st.fixed_dictionaries({"contains": SCALARS}),
    st.fixed_dictionaries({"icontains": TEXTS}),
)


def _typed(names: list[str], values: st.SearchStrategy[Any], parts: bool) -> st.SearchStrategy[dict[str, Any]]:
    operators = st.dictionaries(st.sampled_from(["eq", "ne", "gt", "gte", "lt", "lte"]), values, min_size=1, max_size=2)
    forms = [values, st.none(), st.just("*"), operators, st.builds(lambda v: {"in": v}, st.lists(values, max_size=3))]
    if parts:
        forms += [st.builds(lambda v: {"contains": v}, values), st.builds(lambda v: {"icontains": v}, values)]
    return st.dictionaries(st.sampled_from(names), st.one_of(forms), min_size=1, max_size=2)


CONDITIONS = st.one_of(
    st.dictionaries(FIELDS.filter(lambda name: name not in HEADER_FIELDS), JSON_CONDITIONS, min_size=1, max_size=2),
    _typed(["user_id", "speaker", "role", "slot", "subject", "semantic_type", "agent_id"], WORDS, True),
    _typed(["ordinal", "importance", "version"], st.sampled_from([0, 1, 0.1, 0.5, 2.5]), False),
    _typed(["recorded", "valid_from", "valid_to", "created_at"], TIMES, False),
    st.dictionaries(
        st.just("tags"),
        st.one_of(
            st.sampled_from(["*", None]),
            st.dictionaries(st.sampled_from(["contains", "icontains"]), TEXTS, min_size=1),
            st.dictionaries(st.sampled_from(["in", "nin"]), st.lists(TEXTS, max_size=3), min_size=1),
        ),
        min_size=1,
    ),
)
FILTERS = st.recursive(
    CONDITIONS,
    lambda inner: st.builds(
        lambda name, parts: {name: parts},
        st.sampled_from(["AND", "OR", "NOT"]),
        st.lists(inner, min_size=1, max_size=3),
    ),
    max_leaves=5,
)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SqliteStore]:
    with SqliteStore(tmp_path_factory.mktemp("filters") / "m.db", durable=False) as store:
        yield store


@pytest.fixture(scope="module")
def server(postgres: PostgresServer) -> Iterator[PostgresStore]:
    with PostgresStore(postgres.new_database()) as store:
        yield store


@pytest.fixture(params=["file", "server"])
def store(request: pytest.FixtureRequest) -> Both:
    opened: Both = request.getfixturevalue(request.param)
    return opened


def passing(store: Both, tx: SqlTransaction, node: Node) -> set[str]:
    """Ids of the memories that pass a filter, as the transaction sees them."""
    sql, parameters = store._compiled(node)
    return {id for (id,) in tx._connection.execute(f"SELECT c.id FROM cubes c WHERE {sql}", parameters).fetchall()}


VALUES: list[Any] = [
    None, True, False, 0, 1, 1.0, 0.1, -1, 2**53, 2**53 + 1, 2**63 - 1, 1e300, 5e-324, "", "a", "ab", "A", "ß", "SS",
    "1", "true", "null", "*", '"', "'", "\\", "東", "z\u0301", "{}", "[]", "[1]", '{"b":1}',
]  # fmt: skip
NESTED: list[Any] = [
    [],
    {},
    [[]],
    [{"b": 1}],
    *({"b": v} for v in VALUES),
    *([v] for v in VALUES),
    ["a", 1, True, None],
]


def _every_condition() -> Iterator[Any]:
    yield from ("*", None)
    for value in VALUES:
        for operator in OPERATORS:
            yield {operator: [value] if operator in ("in", "nin") else value}
    yield from ({"in": VALUES}, {"nin": VALUES}, {"in": []}, {"nin": []}, {"gte": 0, "lt": 2})


def test_every_value_meets_every_condition_in_sql_as_in_python(store: Both) -> None:
    """All pairs, at the key itself, below it, and where both names exist."""
    documents: list[dict[str, Any]] = [{}, *({"a": v} for v in [*VALUES, *NESTED]), *({"a.b": v} for v in VALUES)]
    documents += [{"a.b": v, "a": {"b": "ab"}} for v in VALUES]
    headers = {(one := cube("x", metadata=metadata)).id: one for metadata in documents}
    tried = 0
    with pytest.raises(ZeroDivisionError), store.transaction() as tx:
        tx.insert([Write(one) for one in headers.values()])
        for name in ("a", "a.b", "metadata.a"):
            for condition in _every_condition():
                try:
                    node = parse({name: condition})
                except InvalidInput:
                    continue
                assert passing(store, tx, node) == {id for id, one in headers.items() if matches(node, one.header)}, (
                    name,
                    condition,
                )
                tried += 1
        raise ZeroDivisionError
    assert tried > 600


MEETING = given(headers=st.lists(HEADERS, min_size=3, max_size=8), wheres=st.lists(FILTERS, min_size=1, max_size=4))


@settings(max_examples=250, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@MEETING
def test_sql_agrees_with_the_naive_meaning(file: SqliteStore, headers: list[Header], wheres: list[Any]) -> None:
    agree(file, headers, wheres)


@settings(max_examples=80, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@MEETING
def test_sql_of_a_server_agrees_with_the_naive_meaning(
    server: PostgresStore, headers: list[Header], wheres: list[Any]
) -> None:
    agree(server, headers, wheres)


def agree(store: Both, headers: list[Header], wheres: list[Any]) -> None:
    cubes = {header.id: cube("x", **_kept(header)) for header in headers}
    with pytest.raises(ZeroDivisionError), store.transaction() as tx:  # rolled back: the file stays small
        tx.insert([Write(one) for one in cubes.values()])
        for where in wheres:
            node = parse(where)
            assert passing(store, tx, node) == {id for id, one in cubes.items() if matches(node, one.header)}, where
        raise ZeroDivisionError


def _kept(header: Header) -> dict[str, Any]:
    return {name: getattr(header, name) for name in Header.__slots__}


@settings(max_examples=200, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(name=st.text(min_size=1, max_size=40) | st.sampled_from(["'; DROP TABLE cubes; --", '") OR 1=1 --', "$.a", "?"]))
def test_a_hostile_field_name_is_only_a_name(store: Both, name: str) -> None:
    try:
        node = parse({name: "value", "b": {"in": [name, name * 2]}, "c": {"contains": name}})
    except InvalidInput:
        return  # a header field of another type, a lone surrogate, NUL, an operator word: refused by name
    sql, _ = store._compiled(node)
    allowed = set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_ ()?=<>,.*{}[]'$:#-\"")
    assert set(sql) <= allowed
    if name not in HEADER_FIELDS and name not in {"b", "c"}:
        harmless = {_shape(name): "value", "b": {"in": []}, "c": {"contains": ""}}
        assert sql == store._compiled(parse(harmless))[0]
    assert store.query(ALICE, {name: "value"}).cubes == []
    assert store.stats()["versions"] == 0


def _shape(name: str) -> str:
    """A harmless name with the same number of steps."""
    return ".".join("a" for _ in name.removeprefix("metadata.").split("."))


def test_every_field_and_operator_has_a_meaning_in_sql(store: Both) -> None:
    """No combination that ``parse`` lets through fails in the database."""
    insert(store, one := cube("x", metadata={"m": 1}))
    values: list[Any] = ["a", 1, 0.5, True, None, T, ["a", 1], []]
    tried = 0
    for name in [*HEADER_FIELDS, "m", "m.n"]:
        for operator in OPERATORS:
            for value in values:
                try:
                    node = parse({name: {operator: value}})
                except InvalidInput:
                    continue
                found = {cube.id for cube in store.query(ALICE, {name: {operator: value}}, closed=True).cubes}
                assert found == ({one.id} if matches(node, one.header) else set()), (name, operator, value)
                tried += 1
    assert tried > 300
    with store.transaction() as tx:
        tx.forget([one.id])
