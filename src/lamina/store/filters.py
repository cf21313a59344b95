"""Filters: what ``where=`` may say, checked once, and what it means, in Python.

Grammar (mem0's, with nothing left vague):

    filter    = {field: value, ...}                     every entry must hold
              | {"AND": [filter, ...]} | {"OR": [...]} | {"NOT": [...]}    upper or lower case; NOT = none holds
    value     = text | number | bool | None             equals
              | "*"                                     the field is present and not null
              | {operator: value, ...}                  every operator must hold
    operators = eq ne gt gte lt lte in nin contains icontains

A field is one of ``HEADER_FIELDS`` or a key of the memory's metadata; a dot steps into nested objects
(a key that itself contains the dots matches too), and ``metadata.NAME`` reaches a key that has the name
of a header field.

Meaning: ``None`` equals missing and null alike. ``ne`` and ``nin`` are the exact opposites of ``eq`` and
``in``, so they match a missing field. Values of different types are never equal and never ordered;
integers and floats are one type, true and false are not numbers. Text is ordered by code point.
``in`` also matches when the field is a list and any of its elements is among the values; ``contains``
looks for a part of a text or an element of a list; ``icontains`` does so ignoring case. Times are
``datetime``, ``date`` or ISO 8601 text; without a time zone they are UTC. ``subject`` ignores case.

``lamina.store.filters_sqlite`` says the same in SQL; a test holds the two against each other.
"""

from __future__ import annotations

import math
import operator
import reprlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any, Literal

from lamina.cube.cube import Header
from lamina.errors import InvalidInput

MAX_DEPTH = 32  # levels of AND, OR and NOT
MAX_CONDITIONS = 256
MAX_VALUES = 10_000  # in one list
MAX_PATH = 8  # steps of a dotted field

Type = Literal["text", "number", "time", "list", "json"]
OPERATORS = ("eq", "ne", "gt", "gte", "lt", "lte", "in", "nin", "contains", "icontains")
ORDER: Mapping[str, Callable[[Any, Any], bool]] = {
    "gt": operator.gt,
    "gte": operator.ge,
    "lt": operator.lt,
    "lte": operator.le,
}
_LOGIC = {"AND": "and", "OR": "or", "NOT": "not", "and": "and", "or": "or", "not": "not"}


@dataclass(frozen=True, slots=True)
class Field:
    """Where a condition looks: a header field, or (type ``json``) a path into the metadata."""

    name: str
    type: Type
    read: Callable[[Header], Any] | None = None
    paths: tuple[tuple[str, ...], ...] = ()


def _fields() -> dict[str, Field]:
    table: dict[str, tuple[Type, Callable[[Header], Any]]] = {
        "id": ("text", lambda h: h.id),
        "version": ("number", lambda h: h.version),
        "kind": ("text", lambda h: h.kind),
        "semantic_type": ("text", lambda h: h.semantic_type),
        "user_id": ("text", lambda h: h.scope.user),
        "agent_id": ("text", lambda h: h.scope.agent),
        "run_id": ("text", lambda h: h.scope.run),
        "state": ("text", lambda h: str(h.state)),
        "trust": ("text", lambda h: h.trust),
        "importance": ("number", lambda h: h.importance),
        "speaker": ("text", lambda h: h.utterance and h.utterance.speaker),
        "role": ("text", lambda h: h.utterance and h.utterance.role),
        "session": ("text", lambda h: h.utterance and h.utterance.session),
        "ordinal": ("number", lambda h: h.utterance and h.utterance.ordinal),
        "subject": ("text", lambda h: h.claim and h.claim.subject.casefold()),
        "slot": ("text", lambda h: h.claim and h.claim.slot),
        "created": ("time", lambda h: h.created),
        "recorded": ("time", lambda h: h.recorded),
        "superseded": ("time", lambda h: h.superseded),
        "superseded_by": ("text", lambda h: h.superseded_by),
        "valid_from": ("time", lambda h: h.valid_from),
        "valid_to": ("time", lambda h: h.valid_to),
        "expires": ("time", lambda h: h.expires),
        "tags": ("list", lambda h: list(h.tags)),
        "keywords": ("list", lambda h: list(h.keywords)),
        "entities": ("list", lambda h: list(h.entities)),
        "sensitivity": ("list", lambda h: list(h.sensitivity)),
        "policy.read": ("list", lambda h: list(h.policy.read) if h.policy else []),
    }
    fields = {name: Field(name, *rest) for name, rest in table.items()}
    # mem0's names: both mean when this version was said.
    return fields | {"created_at": fields["recorded"], "updated_at": fields["recorded"]}


HEADER_FIELDS: Mapping[str, Field] = _fields()


