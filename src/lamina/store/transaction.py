"""Writes: new memories, new versions, closing and forgetting, each with its row in the log; for both databases.

Every row gets a ``key`` (one number per version, never reused) and a ``change`` (a new number at every
write). Both are handed out under the write lock, so readers see changes in the order of their numbers.
What the databases do differently is behind ``Database``.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from lamina.cube.cube import MemCube, Scope, State
from lamina.errors import Conflict, FrozenCube, InvalidInput, LaminaError, NotFound
from lamina.store import edges as edge_rows
from lamina.store.acting import named
from lamina.store.base import Edge, Write
from lamina.store.blobs import Blobs
from lamina.store.log import GENESIS, Chain, Row, details_json
from lamina.store.reading import LIVE, exactly, newest, open_now
from lamina.store.rows import INSERT, SELECTED, from_row, micros, moment, parents, to_row
from lamina.store.sql import Connection
from lamina.store.vector_space import VectorSpace

_OWNERS = "SELECT tenant, user_id, agent_id, run_id FROM cubes WHERE key = ?"
_DESCENDANTS = """
WITH RECURSIVE family (id) AS (
    SELECT value FROM json_each(?)
    UNION
    SELECT c.id FROM family JOIN parents p ON p.parent = family.id JOIN cubes c ON c.key = p.key
)
SELECT DISTINCT c.id FROM family JOIN cubes c ON c.id = family.id
"""


@dataclass(frozen=True, slots=True)
class Head:
    """Where a store stands: its last key and change, and the last row of its log."""

    key: int = 0
    change: int = 0
    seq: int = 0
    hash: str = GENESIS


class Database(Connection, Protocol):
    """A database inside a write: the shared SQL, and what is its own."""

    place: Any  # what messages call it

    def guarded(self) -> AbstractContextManager[None]:
        """Errors of the database inside the block leave it as Lamina's."""

    def rollback(self) -> None:
        """Undo the transaction, unless the database has done so."""

    def together(self) -> AbstractContextManager[Any]:
        """Writes inside the block may travel together; it ends when all are done."""

    def blobs(self, tenant: str) -> Blobs:
        """Where the tensors of a tenant are."""

    def put_words(self, rows: Sequence[tuple[int, str | None]]) -> None:
        """Full text of new versions: key and text."""

    def put_vectors(self, rows: Sequence[tuple[int, bytes | None]]) -> None:
        """Vectors of versions that have none, packed by ``VectorSpace``."""

    def put_log(self, rows: Sequence[tuple[Row, str]]) -> None:
        """Rows of the log, each with the tenant it is about."""

    def delete(self, id: str) -> None:
        """All versions of a memory, with words and vectors."""


