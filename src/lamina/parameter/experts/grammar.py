"""The JSON that a schema allows, as a machine that reads it character by character.

What a constrained decoder needs: after this much text, may *this* piece follow, and may the text end here? The JSON
schema is compiled into a non-deterministic automaton (Thompson's construction) whose set of current states answers
both. One layout is accepted, that of ``json.dumps`` with default separators and keys in the order of the fields: more
freedom would only let a model waste tokens on spaces. Schemas are finite trees here (no recursion, no free keys).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import BaseModel

from lamina.errors import InvalidInput

States = frozenset[int]
_Test = Callable[[str], bool]


class Grammar:
    """The language of a schema. ``start`` and ``advance`` give sets of states; the empty set means refused."""

    def __init__(self, form: type[BaseModel] | Mapping[str, Any]) -> None:
        """Raises ``InvalidInput`` for a schema with anything but objects, arrays (of any or of one length), strings,
        integers, booleans, nulls, constants and unions of these. A string with a ``minLength`` begins with no space.
        """
        self._steps: list[list[tuple[_Test, int]]] = []
        self._jumps: list[list[int]] = []
        self._known: dict[tuple[States, str], States] = {}
        schema = form if isinstance(form, Mapping) else form.model_json_schema()
        self._definitions: Mapping[str, Any] = schema.get("$defs", {})
        first = self._state()
        self._end = self._value(first, schema)
        self.start: States = self._closure({first})

    def advance(self, states: States, text: str) -> States:
        """Where ``text`` leads from ``states``."""
        for character in text:
            if not states:
                break
            states = self._after(states, character)
        return states

    def is_complete(self, states: States) -> bool:
        """Whether the text read so far is a whole value."""
        return self._end in states

    def _after(self, states: States, character: str) -> States:
        key = states, character
        if key not in self._known:
            reached = {to for state in states for test, to in self._steps[state] if test(character)}
            self._known[key] = self._closure(reached)
        return self._known[key]

    def _closure(self, states: set[int]) -> States:
        found, waiting = set(states), list(states)
        while waiting:
            for to in self._jumps[waiting.pop()]:
                if to not in found:
                    found.add(to)
                    waiting.append(to)
        return frozenset(found)

    # -- construction: each method reads from state ``at`` and returns the state after what it reads --------

    def _state(self) -> int:
        self._steps.append([])
        self._jumps.append([])
        return len(self._steps) - 1

    def _character(self, at: int, test: _Test) -> int:
        to = self._state()
        self._steps[at].append((test, to))
        return to

    def _text(self, at: int, text: str) -> int:
        for wanted in text:
            at = self._character(at, wanted.__eq__)
        return at

    def _join(self, ends: list[int]) -> int:
        to = self._state()
        for end in ends:
            self._jumps[end].append(to)
        return to

    def _value(self, at: int, schema: Mapping[str, Any]) -> int:
        if "$ref" in schema:
            return self._value(at, self._definitions[schema["$ref"].rpartition("/")[2]])
        if "const" in schema or "enum" in schema:
            allowed = schema.get("enum", [schema.get("const")])
            return self._join([self._text(at, json.dumps(value, ensure_ascii=False)) for value in allowed])
        if "anyOf" in schema:
            return self._join([self._value(at, each) for each in schema["anyOf"]])
        match schema.get("type"):
            case "object" if "properties" in schema:
                return self._object(at, schema["properties"])
            case "array":
                return self._array(at, schema["items"], schema.get("minItems"), schema.get("maxItems"))
            case "string":
                return self._string(at, may_be_empty="minLength" not in schema)
            case "integer":
                return self._integer(at)
            case "boolean":
                return self._join([self._text(at, "true"), self._text(at, "false")])
            case "null":
                return self._text(at, "null")
        raise InvalidInput(
            f"schema {str(dict(schema))[:80]!r} has no layout that could be followed; use a plainer form"
        )

    def _object(self, at: int, properties: Mapping[str, Any]) -> int:
        at = self._text(at, "{")
        for number, (name, schema) in enumerate(properties.items()):
            at = self._value(self._text(at, f"{', ' if number else ''}{json.dumps(name)}: "), schema)
        return self._text(at, "}")

    def _array(self, at: int, items: Mapping[str, Any], least: int | None, most: int | None) -> int:
        if least is not None and least == most:
            at = self._text(at, "[")
            for number in range(least):
                at = self._value(self._text(at, ", " if number else ""), items)
            return self._text(at, "]")
        opened = self._text(at, "[")
        item = self._join([opened])
        done = self._value(item, items)
        self._jumps[self._text(done, ", ")].append(item)
        return self._text(self._join([opened, done]), "]")

    def _string(self, at: int, *, may_be_empty: bool) -> int:
        opened = self._text(at, '"')
        if not may_be_empty:
            opened = self._character(opened, lambda c: c not in '"\\' and c > " " and c != "\ufffd")
        inside = self._join([opened])
        self._steps[inside].append((lambda c: c not in '"\\' and c >= " " and c != "\ufffd", inside))
        escape = self._text(inside, "\\")
        self._jumps[self._character(escape, '"\\/bfnrt'.__contains__)].append(inside)
        # A control character, the only one that ``json.dumps`` spells out when told to keep letters as they are.
        code = self._text(escape, "u00")
        for digits in ("01", "0123456789abcdef"):
            code = self._character(code, digits.__contains__)
        self._jumps[code].append(inside)
        return self._text(inside, '"')

    def _integer(self, at: int) -> int:
        signed = self._join([at, self._text(at, "-")])
        zero = self._text(signed, "0")
        more = self._join([self._character(signed, "123456789".__contains__)])
        self._steps[more].append(("0123456789".__contains__, more))
        return self._join([zero, more])
