"""SqliteStore: everything in one file, the default store. Reads in ``reader``, writes in ``transaction``.

Threads and processes may share a file: one writes at a time (others wait up to 30 seconds), readers
never wait. Tensors live beside it in ``PATH.blobs/``. A store does not survive ``os.fork``: open it in
the child. The layout is in ``migrations``, what visible means in ``reading``, how traces of forgotten
memories go in ``erasure``.
"""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from lamina.cube.cube import Scope
from lamina.errors import InvalidInput, StoreUnavailable
from lamina.store import erasure, reading, vector_space, verification
from lamina.store.base import Change, Vector
from lamina.store.blobs import Blobs, BlobStore
from lamina.store.connection import Readers, check_path, connect_writer, mapped
from lamina.store.filters import Node
from lamina.store.filters_sqlite import compile_filter
from lamina.store.migrations import migrate
from lamina.store.reader import CHUNK, SqlReader
from lamina.store.reading import LIVE, Fragment, within
from lamina.store.rows import SELECTED, from_row
from lamina.store.sql import Connection
from lamina.store.sqlite_database import SqliteDatabase
from lamina.store.transaction import Head, SqlTransaction
from lamina.store.vector_space import Embedder, VectorSpace

T = TypeVar("T")


class SqliteStore(SqlReader):
    """The ``Store`` in the file ``path``, made when missing; ``":memory:"`` is a file that goes with ``close``.

    ``durable=False`` skips the wait for the disk: a power cut may then undo the last transactions, though
    never half of one. ``embedder`` names the model of the vectors; a file with another's is refused.

    Raises ``InvalidInput`` (a directory, another program's database, another embedder),
    ``StoreUnavailable`` (no access, full disk, locked, written by a newer Lamina), ``CorruptStore``.
    """

    def __init__(self, path: str | Path, *, durable: bool = True, embedder: str | None = None) -> None:
        self._temporary = tempfile.TemporaryDirectory(prefix="lamina-") if str(path) == ":memory:" else None
        self.path = Path(self._temporary.name) / "memory.db" if self._temporary else check_path(path)
        self._blobs = BlobStore(self.path.with_name(f"{self.path.name}.blobs"))
        self._space = VectorSpace(embedder, self.path)
        self._lock = threading.Lock()
        self._owner: int | None = None  # the thread inside a transaction
        self._closed = False
        with mapped(self.path):
            self._writer = connect_writer(self.path, durable=durable and self._temporary is None)
            try:
                migrate(self._writer, self.path)
                self._space.opened(self._writer)
                self._erasing = erasure.pending(self._writer) is not None
            except BaseException:
                self._writer.close()
                raise
        self._readers = Readers(self.path)
        if self._erasing:
            self._finish_erasing()

    def as_tenant(self, tenant: str | None) -> Self:  # noqa: ARG002 - a file keeps no tenants apart but by filter
        """This store."""
        return self

    # -- writing ---------------------------------------------------------------------------------

    @contextmanager
    def transaction(self) -> Iterator[SqlTransaction]:
        """Begin a write; commits, durably, on exit, and rolls back on an exception. Not to be nested."""
        self._refuse_nesting()
        with self._lock:
            try:
                self._owner = threading.get_ident()
                with mapped(self.path):
                    self._writer.execute("BEGIN IMMEDIATE")
                    tx = self._begun()
                yield tx
                self._commit(tx)
            except BaseException:
                with mapped(self.path):
                    if self._writer.in_transaction:
                        self._writer.execute("ROLLBACK")
                raise
            finally:
                self._owner = None
            if self._erasing:
                self._finish_erasing()

    def _begun(self) -> SqlTransaction:
        database = SqliteDatabase(self._writer, self.path, self._blobs)
        return SqlTransaction(database, self._space, database.head())

    def _commit(self, tx: SqlTransaction) -> None:
        tx.end()
        with mapped(self.path):
            if not self._writer.in_transaction:
                raise StoreUnavailable(f"{self.path}: the transaction failed at an earlier write; nothing was stored")
            if tx.forgot:
                erasure.begin(self._writer)
            self._writer.execute("COMMIT")
        self._erasing = self._erasing or tx.forgot

    def _finish_erasing(self) -> None:
        with mapped(self.path):
            self._erasing = not erasure.finish(self._writer, self.path, self._blobs)

    def _refuse_nesting(self) -> None:
        if self._owner == threading.get_ident():
            raise InvalidInput("a transaction of this thread is open already: use it, or end it first")

    @contextmanager
    def frozen(self) -> Iterator[tuple[Connection, Blobs, Head]]:
        """Everything in the file while nobody writes to it: its tables, its tensors, and where it stands."""
        self._refuse_nesting()
        with self._lock, mapped(self.path):
            self._writer.execute("BEGIN IMMEDIATE")
            try:
                yield self._writer, self._blobs, SqliteDatabase(self._writer, self.path, self._blobs).head()
            finally:
                self._writer.execute("ROLLBACK")

    def reembed(self, embedder: Embedder) -> int:
        """Replace all vectors by those of ``embedder``; their number. Writers wait until it is done."""
        space = VectorSpace(embedder.name, self.path)
        count = 0
        with self.transaction() as tx:
            vector_space.replace_all(self._writer, embedder.name, embedder.dimension)
            for rows in self._text_chunks():
                vectors = space.check(list(embedder.encode([text for _, text in rows])), self._writer)
                tx.replace_vectors([(key, vector) for (key, _), vector in zip(rows, vectors, strict=True)])
                count += len(rows)
        self._space = space
        return count

    def _text_chunks(self) -> Iterator[list[tuple[int, str]]]:
        last = 0
        sql = "SELECT key, text FROM cubes WHERE text IS NOT NULL AND key > ? ORDER BY key LIMIT ?"
        while rows := self._writer.execute(sql, (last, CHUNK)).fetchall():
            yield rows
            last = rows[-1][0]

    # -- reading ---------------------------------------------------------------------------------

    def changes(self, scope: Scope, since: int = 0) -> Iterator[Change]:
        """Every version of a text in a scope written, closed or forgotten after ``since``, in order of ``change``.

        No lock or snapshot is held between two items; what is written meanwhile comes at the end.
        """
        here, parameters = within(scope)
        gone, more = within(scope, table="g")
        # The sign keeps the planner from sorting a whole tenant when an index on change has the order.
        here, gone = (here, gone) if scope.user is not None else (f"+{here}", f"+{gone}")
        sql = (
            f"SELECT c.change, c.key, v.vector, {SELECTED} FROM cubes c LEFT JOIN vectors v ON v.key = c.key"
            f" WHERE {here} AND c.change > ? AND c.blob IS NULL UNION ALL"
            f" SELECT g.change, g.key{', NULL' * 7} FROM gone g WHERE {gone} AND g.change > ?"
            " ORDER BY 1 LIMIT ?"
        )
        while True:
            with self._readers.lend() as db:
                rows = db.execute(sql, [*parameters, since, *more, since, CHUNK]).fetchall()
            for change, key, vector, *row in rows:
                cube = None if row[-1] is None else from_row(tuple(row), self._blobs)
                yield Change(change, key, cube is None, cube, vector_space.unpack(vector))
            if len(rows) < CHUNK:
                return
            since = rows[-1][0]

    def last_change(self) -> int:
        """The newest change number, 0 for an empty store."""
        sql = "SELECT max((SELECT coalesce(max(change), 0) FROM cubes), (SELECT coalesce(max(change), 0) FROM gone))"
        return int(self._value(sql))

    def vector(self, id: str) -> Vector | None:
        """The vector of the newest version, float32 of unit norm; ``None`` when it has none."""
        sql = "SELECT v.vector FROM cubes c LEFT JOIN vectors v ON v.key = c.key WHERE c.id = ? ORDER BY c.version DESC"
        with self._readers.lend() as db:
            row = db.execute(f"{sql} LIMIT 1", (id,)).fetchone()
        return None if row is None else vector_space.unpack(row[0])

    def match(self, text: str, scope: Scope, *, limit: int = 100) -> list[tuple[int, float]]:
        """Full-text candidates among open versions: ``(key, score)``, best first. A finder, not a ranker.

        Any word may match (stemmed, accents ignored); text in double quotes is one phrase. The score is
        -bm25 over the whole file, so ranks within a scope should be computed anew.
        """
        expression = reading.match_expression(text)
        if expression is None:
            return []
        here, parameters = within(scope)
        is_open, more = reading.open_now(holds=False)
        sql = (
            "SELECT c.key, -bm25(texts) AS score FROM texts JOIN cubes c ON c.key = texts.rowid"
            f" WHERE texts MATCH ? AND {here} AND {is_open} AND {LIVE} ORDER BY score DESC, c.key LIMIT ?"
        )
        with self._readers.lend() as db:
            return db.execute(sql, [expression, *parameters, *more, limit]).fetchall()

    def _read(self, tenant: str | None, work: Callable[[Connection, Blobs], T]) -> T:  # noqa: ARG002 - one file
        with self._readers.lend() as db:
            return work(db, self._blobs)

    def _compiled(self, node: Node) -> Fragment:
        return compile_filter(node)

    def _place(self) -> str:
        return str(self.path)

    # -- care ------------------------------------------------------------------------------------

    def stats(self) -> Mapping[str, Any]:
        """Counts and bytes, for ``lamina doctor``."""
        with self._readers.snapshot() as db:
            numbers = verification.file_statistics(db)
        wal = self.path.with_name(f"{self.path.name}-wal")
        return numbers | {
            "store": "sqlite",
            "path": str(self.path),
            "bytes": self.path.stat().st_size + (wal.stat().st_size if wal.exists() else 0),
            "blob_bytes": self._blobs.size(),
        }

    def verify(self) -> list[str]:
        """Integrity problems found, empty when sound: pages, full text, text hashes, versions, the log's
        chain, vectors, blobs, and erasures not finished. Reads everything; writers wait meanwhile."""
        self._refuse_nesting()
        with self._lock, mapped(self.path):
            self._writer.execute("BEGIN IMMEDIATE")
            try:
                return list(verification.problems(self._writer, self._blobs))
            finally:
                self._writer.execute("ROLLBACK")

    def collect_blobs(self) -> list[str]:
        """Remove tensors no memory names, older than an hour (left by rolled-back writes); their names."""
        with self._readers.lend() as db:
            named = {row[0] for row in db.execute("SELECT DISTINCT blob FROM cubes WHERE blob IS NOT NULL")}
        return self._blobs.collect(named)

    def close(self) -> None:
        """Release the files; safe to call twice. Nothing is pending: commits were durable."""
        self._refuse_nesting()
        with self._lock, mapped(self.path):
            if self._closed:
                return
            self._closed = True
            self._readers.close()
            if self._erasing:
                self._finish_erasing()
            self._writer.close()
        if self._temporary:
            self._temporary.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _value(self, sql: str) -> Any:
        with self._readers.lend() as db:
            return db.execute(sql).fetchone()[0]