class SqlTransaction:
    """One write, between BEGIN and COMMIT. Made by ``store.transaction()``; useless after it ends."""

    def __init__(self, database: Database, space: VectorSpace, head: Head) -> None:
        self._connection = database
        self._space = space
        self._open = True
        self.forgot = False  # whether traces are to be removed after the commit
        self._key, self._change, self._last_row = head.key, head.change, (head.seq, head.hash)
        self._first_row = self._last_row
        self._log = Chain(*self._last_row)

    @property
    def logged(self) -> bool:
        """Whether a row of the log was written: what only connects memories writes none."""
        return self._last_row != self._first_row

    @property
    def head(self) -> Head:
        """Where the store stands after what was written so far."""
        return Head(self._key, self._change, *self._last_row)

    def insert(self, writes: Sequence[Write]) -> None:
        """New memories, all or none. Raises ``Conflict`` naming an id that exists."""
        with self._step():
            ids = [write.cube.header.id for write in writes]
            exists = self._connection.execute(
                "SELECT c.id FROM cubes c WHERE c.id IN (SELECT value FROM json_each(?)) LIMIT 1", (json.dumps(ids),)
            ).fetchone()
            repeated = exists or (len(set(ids)) < len(ids) and (next(id for id in ids if ids.count(id) > 1),))
            if repeated:
                raise Conflict(f"id {repeated[0]!r} exists: insert is for new memories, revise writes the next version")
            self._write(writes)

    def revise(self, write: Write, *, expect: int) -> None:
        """Version ``expect + 1``; closes ``expect`` (unless it is closed: then this opens the memory again).

        Raises ``Conflict`` naming both versions when ``expect`` is not the newest; ``FrozenCube`` for one that is
        frozen, unless the write's action is ``unfreeze``.
        """
        header = write.cube.header
        with self._step():
            key, version, tenant, superseded, state = self._newest_row(header.id)
            if write.action != "unfreeze":
                _refuse_frozen(header.id, state)
            if version != expect:
                raise Conflict(
                    f"memory {header.id!r} is at version {version}, not {expect}: read it again and repeat the change"
                )
            if header.version != expect + 1 or header.scope.tenant != tenant:
                raise InvalidInput(
                    f"memory {header.id!r}: version {header.version} of tenant {header.scope.tenant!r} cannot follow "
                    f"version {expect} of tenant {tenant!r}; use dataclasses.replace(header, version={expect + 1})"
                )
            owners = (header.scope.tenant, header.scope.user, header.scope.agent, header.scope.run)
            if owners != tuple(self._connection.execute(_OWNERS, (key,)).fetchone()):
                raise InvalidInput(f"memory {header.id!r}: {header.scope!r} is not its scope, which never changes")
            self._write([write], previous=expect)
            if superseded is None:
                self._end(key, micros(header.recorded), header.id, None)
            else:
                edge_rows.reopen_with(self._connection, header.id, superseded)

    def close(
        self,
        id: str,
        *,
        at: datetime,
        by: str | None = None,
        valid_to: datetime | None = None,
        action: str = "delete",
        actor: str = "user",
        reason: str = "",
        details: Mapping[str, Any] | None = None,
    ) -> None:
        """End a memory at ``at``. Raises ``NotFound``; ``Conflict`` when it is closed already; ``FrozenCube``."""
        with self._step():
            key, version, tenant, superseded, state = self._newest_row(id)
            _refuse_frozen(id, state)
            if superseded is not None:
                raise Conflict(f"memory {id!r} was closed at {moment(superseded).isoformat()} already")
            ends = None if valid_to is None else micros(valid_to)
            self._end(key, micros(at), by, ends)
            edge_rows.close_with(self._connection, id, micros(at), ends)
            told = {"superseded": at.isoformat(), "by": by} | dict(details or {})
            self._log_row(actor, action, id, version, tenant, reason, told)

    def forget(
        self, ids: Sequence[str], *, actor: str = "user", reason: str = "", legal_override: bool = False
    ) -> list[str]:
        """Erase all versions of ``ids`` and of everything made from them, by lineage or as a quote.

        Returns the ids that went, sorted; unknown ids are ignored. Raises ``FrozenCube``, before anything is erased,
        if a frozen memory would go, unless the law asks for it (``legal_override``). The bytes are gone from every file
        when the transaction has ended (``lamina.store.erasure`` says when that has to wait).
        """
        if isinstance(ids, str):
            raise InvalidInput(f"ids={ids!r}: pass a list of ids")
        with self._step():
            gone = sorted(row[0] for row in self._connection.execute(_DESCENDANTS, (json.dumps(list(ids)),)))
            for id in () if legal_override else gone:
                _refuse_frozen(id, self._newest_row(id)[4])
            gone += edge_rows.erase_with(self._connection, gone)
            for id in gone:
                self._erase(id, actor, reason)
            self.forgot = self.forgot or bool(gone)
            return gone

    def note(
        self, id: str, *, action: str, actor: str = "user", reason: str = "", details: Mapping[str, Any] | None = None
    ) -> None:
        """A row of the log about a memory that is not changed by it. Raises ``NotFound``."""
        with self._step():
            _, version, tenant, _, _ = self._newest_row(id)
            self._log_row(actor, action, id, version, tenant, reason, details or {})

    def newest(self, id: str) -> MemCube | None:
        """The newest version as this transaction sees it, closed or not."""
        with self._step():
            return newest(self._connection, id, self._connection.blobs(""))

    def claims(self, scope: Scope, subject: str, slot: str | None = None, *, limit: int = 64) -> list[MemCube]:
        """The newest ``limit`` open facts in exactly this scope about ``subject`` and ``slot`` (``None``: any
        slot), oldest first."""
        here, parameters = exactly(scope)
        is_open, more = open_now(holds=False)
        about = "c.slot IS NOT NULL" if slot is None else "c.slot = ?"
        sql = (
            f"SELECT {SELECTED} FROM cubes c WHERE {here} AND c.subject = ? AND {about} AND {is_open} AND {LIVE}"
            " ORDER BY c.recorded DESC, c.key DESC LIMIT ?"
        )
        values = [*parameters, subject.casefold(), *([] if slot is None else [slot]), *more, limit]
        with self._step():
            blobs = self._connection.blobs(scope.tenant)
            return [from_row(row, blobs) for row in self._connection.execute(sql, values).fetchall()[::-1]]

    def connect(self, edges: Sequence[Edge]) -> None:
        """Store edges, all or none; see ``lamina.store.edges``. Raises ``NotFound``, ``InvalidInput``."""
        with self._step():
            edge_rows.connect(self._connection, edges)

    def disconnect(
        self, source: str, target: str, relation: str, *, at: datetime, valid_to: datetime | None = None
    ) -> bool:
        """Close the open edges of these ends and relation; whether there were any."""
        with self._step():
            return edge_rows.disconnect(self._connection, source, target, relation, at, valid_to)

    def edges(self, ids: Sequence[str]) -> list[Edge]:
        """Open edges that have one of ``ids`` as an end or as evidence."""
        with self._step():
            return edge_rows.touching(self._connection, ids)

    def replace_vectors(self, rows: Sequence[tuple[int, bytes | None]]) -> None:
        """New vectors, as ``VectorSpace`` packs them, for versions that have none now; indexes see a change."""
        with self._step():
            changed = [(self._change + 1 + n, key) for n, (key, _) in enumerate(rows)]
            self._connection.put_vectors(rows)
            self._connection.executemany("UPDATE cubes SET change = ? WHERE key = ?", changed)
            self._change += len(rows)

    def end(self) -> None:
        """No further calls: the transaction is being committed or rolled back."""
        self._open = False

    @contextmanager
    def _step(self) -> Iterator[None]:
        """Our own errors are raised before anything is written, so the transaction may go on. After any other
        it is void: a part may have been written, or the database may have rolled back itself."""
        if not self._open:
            raise InvalidInput("this transaction has ended; begin another with store.transaction()")
        with self._connection.guarded():
            try:
                yield
            except LaminaError:
                raise
            except BaseException:
                self._open = False
                self._connection.rollback()
                raise

    def _write(self, writes: Sequence[Write], **more: Any) -> None:
        """Rows, lineage, full text, vectors and log (``more`` joins its details). Everything is checked before
        the first row is written."""
        first, at, db = self._key + 1, time.time_ns() // 1000, self._connection
        tenants = [write.cube.header.scope.tenant for write in writes]
        rows = [
            to_row(write.cube, first + n, self._change + 1 + n, db.blobs(tenants[n])) for n, write in enumerate(writes)
        ]
        details = [details_json({**more, **write.details}) for write in writes]
        vectors = self._space.check([write.vector for write in writes], db)
        log = [
            self._log.append(at, named(w.actor), w.action, w.cube.id, w.cube.header.version, w.reason, text)
            for w, text in zip(writes, details, strict=True)
        ]
        made_from = [row for n, w in enumerate(writes) for row in parents(w.cube, first + n)]
        with db.together():
            db.executemany(INSERT, rows)
            db.executemany("INSERT INTO parents VALUES (?, ?, ?)", made_from)
            db.put_words([(row[0], row[-2]) for row in rows])
            db.put_vectors([(first + n, vector) for n, vector in enumerate(vectors) if vector is not None])
            self._put_log(log, tenants)
        self._key += len(rows)
        self._change += len(rows)

    def _newest_row(self, id: str) -> tuple[int, int, str, int | None, str]:
        row = self._connection.execute(
            "SELECT key, version, tenant, superseded, state FROM cubes WHERE id = ? ORDER BY version DESC LIMIT 1",
            (id,),
        ).fetchone()
        if row is None:
            raise NotFound(f"there is no memory {id!r} in {self._connection.place}")
        return row  # type: ignore[no-any-return]

    def _end(self, key: int, at: int, by: str | None, valid_to: int | None) -> None:
        self._change += 1
        self._connection.execute(
            "UPDATE cubes SET change = ?, superseded = ?, superseded_by = ?, valid_to = coalesce(?, valid_to)"
            " WHERE key = ?",
            (self._change, at, by, valid_to, key),
        )

    def _erase(self, id: str, actor: str, reason: str) -> None:
        rows = self._connection.execute(
            "SELECT key, version, tenant, user_id, agent_id, run_id FROM cubes WHERE id = ? ORDER BY version", (id,)
        ).fetchall()
        self._connection.delete(id)
        for key, _, *scope in rows:
            self._change += 1
            self._connection.execute("INSERT INTO gone VALUES (?, ?, ?, ?, ?, ?)", (key, self._change, *scope))
        self._log_row(actor, "forget", id, rows[-1][1], rows[-1][2], reason, {"versions": len(rows)})

    def _log_row(
        self, actor: str, action: str, id: str, version: int, tenant: str, reason: str, details: Mapping[str, Any]
    ) -> None:
        at, who = time.time_ns() // 1000, named(actor)
        row = self._log.append(at, who, action, id, version, reason, details_json(details))
        self._put_log([row], [tenant])

    def _put_log(self, rows: Sequence[Row], tenants: Sequence[str]) -> None:
        self._connection.put_log(list(zip(rows, tenants, strict=True)))
        if rows:
            self._last_row = (rows[-1].seq, rows[-1].hash)


def _refuse_frozen(id: str, state: str) -> None:
    if state == State.FROZEN:
        raise FrozenCube(f"memory {id!r} is frozen: read or copy it, or have whoever governs it unfreeze it first")
