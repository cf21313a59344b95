"""Checks of what callers hand to ``Memory``: ids, filters, dates, queries. Codes follow mem0's."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from lamina.cube.cube import Scope
from lamina.errors import InvalidInput

IDENTITY = ("user_id", "agent_id", "run_id")
_FIELD = {"user_id": "user", "agent_id": "agent", "run_id": "run"}
Moment = str | date | datetime | int | float  # what callers may pass for a time
MAX_QUERY = 100_000  # characters
MAX_TEXT = 1_000_000  # characters of one memory
MAX_METADATA = 65_536  # bytes of JSON


def short(value: object, limit: int = 80) -> str:
    """``repr`` of a value, cut for an error message."""
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def identity(name: str, value: object) -> str | None:
    """One of user_id, agent_id, run_id: trimmed, non-empty, without white space inside."""
    if value is None:
        return None
    if not isinstance(value, str) or not value.strip():
        raise InvalidInput(f"{name}={short(value)}: pass a non-empty string.", code="VALIDATION_002")
    value = value.strip()
    if value == "*":
        raise InvalidInput(
            f"{name}='*' means everybody: it selects in filters, but owns nothing.", code="VALIDATION_002"
        )
    if len(value) > 255 or any(c.isspace() or ord(c) < 32 for c in value):
        raise InvalidInput(
            f"{name}={short(value)}: ids have at most 255 characters and no white space.", code="VALIDATION_002"
        )
    clean_text(name, value)
    return value


def scope_of(tenant: str, ids: Mapping[str, object], *, required: bool = True) -> Scope:
    """A scope from ``user_id``, ``agent_id``, ``run_id``; at least one of them unless not ``required``."""
    bound = {_FIELD[name]: identity(name, ids.get(name)) for name in IDENTITY}
    if required and not any(bound.values()):
        raise InvalidInput(
            "No owner given: pass at least one of user_id, agent_id, run_id, so that one person's memories"
            " never answer another's question.",
            code="VALIDATION_001",
        )
    return Scope(tenant=tenant, **bound)


def scope_and_filter(
    tenant: str, filters: Mapping[str, Any] | None, ids: Mapping[str, str | None]
) -> tuple[Scope, dict[str, Any]]:
    """Split mem0-style ``filters`` into the scope (plain ids at its top level) and the rest."""
    if filters is not None and not isinstance(filters, Mapping):
        raise InvalidInput(f"filters={short(filters)}: pass a dict such as {{'user_id': 'alice'}}.")
    rest = {name: value for name, value in (filters or {}).items() if name not in IDENTITY or value is not None}
    given = {name: value for name, value in ids.items() if value is not None}
    if given:
        warnings.warn(
            f"{', '.join(given)} at the top level: pass filters={given} (mem0 2.x form).",
            DeprecationWarning,
            stacklevel=4,
        )
    for name in IDENTITY:
        if isinstance(rest.get(name), str) and rest[name] != "*":
            value = rest.pop(name)
            if given.setdefault(name, value) != value:
                raise InvalidInput(f"{name} is given twice: {short(given[name])} and {short(value)} in filters.")
    named_inside = any(name in rest for name in IDENTITY)
    return scope_of(tenant, given, required=not named_inside), rest


def clean_text(name: str, text: object, limit: int = MAX_QUERY) -> str:
    """A string that can be stored: valid Unicode, no NUL, not longer than ``limit`` characters."""
    if not isinstance(text, str):
        raise InvalidInput(f"{name}={short(text)}: pass a string, not {type(text).__name__}.", code="VALIDATION_003")
    if len(text) > limit:
        raise InvalidInput(f"{name} has {len(text):,} characters; the limit is {limit:,}. Split it.")
    if "\0" in text:
        raise InvalidInput(f"{name} contains a NUL byte at position {text.index(chr(0))}. Remove it.")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidInput(
            f"{name} is not valid Unicode: a lone surrogate at position {error.start}."
            " Decode the bytes with errors='replace'."
        ) from error
    return text


def named(name: str, text: object, limit: int) -> str:
    """``clean_text`` that is not empty."""
    cleaned = clean_text(name, text, limit)
    if not cleaned.strip():
        raise InvalidInput(f"{name} is empty: pass a name, or leave it out.")
    return cleaned


def memory_text(text: object) -> str:
    """The text of a memory: storable, and not empty."""
    clean = clean_text("text", text, MAX_TEXT)
    if not clean.strip():
        raise InvalidInput("text is empty: to remove a memory, delete or forget it.", code="VALIDATION_003")
    return clean


def query_text(query: object) -> str:
    text = clean_text("query", query)
    if not text.strip():
        raise InvalidInput("query is empty: ask something.", code="VALIDATION_003")
    return text


def positive(name: str, value: object, limit: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= limit:
        raise InvalidInput(f"{name}={short(value)}: pass a whole number from 1 to {limit:,}.")
    return value


def fraction(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise InvalidInput(f"{name}={short(value)}: pass a number from 0 to 1.")
    return float(value)


def moment(name: str, value: Moment | None, *, end_of_day: bool = False) -> datetime | None:
    """A time in UTC from ISO 8601, a date, a datetime, or epoch seconds. Naive times are UTC.

    ``end_of_day``: a bare date means the last instant of that day ("as of 10 May" includes 10 May).
    """
    if value is None:
        return None
    try:
        return _moment(value, end_of_day)
    except (ValueError, TypeError, OverflowError, OSError) as error:
        raise InvalidInput(
            f"{name}={short(value)}: pass ISO 8601 such as '2026-03-01' or '2026-03-01T09:30:00+01:00',"
            " a datetime, or epoch seconds."
        ) from error


def _moment(value: object, end_of_day: bool) -> datetime:
    if isinstance(value, bool):
        raise TypeError("a bool is no time")
    if isinstance(value, int | float):
        return datetime.fromtimestamp(value, UTC)
    if isinstance(value, str) and len(value.strip()) == 10:
        value = date.fromisoformat(value.strip())
    elif isinstance(value, str):
        value = datetime.fromisoformat(value.strip())
    if isinstance(value, datetime):
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    if isinstance(value, date):
        start = datetime.combine(value, time(), UTC)
        return start + timedelta(days=1, microseconds=-1) if end_of_day else start
    raise TypeError(f"{type(value).__name__} is no time")


def metadata_dict(metadata: Mapping[str, Any] | None) -> dict[str, Any]:
    """The caller's metadata: a JSON object. Identity keys inside it are ignored with a warning."""
    if metadata is None:
        return {}
    if not isinstance(metadata, Mapping):
        raise InvalidInput(f"metadata={short(metadata)}: pass a dict with JSON values.")
    clean = dict(metadata)
    for name in IDENTITY:
        if name in clean:
            warnings.warn(f"metadata[{name!r}] is ignored: pass {name}= instead.", UserWarning, stacklevel=4)
            del clean[name]
    _check_json("metadata", clean)
    return clean


def _check_json(name: str, value: dict[str, Any]) -> None:
    try:
        text = json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidInput(f"{name} must be JSON ({error}).") from error
    if any(not isinstance(key, str) for key in value):
        raise InvalidInput(f"{name}: keys must be strings.")
    if len(text) > MAX_METADATA:
        raise InvalidInput(f"{name} takes {len(text):,} bytes as JSON; the limit is {MAX_METADATA:,}.")
    clean_text(name, json.dumps(value, ensure_ascii=False), 2 * MAX_METADATA)
