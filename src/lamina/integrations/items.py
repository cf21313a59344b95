"""Items of a LangGraph store as memories, and back: how a namespace, a key and a value are written down.

A namespace is a ``run_id``: ``langgraph:`` and its labels, percent-encoded, with dots between them. The key and the
value are in the metadata, the value as JSON text in ASCII, so that every store gives back exactly what it got (JSON
columns would change numbers and refuse some characters). The text of the memory is what search by meaning looks at.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from urllib.parse import quote, unquote

from lamina.errors import InvalidInput
from lamina.integrations.quoting import storable
from lamina.text.arguments import clean_text, short

Namespace = tuple[str, ...]

MARK = "langgraph"  # the metadata's key
_RUN = "langgraph:"
_LONGEST = 255  # characters of a run_id


@dataclass(frozen=True, slots=True)
class Entry:
    """An item as it is stored: ``id`` and ``owner`` (``user_id``, ``agent_id``) are those of its memory. ``indexed``:
    its text says what it is about."""

    id: str
    owner: Mapping[str, str]
    namespace: Namespace
    key: str
    value: dict[str, Any]
    indexed: bool
    created: datetime
    updated: datetime


def entry(row: Mapping[str, Any]) -> Entry | None:
    """The item in a memory; ``None`` for any other memory, also one that only looks like an item's, but has metadata or
    a ``run_id`` that no put writes: anybody may write some."""
    kept, run = (row.get("metadata") or {}).get(MARK), row.get("run_id") or ""
    if not isinstance(kept, Mapping) or (namespace := _namespace(run)) is None:
        return None
    key, indexed = kept.get("key"), kept.get("indexed")
    value, updated = _value(kept.get("value")), _time(kept.get("updated"))
    if not isinstance(key, str) or not isinstance(indexed, bool) or value is None or updated is None:
        return None
    return Entry(
        id=row["id"],
        owner={name: row[name] for name in ("user_id", "agent_id") if row.get(name) is not None},
        namespace=namespace,
        key=key,
        value=value,
        indexed=indexed,
        created=datetime.fromisoformat(row["created_at"]),
        updated=updated,
    )


def written(
    key: str,
    namespace: Namespace,
    value: Mapping[str, Any],
    paths: Sequence[str] | Literal[False] | None,
    updated: datetime,
) -> tuple[str, dict[str, Any]]:
    """The text and the metadata of an item's memory; ``paths`` (LangGraph's) say what its text is made of. ``None``
    takes ``value["text"]`` if that is a string, else the whole value as JSON. An item with no words is called by its
    path. Raises ``InvalidInput`` for a value that is no JSON."""
    try:
        kept = json.dumps(dict(value), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidInput(f"value={short(value)}: must be a dict with JSON values ({error})") from error
    words = storable("\n".join(_words(json.loads(kept), paths)))
    indexed = bool(words.strip())
    text = words if indexed else storable("/".join((*namespace, key)))
    return text, {MARK: {"key": key, "value": kept, "indexed": indexed, "updated": updated.isoformat()}}


def run_of(namespace: Sequence[str]) -> str:
    """The ``run_id`` of a namespace. Raises ``InvalidInput`` for one that is empty or too long."""
    if not namespace or not all(isinstance(label, str) and label for label in namespace):
        raise InvalidInput(f"namespace={short(namespace)}: pass a tuple of non-empty strings")
    run = _RUN + _path(namespace)
    if len(run) > _LONGEST:
        raise InvalidInput(f"namespace={short(namespace)}: takes {len(run)} characters; the limit is {_LONGEST}")
    return run


def under(prefix: Sequence[str]) -> dict[str, Any]:
    """The filter for the items of a namespace and of all that begin with its labels."""
    if not prefix:
        return {"run_id": {"contains": _RUN}}
    run = run_of(prefix)
    return {"OR": [{"run_id": run}, {"run_id": {"contains": f"{run}."}}]}


def checked_key(key: str) -> str:
    """Raises ``InvalidInput`` for a key that cannot be stored."""
    return clean_text("key", key, 1000)


def _namespace(run: str) -> Namespace | None:
    labels = tuple(unquote(label) for label in run.removeprefix(_RUN).split("."))
    try:
        return labels if run_of(labels) == run else None
    except InvalidInput:
        return None


def _value(text: object) -> dict[str, Any] | None:
    try:
        value = json.loads(text, parse_float=_finite, parse_constant=_finite) if isinstance(text, str) else None
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _finite(text: str) -> float:
    if not math.isfinite(number := float(text)):
        raise ValueError(f"{text} is no number of JSON")
    return number


def _time(text: object) -> datetime | None:
    try:
        time = datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        return None
    return time if time is not None and time.tzinfo is not None else None  # the others could not be compared with it


def _words(value: dict[str, Any], paths: Sequence[str] | Literal[False] | None) -> list[str]:
    from langgraph.store.base import get_text_at_path

    if paths is None:
        text = value.get("text")
        return [text if isinstance(text, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)]
    return [text for path in paths or () for text in get_text_at_path(value, path)]


def _path(namespace: Sequence[str]) -> str:
    try:
        return ".".join(quote(label, safe="").replace(".", "%2E") for label in namespace)
    except UnicodeEncodeError as error:
        raise InvalidInput(f"namespace={short(namespace)}: holds a lone surrogate, which is not Unicode") from error