@dataclass(frozen=True, slots=True)
class Condition:
    """``operator`` is one of ``OPERATORS`` but ne and nin, or ``present``; ``value`` is checked and normal."""

    field: Field
    operator: str
    value: Any = None


@dataclass(frozen=True, slots=True)
class Group:
    """``and``, ``or`` or ``not`` (none holds) over ``parts``."""

    logic: Literal["and", "or", "not"]
    parts: tuple[Node, ...]


Node = Condition | Group


def parse(where: Mapping[str, Any]) -> Node:
    """The checked form of a filter. Raises ``InvalidInput`` naming what is wrong and what is allowed."""
    node = _filter(where, 0)
    count = sum(1 for _ in conditions(node))
    if count > MAX_CONDITIONS:
        raise InvalidInput(f"where has {count} conditions; the limit is {MAX_CONDITIONS}. Use 'in' for lists of values")
    return node


def conditions(node: Node) -> Iterator[Condition]:
    if isinstance(node, Condition):
        yield node
        return
    for part in node.parts:
        yield from conditions(part)


def names_state(node: Node) -> bool:
    """Whether a filter speaks about ``state``: then the usual hiding of archived memories is off."""
    return any(condition.field.name == "state" for condition in conditions(node))


def matches(node: Node, header: Header) -> bool:
    """Whether the memory passes. The naive meaning that every compiled form must agree with."""
    if isinstance(node, Condition):
        return any(_holds(node, value) for value in _values(node.field, header))
    held = (matches(part, header) for part in node.parts)
    if node.logic == "and":
        return all(held)
    return any(held) if node.logic == "or" else not any(held)


# -- checking -----------------------------------------------------------------------------------------


def _filter(where: object, depth: int) -> Node:
    if depth > MAX_DEPTH:
        raise InvalidInput(f"where is nested deeper than {MAX_DEPTH} levels")
    if not isinstance(where, Mapping) or not where:
        raise InvalidInput(f"where={reprlib.repr(where)}: a filter is a non-empty dict such as {{'city': 'Berlin'}}")
    parts: list[Node] = []
    for name, value in where.items():
        if not isinstance(name, str) or not name:
            raise InvalidInput(f"where: {reprlib.repr(name)} is not the name of a field; names are non-empty text")
        parts.append(_group(name, value, depth) if name in _LOGIC else _conditions(_field(name), value))
    return parts[0] if len(parts) == 1 else Group("and", tuple(parts))


def _group(name: str, value: object, depth: int) -> Group:
    items = [value] if isinstance(value, Mapping) else value
    if not isinstance(items, list | tuple) or not items:
        raise InvalidInput(f"where: {name} takes a non-empty list of filters, got {reprlib.repr(value)}")
    logic: Any = _LOGIC[name]
    return Group(logic, tuple(_filter(item, depth + 1) for item in items))


def _field(name: str) -> Field:
    if name in HEADER_FIELDS:
        return HEADER_FIELDS[name]
    _clean(name, "the field name")
    path = name.removeprefix("metadata.")
    steps = tuple(path.split("."))
    if len(steps) > MAX_PATH:
        raise InvalidInput(f"where: field {reprlib.repr(name)} has {len(steps)} steps; the limit is {MAX_PATH}")
    return Field(name, "json", paths=((path,),) if len(steps) == 1 else ((path,), steps))


def _conditions(field: Field, value: object) -> Node:
    if value == "*" and isinstance(value, str):
        return Condition(field, "present")
    if not isinstance(value, Mapping):
        return _condition(field, "eq", value)
    if not value:
        raise InvalidInput(f"where: {field.name} has an empty dict of operators; allowed: {', '.join(OPERATORS)}")
    parts = tuple(_condition(field, name, operand) for name, operand in value.items())
    return parts[0] if len(parts) == 1 else Group("and", parts)


def _condition(field: Field, name: object, value: object) -> Node:
    if name not in OPERATORS:
        raise InvalidInput(
            f"where: unknown operator {reprlib.repr(name)} for {field.name}; allowed: {', '.join(OPERATORS)}"
        )
    if name == "ne":
        return Group("not", (_condition(field, "eq", value),))
    if name == "nin":
        return Group("not", (_condition(field, "in", value),))
    if name == "in":
        return _among(field, value)
    if name == "eq" and value is None:
        return Group("not", (Condition(field, "present"),))
    if name in ("contains", "icontains"):
        return _contains(field, str(name), value)
    if field.type == "list":
        raise InvalidInput(f"where: {field.name} is a list; use contains, icontains, in, nin or '*', not {name}")
    value = _value(field, value)
    if name in ORDER and isinstance(value, bool):
        raise InvalidInput(f"where: {field.name} {name} {value}: true and false have no order; use eq or ne")
    return Condition(field, str(name), value)


