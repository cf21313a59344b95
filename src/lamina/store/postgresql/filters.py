"""A checked filter as a PostgreSQL condition over ``cubes AS c``. Every name and value is a bound parameter.

Says the same as ``lamina.store.filters_sqlite`` and ``lamina.store.filters.matches``; a test holds them against each
other. Each fragment is true or false, never NULL, so that NOT means what it says. Metadata is read from
``c.document``, the header as jsonb, with ``->`` from key to key: no key, however hostile, can change the statement.
Numbers are ``numeric`` on both sides, text compares by code point.
"""

from __future__ import annotations

import json
from typing import Any

from lamina.store.filters import Condition, Field, Node
from lamina.store.filters_sql import combined, join
from lamina.store.reading import Fragment
from lamina.store.rows import micros

_SIGN = {"eq": "=", "gt": ">", "gte": ">=", "lt": "<", "lte": "<="}
_ELEMENTS = "jsonb_array_elements(CASE jsonb_typeof({0}) WHEN 'array' THEN {0} ELSE '[]' END) AS e (value)"
_LISTED = "(SELECT value FROM jsonb_array_elements(?::jsonb) AS w (value))"
_STRING = "(jsonb_typeof({0}) = 'string' AND {1})"
_TEXT = "({0} #>> '{{}}')"


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
        if field.type == "text":
            test = f"{column} IN (SELECT value FROM json_each(?))"
        else:
            test = f"{column} IN (SELECT value::text::numeric FROM jsonb_array_elements(?::jsonb) AS w (value))"
        return f"({column} IS NOT NULL AND {test})", [json.dumps(values)]
    if name == "contains":
        return f"({column} IS NOT NULL AND strpos({column}, ?) > 0)", [condition.value]
    if name == "icontains":
        return f"({column} IS NOT NULL AND strpos(folded({column}), ?) > 0)", [condition.value]
    return f"({column} IS NOT NULL AND {column} {_SIGN[name]} ?)", [_bound(field, condition.value)]


def _bound(field: Field, value: Any) -> Any:
    return micros(value) if field.type == "time" else value


def _list(condition: Condition) -> Fragment:
    """tags, keywords and entities: lists of text in the header."""
    node = "c.document" + "".join(f" -> '{step}'" for step in condition.field.name.split("."))  # of HEADER_FIELDS
    elements = _ELEMENTS.format(f"({node})")
    if condition.operator == "present":
        return f"EXISTS (SELECT 1 FROM {elements})", []
    if condition.operator == "in":
        return f"EXISTS (SELECT 1 FROM {elements} WHERE e.value IN {_LISTED})", [json.dumps(list(condition.value))]
    test, parameters = _scalar("e.value", "=", condition.value)
    if condition.operator == "icontains":
        test, parameters = f"folded({_TEXT.format('e.value')}) = ?", [condition.value]
    return f"EXISTS (SELECT 1 FROM {elements} WHERE {test})", parameters


def _at_path(path: tuple[str, ...], condition: Condition) -> Fragment:
    """The condition at one place in the metadata: each step looks into the object below it."""
    steps = "".join(" -> ?::text" for _ in path)
    test, parameters = _json("n.value", condition)
    node = f"(SELECT c.document -> 'metadata'{steps}) AS n (value)"
    return f"EXISTS (SELECT 1 FROM {node} WHERE n.value IS NOT NULL AND {test})", [*path, *parameters]


def _json(node: str, condition: Condition) -> Fragment:
    name, value = condition.operator, condition.value
    text = _TEXT.format(node)
    if name == "present":
        return f"{node} <> 'null'", []
    if name == "in":
        listed = json.dumps(list(value))
        element = f"EXISTS (SELECT 1 FROM {_ELEMENTS.format(node)} WHERE e.value IN {_LISTED})"
        return f"({node} IN {_LISTED} OR {element})", [listed, listed]
    if name == "icontains":
        itself = _STRING.format(node, f"strpos(folded({text}), ?) > 0")
        element = _STRING.format("e.value", f"folded({_TEXT.format('e.value')}) = ?")
        return _or_element(node, (itself, [value]), (element, [value]))
    if name == "contains":
        itself = _STRING.format(node, f"strpos({text}, ?) > 0")
        part: Fragment = (itself, [value]) if isinstance(value, str) else ("false", [])
        return _or_element(node, part, _scalar("e.value", "=", value))
    return _scalar(node, _SIGN[name], value)


def _or_element(node: str, itself: Fragment, element: Fragment) -> Fragment:
    """``itself``, or ``element`` for any element of a list."""
    inside = f"EXISTS (SELECT 1 FROM {_ELEMENTS.format(node)} WHERE {element[0]})"
    return f"({itself[0]} OR {inside})", [*itself[1], *element[1]]


def _scalar(node: str, sign: str, value: Any) -> Fragment:
    if sign == "=":
        return f"{node} = ?::jsonb", [json.dumps(value)]
    if isinstance(value, str):
        return _STRING.format(node, f'{_TEXT.format(node)} COLLATE "C" {sign} ?'), [value]
    return f"(jsonb_typeof({node}) = 'number' AND {node} {sign} ?::jsonb)", [json.dumps(value)]
