"""LangGraph's filters on values and conditions on namespaces: what they mean, as its own stores have it.

A filter holds if every entry does: a value must equal (objects: the named entries must; lists: one by one), or pass its
operators. Numbers, and text that reads as one, are ordered as numbers; other text by its characters; nothing else is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lamina.errors import InvalidInput


def passes(value: Mapping[str, Any], wanted: Mapping[str, Any] | None) -> bool:
    """Whether an item's ``value`` passes a filter. Raises ``InvalidInput`` for an unknown operator."""
    return all(_holds(value.get(name), one) for name, one in (wanted or {}).items())


def fits(namespace: Sequence[str], kind: str, path: Sequence[str]) -> bool:
    """Whether ``namespace`` begins ("prefix") or ends ("suffix") with ``path``, where ``*`` is any label."""
    if kind not in ("prefix", "suffix"):
        raise InvalidInput(f"match_type={kind!r}: use 'prefix' or 'suffix'")
    if len(path) > len(namespace):
        return False
    part = namespace[: len(path)] if kind == "prefix" else namespace[len(namespace) - len(path) :]
    return all(wanted in ("*", label) for label, wanted in zip(part, path, strict=True))


def _holds(value: Any, wanted: Any) -> bool:
    if isinstance(wanted, Mapping):
        if any(str(name).startswith("$") for name in wanted):
            return all(_operator(name)(value, other) for name, other in wanted.items())
        return isinstance(value, Mapping) and all(_holds(value.get(name), one) for name, one in wanted.items())
    if isinstance(wanted, list | tuple):
        same = isinstance(value, list | tuple) and len(value) == len(wanted)
        return same and all(_holds(one, other) for one, other in zip(value, wanted, strict=True))
    return bool(value == wanted)


def _operator(name: str) -> Callable[[Any, Any], bool]:
    if name not in _OPERATORS:
        raise InvalidInput(f"filter has the unknown operator {name!r}; allowed: {', '.join(_OPERATORS)}")
    return _OPERATORS[name]


def _order(value: Any, other: Any) -> int | None:
    """-1, 0 or 1; ``None`` for what has no order."""
    try:
        one, two = float(value), float(other)
        return (one > two) - (one < two)
    except (TypeError, ValueError, OverflowError):
        both = isinstance(value, str) and isinstance(other, str)
        return (value > other) - (value < other) if both else None


_OPERATORS: Mapping[str, Callable[[Any, Any], bool]] = {
    "$eq": lambda value, other: bool(value == other),
    "$ne": lambda value, other: bool(value != other),
    "$gt": lambda value, other: _order(value, other) == 1,
    "$gte": lambda value, other: _order(value, other) in (0, 1),
    "$lt": lambda value, other: _order(value, other) == -1,
    "$lte": lambda value, other: _order(value, other) in (-1, 0),
}
