"""PostgresStore: memories in PostgreSQL with pgvector, for many workers at once. Reads in ``reader``, writes in
``transaction``, both shared with SQLite; the rooms of ``postgresql`` hold what is not.

One writes at a time, readers never wait. Row-level security stands behind the application's filters: every read of a
scope runs as the scope's tenant, and a store opened for a ``tenant`` does everything as that tenant. Tensors are rows,
so that workers need share nothing but the server. A store does not survive ``os.fork``: open it in the child.

``forget`` deletes rows, words, vectors and tensors in its transaction: nothing of them can be asked for again. As with
every PostgreSQL database the bytes stay in the server's files until ``VACUUM FULL`` rewrites them, and in its
write-ahead log and backups for as long as these are kept.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from types import TracebackType
from typing import Any, Self, TypeVar

from lamina.cube.cube import Scope
from lamina.errors import InvalidInput, StoreUnavailable
from lamina.store import reading, vector_space, verification
from lamina.store.base import Change, Filter, Vector
from lamina.store.blobs import Blobs
from lamina.store.filters import Node
from lamina.store.postgresql import integrity, vectors, words
from lamina.store.postgresql.blobs import PgBlobs
from lamina.store.postgresql.connection import ConnectionLost, Server, Turn, mapped
from lamina.store.postgresql.database import PgDatabase
from lamina.store.postgresql.dialect import PgConnection
from lamina.store.postgresql.filters import compile_filter
from lamina.store.postgresql.turns import Turns
from lamina.store.reader import CHUNK, SqlReader
from lamina.store.reading import Fragment, within
from lamina.store.rows import SELECTED, from_row
from lamina.store.sql import Connection
from lamina.store.transaction import Head, SqlTransaction
from lamina.store.vector_space import Embedder, VectorSpace

T = TypeVar("T")
UNFINISHED = "moving"  # in meta: what is being moved into this database
_BYTES = (
    "SELECT sum(pg_total_relation_size(oid))::bigint FROM pg_class"
    " WHERE relnamespace = 'lamina'::regnamespace AND relkind = 'r'"
)


class PostgresStore(SqlReader):
    """The ``Store`` in the database at ``url`` (``postgresql://...``); the schema ``lamina`` is made when missing.

    ``tenant``: everything is done as this tenant, others do not exist; ``None``: reads of a scope are done as the
    scope's tenant, everything else as operator. ``connections`` bounds those this process opens. ``durable=False``
    lets the server answer before the disk has (``synchronous_commit = off``). ``embedder`` names the model of the
    vectors; a database with another's is refused. ``unfinished`` opens also what ``lamina migrate-store`` has not
    ended.

    Raises ``StoreUnavailable`` (no server, no database, no pgvector, written by a newer Lamina), ``InvalidInput``
    (another embedder), ``NotPermitted`` (the login may not make or use the schema).
    """

    def __init__(
        self,
        url: str,
        *,
        tenant: str | None = None,
        embedder: str | None = None,
        durable: bool = True,
        connections: int = 10,
        unfinished: bool = False,
    ) -> None:
        if connections < 2:
            raise InvalidInput(f"connections={connections}: one writes, others read; give 2 or more")
        self._server = Server(url, connections=connections, durable=durable)
        self._tenant = tenant
        self._space = VectorSpace(embedder, self._server.place)
        self._turn = Turn()
        self._turns = Turns(url, self._server.place)
        self._views: dict[str | None, PostgresStore] = {tenant: self}
        try:
            self._check(unfinished=unfinished)
        except BaseException:
            self._server.close()
            raise

    def as_tenant(self, tenant: str | None) -> PostgresStore:
        """The same store for one tenant alone, or (``None``) for all; they share their connections, and close together.

        Raises ``InvalidInput`` for all tenants where the login is not the operator's.
        """
        if tenant not in self._views:
            view = copy.copy(self)
            view._tenant = tenant
            view._check()
            self._views.setdefault(tenant, view)
        return self._views[tenant]

    def _check(self, *, unfinished: bool = True) -> None:
        if self._tenant is None and not self._server.may_operate:
            raise InvalidInput(f"tenant=None: the login of {self._place()} is not the operator's; name the tenant")
        self._read(self._tenant, lambda db, _: self._space.opened(db))
        sql = "SELECT 1 FROM meta WHERE name = ?"
        if not unfinished and self._rows(self._tenant, sql, (UNFINISHED,)):
            raise StoreUnavailable(f"{self._place()}: only a part has been moved here; run lamina migrate-store again")

    # -- writing ---------------------------------------------------------------------------------

    @contextmanager
    def transaction(self) -> Iterator[SqlTransaction]:
        """Begin a write; commits, durably, on exit, and rolls back on an exception. Not to be nested.

        Waits for a server that restarts. If it goes away later, ``ConnectionLost`` says that nothing was written:
        repeat the whole block. What was committed is known to be, even if the server died before it could answer.
        """
        with self._writing(self._tenant) as (_, tx):
            yield tx

    @contextmanager
    def _writing(self, tenant: str | None) -> Iterator[tuple[PgDatabase, SqlTransaction]]:
        with self._locked(tenant) as (database, head):
            tx = SqlTransaction(database, self._space, head)
            yield database, tx
            tx.end()
            self._commit(database, tx)

    @contextmanager
    def _locked(self, tenant: str | None) -> Iterator[tuple[PgDatabase, Head]]:
        with self._turn.taken():
            database, head = self._server.patiently(lambda: self._begun(tenant))
            try:
                yield database, head
            finally:
                self._server.give_back(database)  # which undoes what was not committed

    @contextmanager
    def locked(self) -> Iterator[tuple[PgDatabase, Head]]:
        """The right to write rows as they are, for ``lamina.store.moving``; nothing lasts without ``commit(head)``."""
        with self._locked(None) as begun, mapped(self._place()):
            yield begun

    @contextmanager
    def whole(self) -> Iterator[PgConnection]:
        """Everything the login may see, as of one moment: in a transaction that nobody waits for."""
        with self._server.lend() as db, db.raw.transaction():
            db.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            self._server.begin(db, None if self._server.may_operate else self._tenant, reads=True)
            yield db

    def _begun(self, tenant: str | None) -> tuple[PgDatabase, Head]:
        database = PgDatabase(self._server.take(), self._place())
        try:
            with mapped(self._place()), database.together():
                database.execute("BEGIN")
                self._server.begin(database, tenant)
                return database, database.lock()
        except BaseException:
            self._server.give_back(database)
            raise

    def _commit(self, database: PgDatabase, tx: SqlTransaction) -> None:
        if not database.in_transaction:
            raise StoreUnavailable(f"{self._place()}: the transaction failed at an earlier write; nothing was stored")
        try:
            with mapped(self._place()):
                database.commit(tx.head)
        except ConnectionLost:
            if not self._took_place(database, tx):
                raise

    def _took_place(self, database: PgDatabase, tx: SqlTransaction) -> bool:
        """Whether a transaction whose COMMIT was not answered is in the log. (Its number alone proves nothing: a
        server that crashed may give the number of a transaction it has no trace of to another.)"""
        self._server.wait_for_end(database.xid, self._tenant)
        sql = "SELECT 1 FROM log WHERE seq = ? AND hash = ?"
        return tx.logged and bool(self._rows(None, sql, (tx.head.seq, tx.head.hash)))

    def reembed(self, embedder: Embedder) -> int:
        """Replace all vectors, of all tenants, by those of ``embedder``; their number. Writers wait meanwhile."""
        space, count, last = VectorSpace(embedder.name, self._place()), 0, 0
        sql = "SELECT key, text FROM cubes WHERE text IS NOT NULL AND key > ? ORDER BY key LIMIT ?"
        with self._writing(None) as (db, tx):
            db.execute("SELECT clear_vectors()")
            vector_space.replace_all(db, embedder.name, embedder.dimension)
            while rows := db.execute(sql, (last, CHUNK)).fetchall():
                packed = space.check(list(embedder.encode([text for _, text in rows])), db)
                tx.replace_vectors([(key, vector) for (key, _), vector in zip(rows, packed, strict=True)])
                count, last = count + len(rows), rows[-1][0]
        self._space = space
        return count

    def turn(self, name: str, *, wait: bool) -> AbstractContextManager[bool]:
        """Whether this process alone of all does the work ``name`` until the block ends; with ``wait`` it does, sooner
        or later."""
        return self._turns.taken(name, wait=wait)

    # -- reading ---------------------------------------------------------------------------------

    def changes(self, scope: Scope, since: int = 0) -> Iterator[Change]:
        """Every version of a text in a scope written, closed or forgotten after ``since``, in order of ``change``.

        No lock or snapshot is held between two items; what is written meanwhile comes at the end.
        """
        here, parameters = within(scope)
        gone, more = within(scope, table="g")
        sql = (
            f"(SELECT c.change, c.key, vector_send(v.vector), {SELECTED}"
            " FROM cubes c LEFT JOIN vectors v ON v.key = c.key"
            f" WHERE {here} AND c.change > ? AND c.blob IS NULL ORDER BY c.change LIMIT ?) UNION ALL"
            f" (SELECT g.change, g.key{', NULL' * 7} FROM gone g WHERE {gone} AND g.change > ?"
            " ORDER BY g.change LIMIT ?) ORDER BY 1 LIMIT ?"
        )

        def work(db: Connection, blobs: Blobs) -> list[Change]:
            values = [*parameters, since, CHUNK, *more, since, CHUNK, CHUNK]
            return [_change(row, blobs) for row in db.execute(sql, values).fetchall()]

        while True:
            changed = self._read(scope.tenant, work)
            yield from changed
            if len(changed) < CHUNK:
                return
            since = changed[-1].change

    def last_change(self) -> int:
        """The newest change number, 0 for an empty store."""
        return int(self._rows(self._tenant, "SELECT change FROM head", ())[0][0])

    def vector(self, id: str) -> Vector | None:
        """The vector of the newest version, float32 of unit norm; ``None`` when it has none."""
        sql = (
            "SELECT vector_send(v.vector) FROM cubes c LEFT JOIN vectors v ON v.key = c.key"
            " WHERE c.id = ? ORDER BY c.version DESC LIMIT 1"
        )
        rows = self._rows(None, sql, (id,))
        return vectors.unpacked(rows[0][0]) if rows else None

    def match(self, text: str, scope: Scope, *, limit: int = 100) -> list[tuple[int, float]]:
        """Full-text candidates among open versions: ``(key, score)``, best first.

        Any word may match (stemmed, accents ignored); text in double quotes is one phrase. The score is BM25 over the
        open memories of the scope.
        """
        here, parameters = within(scope)
        asked = words.query(text)
        if asked is None:
            return []
        is_open, more = reading.open_now(holds=False)
        sql = words.MATCH.format(scope=here, is_open=is_open)
        expression, terms = asked
        return self._rows(scope.tenant, sql, [*parameters, *more, expression, json.dumps(terms), limit])

    def neighbours(
        self, vector: Vector, scope: Scope, where: Filter | None = None, *, limit: int = 10
    ) -> list[tuple[int, float]]:
        """Key and cosine of the open memories nearest to ``vector`` (unit norm), best first. For scopes too large to be
        indexed in each worker's memory: exact up to 10,000 memories, through pgvector's graph above, which the first
        such question builds while writers wait."""
        parts = self._conditions(scope, where, None, False)
        condition = " AND ".join(sql for sql, _ in parts), [p for _, parameters in parts for p in parameters]

        def work(db: Connection, _: Blobs) -> list[tuple[int, float]]:
            return vectors.nearest(db, vector, condition, limit)

        try:
            return self._read(scope.tenant, work)
        except vectors.GraphMissing as missing:
            with self._locked(self._tenant) as (db, head), mapped(self._place()):
                db.index_vectors(missing.dimension)
                db.commit(head)
        return self._read(scope.tenant, work)

    # -- care ------------------------------------------------------------------------------------

    def stats(self) -> Mapping[str, Any]:
        """Counts and bytes, for ``lamina doctor``; of this store's tenant, but for events and bytes."""

        def work(db: Connection, _: Blobs) -> dict[str, Any]:
            numbers = verification.statistics(db) | {"store": "postgresql", "path": self._place(), "erasing": None}
            (numbers["events"],) = db.execute("SELECT seq FROM head").fetchone()
            (numbers["schema"],) = db.execute("SELECT max(number) FROM migrations").fetchone()
            (numbers["bytes"],) = db.execute(_BYTES).fetchone()
            (numbers["blob_bytes"],) = db.execute("SELECT pg_total_relation_size('blobs')").fetchone()
            return numbers

        return self._read(self._tenant, work)

    def verify(self) -> list[str]:
        """Integrity problems found, empty when sound: text hashes, words, versions, the log's chain, vectors, tensors.
        Reads everything the login may see, of one moment; nobody waits. A login that is not the operator's proves
        nothing of the log, which belongs to all tenants."""
        self._turn.refuse_nesting()
        with self.whole() as db:
            return list(integrity.problems(db, PgBlobs(db), whole=self._server.may_operate))

    def close(self) -> None:
        """Close all connections; safe to call twice. Nothing is pending: commits were durable."""
        self._turn.refuse_nesting()
        self._turns.close()
        self._server.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _read(self, tenant: str | None, work: Callable[[Connection, Blobs], T]) -> T:
        tenant = self._tenant if self._tenant is not None else tenant
        return self._server.read(tenant, lambda db: work(db, PgBlobs(db)))

    def _log_rows(self, sql: str, parameters: Sequence[Any], *, whole: bool) -> list[Any]:
        if whole and self._server.may_operate:
            return self._server.read(None, lambda db: db.execute(sql, parameters).fetchall())
        return self._rows(None, sql, parameters)

    def _compiled(self, node: Node) -> Fragment:
        return compile_filter(node)

    def _place(self) -> str:
        return self._server.place


def _change(row: Sequence[Any], blobs: Blobs) -> Change:
    change, key, vector, *rest = row
    cube = None if rest[-1] is None else from_row(tuple(rest), blobs)
    return Change(change, key, cube is None, cube, vectors.unpacked(vector))
