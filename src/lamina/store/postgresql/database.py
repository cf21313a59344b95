"""The writing connection of PostgreSQL as a ``Database``: the shared SQL, and the statements only PostgreSQL has."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager

from psycopg import Pipeline

from lamina.errors import StoreUnavailable
from lamina.store.log import Row
from lamina.store.postgresql import vectors, words
from lamina.store.postgresql.blobs import PgBlobs
from lamina.store.postgresql.connection import mapped
from lamina.store.postgresql.dialect import PgConnection
from lamina.store.transaction import Head

_LOCK = "SELECT key, change, seq, hash, pg_current_xact_id()::text FROM head FOR UPDATE"
_UNNAMED_BLOBS = """
DELETE FROM blobs b WHERE b.tenant = ? AND b.address = ?
    AND NOT EXISTS (SELECT 1 FROM cubes c WHERE c.tenant = b.tenant AND c.blob = b.address)
"""
_DROP_BLOBS = """
DELETE FROM blobs b USING (SELECT DISTINCT tenant, blob FROM cubes WHERE id = ? AND blob IS NOT NULL) d
WHERE b.tenant = d.tenant AND b.address = d.blob
    AND NOT EXISTS (SELECT 1 FROM cubes c WHERE c.tenant = d.tenant AND c.blob = d.blob AND c.id <> ?)
"""


class PgDatabase(PgConnection):
    """One transaction; see ``lamina.store.transaction.Database``. ``xid`` is the server's number of it."""

    def __init__(self, connection: PgConnection, place: str) -> None:
        super().__init__(connection.raw)
        self.place = place
        self.xid = ""
        self._written: list[tuple[str, str]] = []  # tensors

    def lock(self) -> Head:
        """Wait for the right to write; where the store stands."""
        row = self.execute(_LOCK).fetchone()
        if row is None:
            raise StoreUnavailable(f"{self.place}: the table head is empty; restore a backup")
        *head, self.xid = row
        return Head(*head)

    def commit(self, head: Head) -> None:
        """Write where the store stands now, and make all of it last. An aborted transaction refuses the first."""
        with self.raw.pipeline():
            self.executemany(_UNNAMED_BLOBS, self._written)
            self.execute(
                "UPDATE head SET key = ?, change = ?, seq = ?, hash = ?", (head.key, head.change, head.seq, head.hash)
            )
            self.execute("COMMIT")

    def guarded(self) -> AbstractContextManager[None]:
        return mapped(self.place)

    def rollback(self) -> None:
        if self.in_transaction:
            self.raw.rollback()

    def together(self) -> AbstractContextManager[Pipeline]:
        return self.raw.pipeline()

    def blobs(self, tenant: str) -> PgBlobs:
        return PgBlobs(self, tenant, self._written)

    def put_words(self, rows: Sequence[tuple[int, str | None]]) -> None:
        found = [(key, words.lexemes(text)) for key, text in rows if text is not None]
        self._of_cubes("words (length, lexemes, key, tenant)", "?, ?::tsvector", [
            (len(lexemes), words.tsvector(lexemes), key) for key, lexemes in found
        ])  # fmt: skip

    def put_vectors(self, rows: Sequence[tuple[int, bytes | None]]) -> None:
        present = [(vectors.packed(data), key) for key, data in rows if data is not None]
        if present:
            self._of_cubes("vectors (vector, key, tenant)", "?::vector", present)

    def index_vectors(self, dimension: int) -> None:
        """Make the graph of nearest neighbours, unless it is there."""
        self.execute("SELECT index_vectors(?)", (dimension,))

    def put_log(self, rows: Sequence[tuple[Row, str]]) -> None:
        self.executemany(f"INSERT INTO log VALUES ({', '.join('?' * 10)})", [(*row, tenant) for row, tenant in rows])

    def delete(self, id: str) -> None:
        self.execute(_DROP_BLOBS, (id, id))
        self.execute("DELETE FROM cubes WHERE id = ?", (id,))

    def _of_cubes(self, into: str, values: str, rows: Sequence[tuple[object, ...]]) -> None:
        """Rows beside those of ``cubes`` with the same key, which is the last value of each; the tenant is theirs."""
        self.executemany(f"INSERT INTO {into} SELECT {values}, key, tenant FROM cubes WHERE key = ?", rows)
