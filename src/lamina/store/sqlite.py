"""SqliteStore: everything in one file, the default store. Reads here, writes in ``transaction``.

Threads and processes may share a file: one writes at a time (others wait up to 30 seconds), readers
never wait. Tensors live beside it in ``PATH.blobs/``. A store does not survive ``os.fork``: open it in
the child. The layout is in ``migrations``, what visible means in ``reading``, how traces of forgotten
memories go in ``erasure``.
"""

from __future__ import annotations

import json
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from lamina.cube.cube import MemCube, Scope
from lamina.errors import InvalidInput, NotFound, StoreUnavailable
from lamina.store import edges as edge_rows
from lamina.store import erasure, log, reading, vector_space, verification
from lamina.store.base import Change, Edge, Event, Filter, Page, Reached, Vector
from lamina.store.blobs import BlobStore
from lamina.store.connection import Readers, check_path, connect_writer, mapped
from lamina.store.filters import names_state, parse
from lamina.store.filters_sqlite import compile_filter
from lamina.store.migrations import migrate
from lamina.store.reading import LIVE, within
from lamina.store.rows import SELECTED, from_row, moment
from lamina.store.transaction import SqliteTransaction
from lamina.store.vector_space import VectorSpace

_CHUNK = 500  # rows read at a time by iterators


class _Embedder(Protocol):
    name: str
    dimension: int

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]: ...


