"""A checked filter as an SQL condition over ``cubes AS c``. Every name and value is a bound parameter.

Each fragment is 0 or 1, never NULL, so that NOT means what it says. Metadata is read with ``json_each``,
which compares keys instead of parsing a path: no key, however hostile, can change the statement.
Numbers are bound as JSON text, so that both sides of a comparison went through the same parser.
"""

from __future__ import annotations

import json
from typing import Any

from lamina.store.filters import Condition, Field, Node
from lamina.store.filters_sql import combined, join
from lamina.store.reading import Fragment
from lamina.store.rows import micros

_SIGN = {"eq": "=", "gt": ">", "gte": ">=", "lt": "<", "lte": "<="}
_NUMBER = "IN ('integer', 'real')"


def compile_filter(node: Node) -> Fragment:
    """SQL text and its parameters, in order."""
    return combined(node, _condition)


def _condition(condition: Condition) -> Fragment:
    if condition.field.type == "json":
        return join(" OR ", [_at_path(path, condition) for path in condition.field.paths])
    return _list(condition) if condition.field.type == "list" else _column(condition)


def _column(condition: Condition) -> Fragment:
    field, name = condition.field, condition.operator
    column = f"c.{field.name}"
    if name == "present":
        return f"{column} IS NOT NULL", []
    if name == "in":
        values = [_bound(field, value) for value in condition.value]
        test, parameter = f"{column} IN (SELECT value FROM json_each(?))", json.dumps(values)
    elif name == "contains":
        test, parameter = f"instr({column}, ?) > 0", condition.value
    elif name == "icontains":
        test, parameter = f"instr(casefold({column}), ?) > 0", condition.value
    else:
        test, parameter = f"{column} {_SIGN[name]} ?", _bound(field, condition.value)
    return f"({column} IS NOT NULL AND {test})", [parameter]


def _bound(field: Field, value: Any) -> Any:
    return micros(value) if field.type == "time" else value


def _list(condition: Condition) -> Fragment:
    """tags, keywords and entities: lists of text in the header."""
    source = f"json_each(c.header, '$.{condition.field.name}') AS e"  # the name is one of HEADER_FIELDS
    if condition.operator == "present":
        return f"EXISTS (SELECT 1 FROM {source})", []
    if condition.operator == "in":
        test, parameters = _among("e", condition.value)
    elif condition.operator == "icontains":
        test, parameters = "casefold(e.atom) = ?", [condition.value]
    else:
        test, parameters = _scalar("e", "=", condition.value)
    return f"EXISTS (SELECT 1 FROM {source} WHERE {test})", parameters


def _at_path(path: tuple[str, ...], condition: Condition) -> Fragment:
    """The condition at one place in the metadata: each step joins the object below it."""
    sources = ["json_each(c.header, '$.metadata') AS n0"]
    sources += [f"json_each({_only('object', f'n{i - 1}', '{}')}) AS n{i}" for i in range(1, len(path))]
    keys = " AND ".join(f"n{i}.key = ?" for i in range(len(path)))
    test, parameters = _json(f"n{len(path) - 1}", condition)
    return f"EXISTS (SELECT 1 FROM {', '.join(sources)} WHERE {keys} AND {test})", [*path, *parameters]


def _only(type: str, node: str, otherwise: str) -> str:
    """The JSON of ``node`` if it has that type; ``json_each`` fails on plain text."""
    return f"CASE {node}.type WHEN '{type}' THEN {node}.value ELSE '{otherwise}' END"


def _json(node: str, condition: Condition) -> Fragment:
    name, value = condition.operator, condition.value
    if name == "present":
        return f"{node}.type <> 'null'", []
    if name == "in":
        return _or_element(node, _among(node, value), _among("e", value))
    if name == "icontains":
        part = f"({node}.type = 'text' AND instr(casefold({node}.atom), ?) > 0)", [value]
        return _or_element(node, part, ("(e.type = 'text' AND casefold(e.atom) = ?)", [value]))
    if name == "contains":
        part = (f"({node}.type = 'text' AND instr({node}.atom, ?) > 0)", [value])
        return _or_element(node, part if isinstance(value, str) else ("0", []), _scalar("e", "=", value))
    return _scalar(node, _SIGN[name], value)


def _or_element(node: str, itself: Fragment, element: Fragment) -> Fragment:
    """``itself``, or ``element`` for any element of a list (aliased ``e``)."""
    inside = f"EXISTS (SELECT 1 FROM json_each({_only('array', node, '[]')}) AS e WHERE {element[0]})"
    return f"({itself[0]} OR {inside})", [*itself[1], *element[1]]


def _scalar(node: str, sign: str, value: Any) -> Fragment:
    if isinstance(value, bool):
        return f"{node}.type = ?", [json.dumps(value)]
    if isinstance(value, str):
        return f"({node}.type = 'text' AND {node}.atom {sign} ?)", [value]
    return f"({node}.type {_NUMBER} AND {node}.atom {sign} json_extract(?, '$'))", [json.dumps(value)]


def _among(node: str, values: tuple[Any, ...]) -> Fragment:
    texts = [value for value in values if isinstance(value, str)]
    flags = [json.dumps(value) for value in values if isinstance(value, bool)]
    numbers = [value for value in values if not isinstance(value, str | bool)]
    listed = "IN (SELECT value FROM json_each(?))"
    text, number = f"{node}.type = 'text' AND {node}.atom {listed}", f"{node}.type {_NUMBER} AND {node}.atom {listed}"
    return f"(({text}) OR ({number}) OR {node}.type {listed})", [json.dumps(v) for v in (texts, numbers, flags)]
