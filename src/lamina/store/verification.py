"""Is everything as it was written, and how much is there? Behind ``verify`` and ``stats`` of both stores.

What is SQLite's alone is below; ``contents`` is asked of either database.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from lamina.errors import CorruptStore, StoreUnavailable
from lamina.store import erasure, log, vector_space
from lamina.store.blobs import Blobs
from lamina.store.sql import Connection

Stream = Callable[[str], Iterator[tuple[Any, ...]]]
_ROWS = 1000  # fetched at a time
_LOG = "SELECT seq, at, actor, action, cube, version, reason, details, hash FROM log ORDER BY seq"
_COUNTS = {
    "versions": "SELECT count(*) FROM cubes",
    "memories": "SELECT count(DISTINCT id) FROM cubes",
    "open": "SELECT count(*) FROM cubes WHERE superseded IS NULL",
    "vectors": "SELECT count(*) FROM vectors",
    "events": "SELECT count(*) FROM log",
    "edges": "SELECT count(*) FROM edges WHERE superseded IS NULL",
    "forgotten": "SELECT count(*) FROM gone",
}


def statistics(connection: Connection) -> dict[str, Any]:
    """Counts of what is there, and its embedder."""
    numbers: dict[str, Any] = {name: connection.execute(sql).fetchone()[0] for name, sql in _COUNTS.items()}
    embedder, dimension = vector_space.stored(connection)
    return numbers | {"embedder": embedder, "dimension": dimension}


def contents(stream: Stream) -> Iterator[str]:
    """Texts and versions that are not as they were written."""
    for key, text, digest in stream("SELECT key, text, text_hash FROM cubes WHERE text IS NOT NULL"):
        if hashlib.sha256(text.encode()).hexdigest() != digest:
            yield f"cubes: the text of row {key} was altered (its sha256 differs)"
    sql = "SELECT id, count(*) FROM cubes WHERE superseded IS NULL GROUP BY id HAVING count(*) > 1"
    yield from (f"cubes: {id} has {count} open versions" for id, count in stream(sql))
    sql = "SELECT id FROM cubes GROUP BY id HAVING max(version) - min(version) + 1 <> count(*)"
    yield from (f"cubes: {id} lacks versions between its first and last" for (id,) in stream(sql))


def chain(stream: Stream) -> Iterator[str]:
    """Where the log was altered."""
    yield from log.problems(log.Row(*row) for row in stream(_LOG))


def tensors(connection: Connection, blobs: Blobs) -> Iterator[str]:
    """Tensors that a memory names and that are gone or altered."""
    for (address,) in connection.execute("SELECT DISTINCT blob FROM cubes WHERE blob IS NOT NULL").fetchall():
        try:
            blobs.read(address)
        except (CorruptStore, StoreUnavailable) as error:
            yield f"blobs: {error}"


# -- SQLite ---------------------------------------------------------------------------------------


def file_statistics(connection: sqlite3.Connection) -> dict[str, Any]:
    """``statistics``, the schema, and the erasure step that is pending (or ``None``)."""
    (schema,) = connection.execute("SELECT user_version FROM pragma_user_version").fetchone()
    return statistics(connection) | {"schema": schema, "erasing": erasure.pending(connection)}


def problems(connection: sqlite3.Connection, blobs: Blobs) -> Iterator[str]:
    """Everything found wrong. ``connection`` must be in a write transaction, which is to be rolled back:
    the full-text check is spelled as an INSERT."""
    stream = partial(_all, connection)
    for name, check in (
        ("pages", _pages(connection)),
        ("full text", _full_text(connection)),
        ("cubes", contents(stream)),
        ("log", chain(stream)),
        ("vectors", _vectors(connection)),
        ("erasure", _erasure(connection)),
        ("blobs", tensors(connection, blobs)),
    ):
        yield from _guarded(name, check)


def _guarded(name: str, check: Iterator[str]) -> Iterator[str]:
    try:
        yield from check
    except sqlite3.Error as error:
        yield f"{name}: {error}"


def _pages(connection: sqlite3.Connection) -> Iterator[str]:
    yield from (f"database: {row[0]}" for row in connection.execute("PRAGMA integrity_check") if row[0] != "ok")
    yield from (
        f"database: {row[0]} row {row[1]} points nowhere" for row in connection.execute("PRAGMA foreign_key_check")
    )


def _full_text(connection: sqlite3.Connection) -> Iterator[str]:
    try:
        connection.execute("INSERT INTO texts (texts, rank) VALUES ('integrity-check', 1)")
    except sqlite3.DatabaseError:
        yield "full text: the index does not match the texts; run INSERT INTO texts (texts) VALUES ('rebuild')"


def _vectors(connection: sqlite3.Connection) -> Iterator[str]:
    _, dimension = vector_space.stored(connection)
    sql = "SELECT key FROM vectors WHERE length(vector) <> ?"
    yield from (f"vectors: row {key} has a wrong length" for (key,) in connection.execute(sql, (4 * (dimension or 0),)))


def _erasure(connection: sqlite3.Connection) -> Iterator[str]:
    if (step := erasure.pending(connection)) is not None:
        yield f"erasure: traces of forgotten memories remain (step {step!r} waits for other readers or disk space)"


def _all(connection: sqlite3.Connection, sql: str) -> Iterator[tuple[Any, ...]]:
    cursor = connection.execute(sql)
    while rows := cursor.fetchmany(_ROWS):
        yield from rows
