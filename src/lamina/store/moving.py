"""A whole store from a file into a PostgreSQL database: every version, edge, vector, tensor and row of the log.

Rows are copied as they are, with their keys and change numbers, so the log's chain stays whole and ends in the same
hash. A chunk is a transaction and goes on where the target ends, so a move that was killed is continued by starting it
again. Writers of the file wait meanwhile. Until everything is there and both sides have given the same checksums, the
target says in ``meta`` that it is unfinished and opens for nothing else.

The log of a file names no tenants. Its rows get that of the memory they are about, or the file's only one; those about
a forgotten memory of a file with several are the operator's alone. A file that is a copy of a server
(``lamina.store.copying``) does name them, in a table of its own.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from lamina.errors import CorruptStore, InvalidInput
from lamina.store.blobs import Blobs
from lamina.store.log import Row
from lamina.store.postgres import UNFINISHED, PostgresStore
from lamina.store.postgresql import vectors
from lamina.store.postgresql.database import PgDatabase
from lamina.store.rows import COLUMNS, INSERT
from lamina.store.sql import Connection
from lamina.store.sqlite import SqliteStore
from lamina.store.transaction import Head

CHUNK = 500  # rows in a transaction
_ID, _TENANT, _BLOB, _TEXT = (COLUMNS.index(name) for name in ("id", "tenant", "blob", "text"))
_EDGES = (
    "key, source, target, relation, weight, evidence, reason, tenant, user_id, agent_id, run_id, recorded,"
    " superseded, valid_from, valid_to"
)
# Everything both sides must have, in the order in which it is copied: columns, and those that order the rows.
TABLES = {
    "cubes": (", ".join(COLUMNS), "key"),
    "parents": ("parent, key, lineage", "key, parent, lineage"),
    "edges": (_EDGES, "key"),
    "gone": ("key, change, tenant, user_id, agent_id, run_id", "key"),
    "log": ("seq, at, actor, action, cube, version, reason, details, hash", "seq"),
}
# New edges must get numbers that those copied with theirs do not have; a login that may not set the counter counts.
_TAKEN = """
SELECT count(nextval(pg_get_serial_sequence('lamina.edges', 'key')))
FROM generate_series(1, (SELECT coalesce(max(key), 0) FROM edges))
"""
LOG_TENANTS = "log_tenants"  # in a file that is a copy of a server: whose each row of the log is
Rows = Sequence[tuple[Any, ...]]
Progress = Callable[[str, int], None]


@dataclass(frozen=True, slots=True)
class Moved:
    """Rows of each table, the same on both sides, and the end of the log."""

    rows: dict[str, int]
    log_head: str


def move(source: SqliteStore, target: PostgresStore, *, progress: Progress = lambda _, __: None) -> Moved:
    """Copy ``source`` into ``target`` (opened for all tenants, with ``unfinished=True``), and prove it.

    ``progress`` is told each table and the rows just copied. Raises ``InvalidInput`` when the target holds something
    else, ``CorruptStore`` when the two differ in the end (the target then stays closed to others).
    """
    with source.frozen() as (db, blobs, head):
        _claim(db, target, head)
        for table, write in (("cubes", _Cubes(db, blobs)), ("edges", _plain("edges")), ("gone", _plain("gone")),
                             ("log", _Log(db))):  # fmt: skip
            _copy(db, target, table, write, progress)
        with target.locked() as (to, _):
            to.execute(_TAKEN)
            to.commit(head)
        rows = _proved(db, target)
        if problems := target.verify():
            raise CorruptStore(f"the copy is not whole: {problems[0]}. Empty the database and move again")
        with target.locked() as (to, _):
            to.execute("DELETE FROM meta WHERE name = ?", (UNFINISHED,))
            to.commit(head)
    return Moved(rows, f"{head.seq}:{head.hash}")


def _claim(db: Connection, target: PostgresStore, head: Head) -> None:
    """Note in an empty target what is being moved into it; a target noted so already is gone on with."""
    state = json.dumps([head.seq, head.hash, head.key, head.change])
    with target.locked() as (to, empty):
        row = to.execute("SELECT value FROM meta WHERE name = ?", (UNFINISHED,)).fetchone()
        if row is None and empty != Head():
            raise InvalidInput(f"{to.place} holds memories: move into an empty database")
        if row is not None and row[0] != state:
            raise InvalidInput(
                f"{to.place} holds part of another file, or of this one before it was written to. Empty it and move "
                "again: psql -c 'DROP SCHEMA lamina CASCADE'"
            )
        if row is None:
            to.execute("INSERT INTO meta VALUES (?, ?)", (UNFINISHED, state))
            known = "SELECT name, value FROM meta WHERE name IN ('embedder', 'dimension')"
            to.executemany("INSERT INTO meta VALUES (?, ?)", db.execute(known).fetchall())
        to.commit(empty)


def _copy(
    db: Connection, target: PostgresStore, table: str, write: Callable[[PgDatabase, Rows], None], progress: Progress
) -> None:
    columns, order = TABLES[table]
    while True:
        with target.locked() as (to, head):
            (last,) = to.execute(f"SELECT coalesce(max({order}), 0) FROM {table}").fetchone() or (0,)
            sql = f"SELECT {columns} FROM {table} WHERE {order} > ? ORDER BY {order} LIMIT ?"
            rows = db.execute(sql, (last, CHUNK)).fetchall()
            write(to, rows)
            to.commit(head)
        progress(table, len(rows))
        if len(rows) < CHUNK:
            return


class _Cubes:
    """Versions with all that hangs on them: lineage, words, vector, tensors."""

    def __init__(self, db: Connection, blobs: Blobs) -> None:
        self._db, self._blobs = db, blobs

    def __call__(self, to: PgDatabase, rows: Rows) -> None:
        if not rows:
            return
        for row in rows:
            if row[_BLOB] is not None:
                to.blobs(row[_TENANT]).write(self._blobs.read(row[_BLOB]))
        to.executemany(INSERT, rows)
        between = (rows[0][0], rows[-1][0])
        lineage = "SELECT parent, key, lineage FROM parents WHERE key BETWEEN ? AND ?"
        to.executemany("INSERT INTO parents VALUES (?, ?, ?)", self._db.execute(lineage, between).fetchall())
        to.put_words([(row[0], row[_TEXT]) for row in rows])
        found = self._db.execute("SELECT key, vector FROM vectors WHERE key BETWEEN ? AND ?", between)
        to.put_vectors(found.fetchall())


class _Log:
    """Rows of the log, with the tenants a file does not note."""

    def __init__(self, db: Connection) -> None:
        self._db = db
        tenants = db.execute("SELECT tenant FROM cubes UNION SELECT tenant FROM gone").fetchall()
        self._only = tenants[0][0] if len(tenants) == 1 else ""
        named = db.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (LOG_TENANTS,)).fetchone()
        self._named = named is not None

    def __call__(self, to: PgDatabase, rows: Rows) -> None:
        about = json.dumps([row[4] for row in rows])
        owned = "SELECT DISTINCT id, tenant FROM cubes WHERE id IN (SELECT value FROM json_each(?))"
        tenants = dict(self._db.execute(owned, (about,)).fetchall())
        named = self._known(rows) if self._named and rows else {}
        to.put_log([(Row(*row), named.get(row[0], tenants.get(row[4], self._only))) for row in rows])

    def _known(self, rows: Rows) -> dict[int, str]:
        sql = f"SELECT seq, tenant FROM {LOG_TENANTS} WHERE seq BETWEEN ? AND ?"
        return dict(self._db.execute(sql, (rows[0][0], rows[-1][0])).fetchall())


def _plain(table: str) -> Callable[[PgDatabase, Rows], None]:
    columns = TABLES[table][0]
    sql = f"INSERT INTO {table} ({columns}) VALUES ({', '.join('?' for _ in columns.split(','))})"
    return lambda to, rows: to.executemany(sql, rows)


def _proved(db: Connection, target: PostgresStore) -> dict[str, int]:
    """Rows of each table, if both sides have the same. Raises ``CorruptStore`` naming the table that differs."""
    counts = {}
    with target.whole() as to:
        for table, (columns, order) in TABLES.items():
            sql = f"SELECT {columns} FROM {table} ORDER BY {order}"
            counts[table] = _same(table, db.execute(sql), to.stream(sql))
        sql = "SELECT key, {} FROM vectors ORDER BY key"
        moved = ((key, vectors.repacked(data)) for key, data in to.stream(sql.format("vector_send(vector)")))
        counts["vectors"] = _same("vectors", db.execute(sql.format("vector")), moved)
    return counts


def _same(table: str, source: Iterable[Any], target: Iterable[Any]) -> int:
    (count, checksum), other = _checksum(source), _checksum(target)
    if (count, checksum) != other:
        raise CorruptStore(
            f"{table}: {count} rows with checksum {checksum[:12]} in the file, {other[0]} with {other[1][:12]} on the "
            "server. Empty the database and move again"
        )
    return count


def _checksum(rows: Iterable[Any]) -> tuple[int, str]:
    count, digest = 0, hashlib.sha256()
    for row in rows:
        digest.update(repr(tuple(row)).encode())
        count += 1
    return count, digest.hexdigest()


def move_between(source: str, target: str, *, progress: Progress = lambda _, __: None) -> Moved:
    """``move`` from the file at ``source`` to the server at ``target``, opened and closed."""
    with SqliteStore(source) as old, closing(PostgresStore(target, unfinished=True)) as new:
        return move(old, new, progress=progress)
