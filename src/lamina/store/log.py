"""The event log: append-only, each row sealed by the hash of all before it.

``hash = sha256(previous hash + canonical JSON of the row)``: changing, removing or reordering a row in
the middle breaks every hash after it. What a chain cannot show is that rows are missing at its *end*;
whoever must prove that keeps the last hash elsewhere. Rows name memories and reasons, never contents,
because they outlive a ``forget``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any, NamedTuple

from lamina.errors import InvalidInput
from lamina.store.base import Event

GENESIS = "0" * 64
_compact = json.JSONEncoder(separators=(",", ":")).encode


class Row(NamedTuple):
    """A row of the table ``log``; ``at`` in microseconds since 1970, ``details`` as JSON text."""

    seq: int
    at: int
    actor: str
    action: str
    cube: str
    version: int
    reason: str
    details: str
    hash: str


class Chain:
    """Writes the next rows behind the last one."""

    def __init__(self, seq: int, previous: str) -> None:
        self._seq = seq
        self._previous = previous

    def append(self, at: int, actor: str, action: str, cube: str, version: int, reason: str, details: str) -> Row:
        """The next row; ``details`` as ``details_json`` makes it. Whoever calls this must write the row."""
        self._seq += 1
        row = (self._seq, at, actor, action, cube, version, reason, details)
        self._previous = _seal(self._previous, row)
        return Row(*row, self._previous)


def details_json(details: Mapping[str, Any]) -> str:
    """Canonical JSON. Raises ``InvalidInput`` for what JSON cannot hold."""
    if not details:
        return "{}"
    try:
        return json.dumps(dict(details), sort_keys=True, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"details={details!r:.80}: must be JSON values ({error})") from error


def event(row: Row, at: datetime) -> Event:
    return Event(row.seq, at, row.actor, row.action, row.cube, row.version, row.reason, _loads(row.details), row.hash)


def problems(rows: Iterable[Row]) -> Iterator[str]:
    """What is wrong with the chain: at most one line, since all after a break is unproved."""
    previous, expected = GENESIS, 1
    for row in rows:
        if row.seq != expected:
            yield f"log: row {expected} is missing"
            return
        if not _follows(previous, row):
            yield f"log: row {row.seq} was altered (its hash does not follow from the row before)"
            return
        previous, expected = row.hash, expected + 1


def _follows(previous: str, row: Row) -> bool:
    try:
        return _seal(previous, row[:-1]) == row.hash
    except TypeError:  # bytes where a text was: a database lets anything be put anywhere
        return False


def _seal(previous: str, row: tuple[Any, ...]) -> str:
    return hashlib.sha256((previous + _compact(row)).encode()).hexdigest()


def _loads(details: str) -> Mapping[str, Any]:
    return json.loads(details)  # type: ignore[no-any-return]
