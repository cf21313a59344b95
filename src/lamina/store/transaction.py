"""Writes to SQLite: new memories, new versions, closing and forgetting, each with its row in the log.

Every row gets a ``key`` (one number per version, never reused) and a ``change`` (a new number at every
write). Both are handed out under the write lock, so readers see changes in the order of their numbers.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from lamina.cube.cube import MemCube, Scope, State
from lamina.errors import Conflict, FrozenCube, InvalidInput, LaminaError, NotFound
from lamina.store import edges as edge_rows
from lamina.store.base import Edge, Write
from lamina.store.blobs import BlobStore
from lamina.store.connection import mapped
from lamina.store.log import GENESIS, Chain, details_json
from lamina.store.reading import LIVE, exactly, newest, open_now
from lamina.store.rows import INSERT, SELECTED, from_row, micros, moment, parents, to_row
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


class SqliteTransaction:
    """One write, between BEGIN and COMMIT. Made by ``SqliteStore.transaction``; useless after it ends."""

    def __init__(self, connection: sqlite3.Connection, path: Path, blobs: BlobStore, space: VectorSpace) -> None:
        self._connection = connection
        self._path = path
        self._blobs = blobs
        self._space = space
        self._open = True
        self.forgot = False  # whether traces are to be removed after the commit
        keys = "SELECT max((SELECT coalesce(max({0}), 0) FROM cubes), (SELECT coalesce(max({0}), 0) FROM gone))"
        (self._key,) = connection.execute(keys.format("key")).fetchone()
        (self._change,) = connection.execute(keys.format("change")).fetchone()
        last = connection.execute("SELECT seq, hash FROM log ORDER BY seq DESC LIMIT 1").fetchone()
        self._log = Chain(*(last or (0, GENESIS)))

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
            key, version, _, superseded, state = self._newest_row(id)
            _refuse_frozen(id, state)
            if superseded is not None:
                raise Conflict(f"memory {id!r} was closed at {moment(superseded).isoformat()} already")
            ends = None if valid_to is None else micros(valid_to)
            self._end(key, micros(at), by, ends)
            edge_rows.close_with(self._connection, id, micros(at), ends)
            told = {"superseded": at.isoformat(), "by": by} | dict(details or {})
            self._log_row(actor, action, id, version, reason, told)

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
            version = self._newest_row(id)[1]
            self._log_row(actor, action, id, version, reason, details or {})

    def newest(self, id: str) -> MemCube | None:
        """The newest version as this transaction sees it, closed or not."""
        with self._step():
            return newest(self._connection, id, self._blobs)

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
            return [from_row(row, self._blobs) for row in self._connection.execute(sql, values).fetchall()[::-1]]

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
            self._connection.executemany("INSERT INTO vectors VALUES (?, ?)", rows)
            self._connection.executemany("UPDATE cubes SET change = ? WHERE key = ?", changed)
            self._change += len(rows)

    def end(self) -> None:
        """No further calls: the transaction is being committed or rolled back."""
        self._open = False

    @contextmanager
    def _step(self) -> Iterator[None]:
        """Our own errors are raised before anything is written, so the transaction may go on. After any other
        it is void: a part may have been written, or SQLite may have rolled back itself."""
        if not self._open:
            raise InvalidInput("this transaction has ended; begin another with store.transaction()")
        with mapped(self._path):
            try:
                yield
            except LaminaError:
                raise
            except BaseException:
                self._open = False
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    def _write(self, writes: Sequence[Write], **more: Any) -> None:
        """Rows, lineage, full text, vectors and log (``more`` joins its details). Everything is checked before
        the first row is written."""
        first, at = self._key + 1, time.time_ns() // 1000
        rows = [to_row(write.cube, first + n, self._change + 1 + n, self._blobs) for n, write in enumerate(writes)]
        details = [details_json({**more, **write.details}) for write in writes]
        vectors = self._space.check([write.vector for write in writes], self._connection)
        log = [
            self._log.append(at, w.actor, w.action, w.cube.id, w.cube.header.version, w.reason, text)
            for w, text in zip(writes, details, strict=True)
        ]
        many = self._connection.executemany
        many(INSERT, rows)
        many(
            "INSERT INTO parents VALUES (?, ?, ?)",
            [p for n, w in enumerate(writes) for p in parents(w.cube, first + n)],
        )
        many("INSERT INTO texts (rowid, text) VALUES (?, ?)", [(row[0], row[-2]) for row in rows])
        many("INSERT INTO vectors VALUES (?, ?)", [(first + n, v) for n, v in enumerate(vectors) if v is not None])
        many(f"INSERT INTO log VALUES ({', '.join('?' * 9)})", log)
        self._key += len(rows)
        self._change += len(rows)

    def _newest_row(self, id: str) -> tuple[int, int, str, int | None, str]:
        row = self._connection.execute(
            "SELECT key, version, tenant, superseded, state FROM cubes WHERE id = ? ORDER BY version DESC LIMIT 1",
            (id,),
        ).fetchone()
        if row is None:
            raise NotFound(f"there is no memory {id!r} in {self._path}")
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
        run = self._connection.execute
        run("INSERT INTO texts (texts, rowid, text) SELECT 'delete', key, text FROM cubes WHERE id = ?", (id,))
        run("DELETE FROM cubes WHERE id = ?", (id,))
        for key, _, *scope in rows:
            self._change += 1
            run("INSERT INTO gone VALUES (?, ?, ?, ?, ?, ?)", (key, self._change, *scope))
        self._log_row(actor, "forget", id, rows[-1][1], reason, {"versions": len(rows)})

    def _log_row(self, actor: str, action: str, id: str, version: int, reason: str, details: Mapping[str, Any]) -> None:
        row = self._log.append(time.time_ns() // 1000, actor, action, id, version, reason, details_json(details))
        self._connection.execute(f"INSERT INTO log VALUES ({', '.join('?' * 9)})", row)


def _refuse_frozen(id: str, state: str) -> None:
    if state == State.FROZEN:
        raise FrozenCube(f"memory {id!r} is frozen: read or copy it, or have whoever governs it unfreeze it first")