def _among(field: Field, value: object) -> Node:
    if not isinstance(value, list | tuple | set | frozenset):
        raise InvalidInput(f"where: {field.name} in {reprlib.repr(value)}: give a list of values")
    if len(value) > MAX_VALUES:
        raise InvalidInput(f"where: {field.name} in a list of {len(value)} values; the limit is {MAX_VALUES}")
    among = Condition(field, "in", tuple(_value(field, item) for item in value if item is not None))
    return Group("or", (among, _condition(field, "eq", None))) if None in value else among


def _contains(field: Field, name: str, value: Any) -> Condition:
    if field.type in ("number", "time"):
        raise InvalidInput(f"where: {field.name} is a {field.type}, which {name} does not apply to; use eq, gt, lt, in")
    if field.type != "json" or name == "icontains":
        value = _text(field, value)
    elif value is None:
        raise InvalidInput(f"where: {field.name} contains None: give text, a number, true or false")
    else:
        value = _value(field, value)
    return Condition(field, name, value.casefold() if name == "icontains" else value)


def _value(field: Field, value: object) -> Any:
    """``value`` as the field's type has it: times become ``datetime``, the rest stays."""
    if field.type in ("text", "list"):
        return _text(field, value)
    if field.type == "time":
        return _time(field, value)
    if isinstance(value, bool) and field.type == "json":
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _number(field, value)
    if isinstance(value, str) and field.type == "json":
        return _clean(value, field.name)
    need = "text, a number, true, false or None" if field.type == "json" else "a number"
    raise InvalidInput(f"where: {field.name} is compared with {reprlib.repr(value)}; give {need}")


def _text(field: Field, value: object) -> str:
    if not isinstance(value, str):
        raise InvalidInput(f"where: {field.name} is compared with {reprlib.repr(value)}; give text")
    text = _clean(str(value), field.name)
    return text.casefold() if field.name == "subject" else text


def _clean(text: str, name: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidInput(f"where: {reprlib.repr(name)} holds a lone surrogate, which is not Unicode") from error
    if "\0" in text:
        raise InvalidInput(f"where: {reprlib.repr(name)} holds a NUL character; no stored key or value can")
    return text


def _number(field: Field, value: int | float) -> int | float:
    if isinstance(value, float) and not math.isfinite(value):
        raise InvalidInput(f"where: {field.name} is compared with {value}; give a finite number")
    if isinstance(value, int) and not -(2**63) < value < 2**63:
        raise InvalidInput(f"where: {field.name} is compared with {reprlib.repr(value)}; integers have 64 bits")
    return value


def _time(field: Field, value: object) -> datetime:
    moment = value
    if isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            moment = None
    elif isinstance(value, date) and not isinstance(value, datetime):
        moment = datetime(value.year, value.month, value.day)
    if not isinstance(moment, datetime):
        raise InvalidInput(
            f"where: {field.name} is a time, compared with {reprlib.repr(value)}; give ISO 8601 text or a datetime"
        )
    try:
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except OverflowError as error:
        raise InvalidInput(f"where: {field.name} is compared with {moment}, outside the years 1 to 9999") from error


# -- meaning ------------------------------------------------------------------------------------------


def _values(field: Field, header: Header) -> Iterator[Any]:
    """Everything the field may mean, without nulls: a dotted name can be one key or a path."""
    found = [field.read(header)] if field.read else [_walk(header.metadata, path) for path in field.paths]
    yield from (value for value in found if value is not None)


def _walk(value: Any, path: tuple[str, ...]) -> Any:
    for step in path:
        value = value.get(step) if isinstance(value, Mapping) else None
    return value


def _holds(condition: Condition, value: Any) -> bool:
    wanted, name = condition.value, condition.operator
    if name == "present":
        return value != [] or condition.field.type != "list"
    if name == "eq":
        return _equal(value, wanted)
    if name == "in":
        candidates = [value, *value] if isinstance(value, list) else [value]
        return any(_equal(one, other) for one in candidates for other in wanted)
    if name == "contains":
        if isinstance(value, list):
            return any(_equal(item, wanted) for item in value)
        return isinstance(value, str) and isinstance(wanted, str) and wanted in value
    if name == "icontains":
        if isinstance(value, list):
            return any(isinstance(item, str) and item.casefold() == wanted for item in value)
        return isinstance(value, str) and wanted in value.casefold()
    return _kind(value) == _kind(wanted) and ORDER[name](value, wanted)


def _equal(value: Any, wanted: Any) -> bool:
    return _kind(value) == _kind(wanted) and bool(value == wanted)


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    return "number" if isinstance(value, int | float) else type(value).__name__