class SqliteStore:
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

    # -- writing ---------------------------------------------------------------------------------

    @contextmanager
    def transaction(self) -> Iterator[SqliteTransaction]:
        """Begin a write; commits, durably, on exit, and rolls back on an exception. Not to be nested."""
        self._refuse_nesting()
        with self._lock:
            try:
                self._owner = threading.get_ident()
                with mapped(self.path):
                    self._writer.execute("BEGIN IMMEDIATE")
                    tx = SqliteTransaction(self._writer, self.path, self._blobs, self._space)
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

    def _commit(self, tx: SqliteTransaction) -> None:
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

    def reembed(self, embedder: _Embedder) -> int:
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
        while rows := self._writer.execute(sql, (last, _CHUNK)).fetchall():
            yield rows
            last = rows[-1][0]

    # -- reading ---------------------------------------------------------------------------------

    def get(self, id: str, *, version: int | None = None) -> MemCube | None:
        """The newest version (closed or not), or a given one; ``None`` when unknown."""
        with self._readers.lend() as db:
            if version is None:
                return reading.newest(db, id, self._blobs)
            row = db.execute(
                f"SELECT {SELECTED} FROM cubes c WHERE c.id = ? AND c.version = ?", (id, version)
            ).fetchone()
            return None if row is None else from_row(row, self._blobs)

    def versions(self, id: str) -> list[MemCube]:
        """All versions, oldest first."""
        return self._cubes(f"SELECT {SELECTED} FROM cubes c WHERE c.id = ? ORDER BY c.version", [id])

    def query(
        self,
        scope: Scope,
        where: Filter | None = None,
        *,
        as_of: datetime | None = None,
        closed: bool = False,
        limit: int = 100,
        cursor: str | None = None,
        newest_first: bool = True,
    ) -> Page:
        """Memories by time of recording. Without ``as_of``: open now; ``closed=True``: every version recorded
        by ``as_of``, whatever its state. ``where`` as in ``lamina.store.filters``; one that speaks of
        ``state`` also finds merged, archived and deleted memories. Pages stay stable while others insert.
        """
        if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
            raise InvalidInput(f"limit={limit!r}: pass a whole number from 1")
        parts = [within(scope)]
        node = parse(where) if where is not None else None
        if node is not None:
            parts.append(compile_filter(node))
        if closed and as_of is not None:
            parts.append(reading.recorded_by(as_of))
        if not closed:
            parts.append(reading.open_now() if as_of is None else reading.open_at(as_of))
            if node is None or not names_state(node):
                parts.append((LIVE, []))
        order, sign = ("DESC", "<") if newest_first else ("ASC", ">")
        if cursor is not None:
            parts.append((f"(c.recorded, c.key) {sign} (?, ?)", reading.decode_cursor(cursor)))
        sql = (
            f"SELECT c.recorded, c.key, {SELECTED} FROM cubes c WHERE {' AND '.join(sql for sql, _ in parts)}"
            f" ORDER BY c.recorded {order}, c.key {order} LIMIT ?"
        )
        with self._readers.lend() as db:
            rows = db.execute(sql, [p for _, parameters in parts for p in parameters] + [limit + 1]).fetchall()
        more = reading.encode_cursor(*rows[limit - 1][:2]) if len(rows) > limit else None
        return Page([from_row(row[2:], self._blobs) for row in rows[:limit]], more)

    def keys(self, scope: Scope, where: Filter) -> NDArray[np.int64]:
        """Keys, ascending, of all versions in a scope that pass a filter, whether open, closed or archived."""
        here, parameters = within(scope)
        condition, more = compile_filter(parse(where))
        with self._readers.lend() as db:
            rows = db.execute(
                f"SELECT c.key FROM cubes c WHERE {here} AND {condition} ORDER BY c.key", parameters + more
            )
            return np.fromiter((key for (key,) in rows), np.int64)

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
                rows = db.execute(sql, [*parameters, since, *more, since, _CHUNK]).fetchall()
            for change, key, vector, *row in rows:
                cube = None if row[-1] is None else from_row(tuple(row), self._blobs)
                yield Change(change, key, cube is None, cube, vector_space.unpack(vector))
            if len(rows) < _CHUNK:
                return
            since = rows[-1][0]

    def last_change(self) -> int:
        """The newest change number, 0 for an empty store."""
        sql = "SELECT max((SELECT coalesce(max(change), 0) FROM cubes), (SELECT coalesce(max(change), 0) FROM gone))"
        return int(self._value(sql))

    def load(self, keys: Sequence[int]) -> list[MemCube]:
        """Cubes by key, in the order asked. Raises ``NotFound`` for a key that was forgotten: read
        ``changes`` and ask again."""
        wanted = [int(key) for key in keys]
        with self._readers.lend() as db:
            rows = db.execute(
                f"SELECT c.key, {SELECTED} FROM cubes c WHERE c.key IN (SELECT value FROM json_each(?))",
                (json.dumps(wanted),),
            ).fetchall()
        cubes = {row[0]: from_row(row[1:], self._blobs) for row in rows}
        if missing := [key for key in wanted if key not in cubes]:
            raise NotFound(f"keys {missing[:5]} are not in {self.path}: forgotten, or of another store")
        return [cubes[key] for key in wanted]

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

    def derived(self, id: str) -> list[str]:
        """Ids of open memories any version of which names ``id`` as a parent in its lineage, sorted."""
        sql = (
            "SELECT DISTINCT c.id FROM parents p JOIN cubes c ON c.key = p.key JOIN cubes o ON o.id = c.id"
            " WHERE p.parent = ? AND p.lineage AND c.id <> p.parent AND o.superseded IS NULL ORDER BY c.id"
        )
        with self._readers.lend() as db:
            return [row[0] for row in db.execute(sql, (id,))]

    def edges(
        self,
        scope: Scope,
        ids: Sequence[str] | None = None,
        *,
        relations: Sequence[str] | None = None,
        as_of: datetime | None = None,
        closed: bool = False,
    ) -> list[Edge]:
        """Edges of a scope, oldest first: all, or those with one of ``ids`` as an end or as evidence."""
        with self._readers.lend() as db:
            return edge_rows.select(db, scope, ids, relations, as_of, closed)

    def reach(
        self,
        scope: Scope,
        ids: Sequence[str],
        *,
        hops: int = 2,
        relations: Sequence[str] | None = None,
        as_of: datetime | None = None,
        limit: int = 100,
    ) -> list[Reached]:
        """What edges lead to from ``ids``, either way, nearest and strongest first; ``ids`` themselves left out."""
        with self._readers.lend() as db:
            return edge_rows.reach(db, scope, ids, hops, relations, as_of, limit)

    def events(self, *, cube: str | None = None, since: int = 0, limit: int | None = None) -> Iterator[Event]:
        """The log after row ``since``, oldest first; of one memory, or of all."""
        left = limit
        of_cube, parameters = ("cube = ? AND ", [cube]) if cube is not None else ("", [])
        while left is None or left > 0:
            size = _CHUNK if left is None else min(_CHUNK, left)
            with self._readers.lend() as db:
                rows = db.execute(
                    f"SELECT * FROM log WHERE {of_cube}seq > ? ORDER BY seq LIMIT ?", [*parameters, since, size]
                ).fetchall()
            for row in map(log.Row._make, rows):
                yield log.event(row, moment(row.at))
            if len(rows) < size:
                return
            since = rows[-1][0]
            left = None if left is None else left - size

    def scopes(self, tenant: str) -> list[tuple[Scope, int]]:
        """Every distinct scope of a tenant with the number of its open cubes (0 when all are closed)."""
        is_open, parameters = reading.open_now(holds=False)
        sql = (
            f"SELECT user_id, agent_id, run_id, sum({is_open} AND {LIVE}) FROM cubes c WHERE tenant = ?"
            " GROUP BY user_id, agent_id, run_id ORDER BY user_id, agent_id, run_id"
        )
        with self._readers.lend() as db:
            rows = db.execute(sql, [*parameters, tenant]).fetchall()
        return [(Scope(tenant, user, agent, run), count) for user, agent, run, count in rows]

    # -- care ------------------------------------------------------------------------------------

    def stats(self) -> Mapping[str, Any]:
        """Counts and bytes, for ``lamina doctor``."""
        with self._readers.snapshot() as db:
            numbers = verification.statistics(db)
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

    def _cubes(self, sql: str, parameters: list[Any]) -> list[MemCube]:
        with self._readers.lend() as db:
            rows = db.execute(sql, parameters).fetchall()
        return [from_row(row, self._blobs) for row in rows]

    def _value(self, sql: str) -> Any:
        with self._readers.lend() as db:
            return db.execute(sql).fetchone()[0]
