"""Checks of what callers hand to the notebook and the graph: scopes, times with a zone, several of something.

Each returns what it was given. Raises ``InvalidInput`` that names the argument: a wrong type is told at the door, not
by whatever it breaks first inside, and a string is not taken for a list of its letters.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from lamina.cube.cube import Scope
from lamina.errors import InvalidInput
from lamina.text.arguments import short


def scope(value: object, name: str = "scope") -> Scope:
    if not isinstance(value, Scope):
        raise InvalidInput(f"{name}={short(value)}: pass a Scope, such as Scope(user='me')")
    return value


def zoned(name: str, value: object) -> datetime:
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise InvalidInput(f"{name}={short(value)}: pass a datetime with a time zone")
    return value


def several(name: str, value: object) -> list[Any]:
    if isinstance(value, str | bytes) or not isinstance(value, Iterable):
        raise InvalidInput(f"{name}={short(value)}: pass a list, not {type(value).__name__}")
    return list(value)


def flag(name: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise InvalidInput(f"{name}={short(value)}: pass True or False")
    return value
