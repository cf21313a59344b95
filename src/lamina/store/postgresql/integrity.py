"""Is everything in PostgreSQL as it was written? What both databases check, and what only this one can get wrong."""

from __future__ import annotations

from collections.abc import Iterator

from lamina.store import vector_space, verification
from lamina.store.blobs import Blobs
from lamina.store.postgresql.dialect import PgConnection

_COUNTERS = """
SELECT h.key >= greatest((SELECT max(key) FROM cubes), (SELECT max(key) FROM gone), 0)
    AND h.change >= greatest((SELECT max(change) FROM cubes), (SELECT max(change) FROM gone), 0)
FROM head h
"""
_LOG_END = "SELECT h.seq, h.hash = coalesce((SELECT hash FROM log WHERE seq = h.seq), repeat('0', 64)) FROM head h"


def problems(db: PgConnection, blobs: Blobs, *, whole: bool) -> Iterator[str]:
    """Everything found wrong in what the connection may see; the log's chain where it sees the ``whole``."""
    yield from verification.contents(db.stream)
    if whole:
        yield from verification.chain(db.stream)
        yield from _head(db)
    sql = "SELECT c.key FROM cubes c LEFT JOIN words w ON w.key = c.key WHERE c.text IS NOT NULL AND w.key IS NULL"
    yield from (f"full text: row {key} is not indexed" for (key,) in db.execute(sql).fetchall())
    _, dimension = vector_space.stored(db)
    sql = "SELECT key FROM vectors WHERE vector_dims(vector) <> ?"
    yield from (f"vectors: row {key} has a wrong length" for (key,) in db.execute(sql, (dimension or 0,)).fetchall())
    yield from verification.tensors(db, blobs)


def _head(db: PgConnection) -> Iterator[str]:
    if not all(row[0] for row in db.execute(_COUNTERS).fetchall()):
        yield "head: its key or change is behind the newest row"
    for seq, agrees in db.execute(_LOG_END).fetchall():
        if not agrees:
            yield f"log: it ends before row {seq}, which was written: rows are missing at its end"
