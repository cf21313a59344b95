"""Pieces of reading SQL: scopes, visibility, cursors, full-text queries, one memory by id.

When a version is *visible* at time t: it had been recorded (recorded <= t), was not closed yet
(t < superseded, or never closed), had not expired, and what it says still held (not valid_to <= t, with
valid_to as it was known then). What has *happened* does not stop having happened: the valid_to of an
``event`` or a ``turn`` hides nothing. Merged, archived and deleted memories are not visible.

*Open now* is the same for the present moment, except that a message stamped in the future counts.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from datetime import datetime
from typing import Any

from lamina.cube.cube import MemCube, Scope, now
from lamina.errors import InvalidInput
from lamina.store.blobs import Blobs
from lamina.store.rows import SELECTED, from_row, micros
from lamina.store.sql import Connection

Fragment = tuple[str, list[Any]]

_MAX_TERMS = 64  # of a full-text query
LIVE = "c.state IN ('generated', 'active', 'frozen')"
_HOLDS = "(c.ends IS NULL OR c.ends > ? OR c.semantic_type IN ('event', 'turn'))"
NUMBERS = "SELECT CAST(value AS BIGINT) FROM json_each(?)"  # of a JSON list
_COLUMNS = (("user_id", "user"), ("agent_id", "agent"), ("run_id", "run"))


def within(scope: Scope, *, table: str = "c") -> Fragment:
    """Rows of a tenant, narrowed by every id the scope names."""
    _check(scope)
    bound = [(column, getattr(scope, field)) for column, field in _COLUMNS if getattr(scope, field) is not None]
    sql = " AND ".join([f"{table}.tenant = ?", *(f"{table}.{column} = ?" for column, _ in bound)])
    return sql, [scope.tenant, *(value for _, value in bound)]


def exactly(scope: Scope) -> Fragment:
    """Rows of this very scope: an id that is None must be None in the row."""
    _check(scope)
    return "c.tenant = ? AND c.user_id IS ? AND c.agent_id IS ? AND c.run_id IS ?", [
        scope.tenant,
        scope.user,
        scope.agent,
        scope.run,
    ]


def open_now(*, holds: bool = True) -> Fragment:
    """Neither closed nor expired; with ``holds``, also not past its valid_to."""
    at = micros(now())
    sql = "c.superseded IS NULL AND (c.expires IS NULL OR c.expires > ?)"
    return (f"{sql} AND {_HOLDS}", [at, at]) if holds else (sql, [at])


def open_at(moment: datetime) -> Fragment:
    at = micros(moment)
    sql = "c.recorded <= ? AND (c.superseded IS NULL OR c.superseded > ?) AND (c.expires IS NULL OR c.expires > ?)"
    return f"{sql} AND {_HOLDS}", [at] * 4


def recorded_by(moment: datetime) -> Fragment:
    """What was known at ``moment``, whatever became of it."""
    return "c.recorded <= ?", [micros(moment)]


def newest(connection: Connection, id: str, blobs: Blobs) -> MemCube | None:
    row = connection.execute(
        f"SELECT {SELECTED} FROM cubes c WHERE c.id = ? ORDER BY c.version DESC LIMIT 1", (id,)
    ).fetchone()
    return None if row is None else from_row(row, blobs)


def match_expression(text: str) -> str | None:
    """An FTS5 query that is safe for any text: quoted words joined by OR, or one phrase."""
    words = re.findall(r"\w+", text.replace("\0", " "))
    if not words:
        return None
    stripped = text.strip()
    if len(stripped) > 2 and stripped[0] == stripped[-1] == '"':
        return f'"{" ".join(words)}"'
    return " OR ".join(f'"{word}"' for word in dict.fromkeys(words[:_MAX_TERMS]))


def encode_cursor(recorded: int, key: int) -> str:
    return base64.urlsafe_b64encode(json.dumps([recorded, key]).encode()).decode()


def decode_cursor(cursor: str) -> list[int]:
    try:
        recorded, key = json.loads(base64.urlsafe_b64decode(cursor))
        if type(recorded) is int and type(key) is int:
            return [recorded, key]
    except (ValueError, TypeError, AttributeError, binascii.Error, RecursionError):
        pass
    raise InvalidInput(f"cursor={cursor!r:.80}: pass the cursor of an earlier page of the same query")


def _check(scope: Scope) -> None:
    if not isinstance(scope, Scope) or not isinstance(scope.tenant, str) or not scope.tenant:
        raise InvalidInput(f"scope={scope!r}: pass a Scope with a tenant; no read crosses tenants")
