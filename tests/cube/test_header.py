"""Headers as JSON: nothing is lost, nothing unexpected is let in, and every error names its field."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from enum import Enum
from types import MappingProxyType
from typing import Any

import pytest
from cube_strategies import headers
from hypothesis import given

from lamina.cube import Header, Lineage, Scope, Source, State, Usage
from lamina.cube.header import MAX_HEADER_BYTES, from_json, to_json
from lamina.errors import InvalidInput

NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)
PLAIN = Header(id="a", created=NOON, recorded=NOON)


def naive(value: Any) -> Any:
    """The JSON of a header by the shortest route, to compare with."""
    if dataclasses.is_dataclass(value):
        pairs = ((field.name, getattr(value, field.name)) for field in dataclasses.fields(value))
        return {name: naive(item) for name, item in pairs if item is not None}
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    if isinstance(value, Enum):
        return value.value
    return [naive(item) for item in value] if isinstance(value, tuple) else value


@given(headers)
def test_round_trip(header: Header) -> None:
    text = to_json(header)
    assert from_json(text) == header
    assert json.loads(text) == naive(header)
    assert to_json(from_json(text)) == text


def test_types_come_back() -> None:
    header = from_json(to_json(Header(lineage=Lineage((("x", 2),)), metadata=MappingProxyType({"a": [1]}))))
    assert isinstance(header.state, State) and isinstance(header.tags, tuple)
    assert header.lineage.derived_from == (("x", 2),) and header.metadata == {"a": [1]}
    assert header.created.tzinfo is UTC


def test_fields_added_later_fall_back_to_their_default() -> None:
    old = {key: value for key, value in json.loads(to_json(PLAIN)).items() if key not in {"usage", "importance"}}
    assert from_json(json.dumps(old)) == PLAIN


@pytest.mark.parametrize("field", ["id", "version", "kind", "scope", "created", "recorded", "state"])
def test_identity_has_no_default(field: str) -> None:
    rest = {key: value for key, value in json.loads(to_json(PLAIN)).items() if key != field}
    with pytest.raises(InvalidInput, match=f"lacks {field}"):
        from_json(json.dumps(rest))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("surprise", 1),
        ("scope.surprise", 1),
        ("id", 7),
        ("id", None),
        ("id", "\ud800"),
        ("version", "1"),
        ("version", 1.0),
        ("version", True),
        ("version", -1),
        ("version", 2**63),
        ("kind", "video"),
        ("kind", ["text"]),
        ("state", "ACTIVE"),
        ("state", {}),
        ("created", "2024-05-01T12:00:00"),
        ("created", "2024-05-01T12:00:00+02:00"),
        ("created", "yesterday"),
        ("created", 1714564800),
        ("scope", "default"),
        ("scope.user", 3),
        ("tags", "ab"),
        ("tags", {"a": 1}),
        ("tags", ["a", 1]),
        ("importance", "high"),
        ("importance", False),
        ("importance", 10**400),
        ("importance", float("nan")),
        ("importance", float("inf")),
        ("lineage.derived_from", [["x", 1, 2]]),
        ("lineage.derived_from", [["x"]]),
        ("provenance.sources", [{"id": "x", "start": 0}]),
        ("usage.last", "2024"),
        ("metadata", []),
        ("metadata.deep", [[[]]]),
        ("metadata.big", 2**64),
        ("metadata.text", "\udc00"),
        ("metadata.float", 1e999),
    ],
    ids=str,
)
def test_reading_names_the_bad_field(path: str, value: Any) -> None:
    for _ in range(40 if path == "metadata.deep" else 0):
        value = [value]
    document = json.loads(to_json(PLAIN))
    *parents, leaf = path.split(".")
    target = document
    for parent in parents:
        target = target[parent]
    target[leaf] = value
    with pytest.raises(InvalidInput, match=f"{leaf}|unknown keys|NaN|Infinity"):
        from_json(json.dumps(document))


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("created", {"created": datetime(2024, 5, 1)}),
        ("created", {"created": datetime.min.replace(tzinfo=timezone(timedelta(hours=2)))}),
        ("created", {"created": "2024-05-01"}),
        ("importance", {"importance": float("nan")}),
        ("tags", {"tags": ["a"]}),
        ("tags.1", {"tags": ("a", "\ud800")}),
        ("scope", {"scope": {"tenant": "x"}}),
        ("scope.user", {"scope": Scope(user="\udfff")}),
        ("state", {"state": "gone"}),
        ("usage.count", {"usage": Usage(-1)}),
        ("provenance", {"provenance": Source("x", 0, 1)}),
        ("metadata.a", {"metadata": {"a": (1, 2)}}),
        ("metadata.a", {"metadata": {"a": b"bytes"}}),
        ("metadata.a.b", {"metadata": {"a": {"b": float("inf")}}}),
        ("metadata", {"metadata": {1: "key"}}),
        ("metadata", {"metadata": "text"}),
        ("lineage.derived_from.0", {"lineage": Lineage((("x", -1),))}),
    ],
    ids=range(17),
)
def test_writing_names_the_bad_field(field: str, change: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match=rf"Header\.{field} "):
        to_json(dataclasses.replace(PLAIN, **change))


def test_a_circle_in_metadata_ends() -> None:
    circle: list[Any] = []
    circle.append(circle)
    with pytest.raises(InvalidInput, match="nested deeper"):
        to_json(dataclasses.replace(PLAIN, metadata={"a": circle}))


@pytest.mark.parametrize("step", [to_json, lambda header: from_json(json.dumps(naive(header)))])
def test_size_is_bounded_both_ways(step: Callable[[Header], object]) -> None:
    with pytest.raises(InvalidInput, match="limit"):
        step(dataclasses.replace(PLAIN, metadata={"a": "x" * MAX_HEADER_BYTES}))


def test_a_number_that_overflows_is_not_finite() -> None:
    text = to_json(PLAIN)
    for huge in (text.replace('"importance":0.5', '"importance":1e999'), text.replace("{}", '{"a":-1e999}')):
        assert huge != text
        with pytest.raises(InvalidInput, match="must be a finite number"):
            from_json(huge)
