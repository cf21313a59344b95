"""The writing connection of SQLite as a ``Database``: the shared SQL, and the statements that only SQLite has."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from lamina.store.blobs import Blobs
from lamina.store.connection import mapped
from lamina.store.log import GENESIS, Row
from lamina.store.transaction import Head

_LAST = "SELECT max((SELECT coalesce(max({0}), 0) FROM cubes), (SELECT coalesce(max({0}), 0) FROM gone))"


class SqliteDatabase:
    """One transaction's view of the writer; see ``lamina.store.transaction.Database``."""

    def __init__(self, connection: sqlite3.Connection, path: Path, blobs: Blobs) -> None:
        self._connection = connection
        self._blobs = blobs
        self.place = path
        self.executemany = connection.executemany

    def execute(self, sql: str, parameters: Sequence[Any] = (), /) -> sqlite3.Cursor:
        return self._connection.execute(sql, parameters)

    def guarded(self) -> AbstractContextManager[None]:
        return mapped(self.place)

    def rollback(self) -> None:
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")

    def together(self) -> AbstractContextManager[None]:
        return nullcontext()

    def blobs(self, tenant: str) -> Blobs:  # noqa: ARG002 - tenants share the folder: equal tensors, one file
        return self._blobs

    def head(self) -> Head:
        """Where the file stands, read under the write lock."""
        (key,) = self._connection.execute(_LAST.format("key")).fetchone()
        (change,) = self._connection.execute(_LAST.format("change")).fetchone()
        last = self._connection.execute("SELECT seq, hash FROM log ORDER BY seq DESC LIMIT 1").fetchone()
        return Head(key, change, *(last or (0, GENESIS)))

    def put_words(self, rows: Iterable[tuple[int, str | None]]) -> None:
        self._connection.executemany("INSERT INTO texts (rowid, text) VALUES (?, ?)", rows)

    def put_vectors(self, rows: Iterable[tuple[int, bytes | None]]) -> None:
        self._connection.executemany("INSERT INTO vectors VALUES (?, ?)", rows)

    def put_log(self, rows: Iterable[tuple[Row, str]]) -> None:
        self._connection.executemany(f"INSERT INTO log VALUES ({', '.join('?' * 9)})", [row for row, _ in rows])

    def delete(self, id: str) -> None:
        self.execute("INSERT INTO texts (texts, rowid, text) SELECT 'delete', key, text FROM cubes WHERE id = ?", (id,))
        self.execute("DELETE FROM cubes WHERE id = ?", (id,))
