"""Reading, for both databases: what ``Store`` promises to answer, in the shared SQL.

A store says how a question reaches the database (``_read``: which connection, as which tenant, what is tried again)
and what only it can do: full text, vectors and the order of changes.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from lamina.cube.cube import MemCube, Scope
from lamina.errors import InvalidInput, NotFound
from lamina.store import edges as edge_rows
from lamina.store import log, reading
from lamina.store.base import Edge, Event, Filter, Page, Reached, Size
from lamina.store.blobs import Blobs
from lamina.store.filters import Node, names_state, parse
from lamina.store.reading import LIVE, Fragment, within
from lamina.store.rows import SELECTED, from_row, moment
from lamina.store.sql import Connection

CHUNK = 500  # rows read at a time by iterators
T = TypeVar("T")
_LOG = "seq, at, actor, action, cube, version, reason, details, hash"


class SqlReader(ABC):
    """The reading half of a store over SQL."""

    @abstractmethod
    def _read(self, tenant: str | None, work: Callable[[Connection, Blobs], T]) -> T:
        """``work`` on a connection and the tensors beside it, for a tenant or (``None``) wherever an id leads."""

    @abstractmethod
    def _compiled(self, node: Node) -> Fragment:
        """A filter as a condition over ``cubes AS c``."""

    @abstractmethod
    def _place(self) -> str:
        """What messages call this store."""

    def get(self, id: str, *, version: int | None = None) -> MemCube | None:
        """The newest version (closed or not), or a given one; ``None`` when unknown."""
        if version is None:
            return self._read(None, lambda db, blobs: reading.newest(db, id, blobs))
        sql = f"SELECT {SELECTED} FROM cubes c WHERE c.id = ? AND c.version = ?"
        return next(iter(self._cubes(sql, [id, version])), None)

    def owner(self, id: str) -> Scope | None:
        """Whose the newest version is, without reading what it holds; ``None`` when unknown."""
        sql = "SELECT tenant, user_id, agent_id, run_id FROM cubes WHERE id = ? ORDER BY version DESC LIMIT 1"
        return next((Scope(*row) for row in self._rows(None, sql, (id,))), None)

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
        parts = self._conditions(scope, where, as_of, closed)
        order, sign = ("DESC", "<") if newest_first else ("ASC", ">")
        if cursor is not None:
            parts.append((f"(c.recorded, c.key) {sign} (?, ?)", reading.decode_cursor(cursor)))
        sql = (
            f"SELECT c.recorded, c.key, {SELECTED} FROM cubes c WHERE {' AND '.join(sql for sql, _ in parts)}"
            f" ORDER BY c.recorded {order}, c.key {order} LIMIT ?"
        )
        values = [p for _, parameters in parts for p in parameters] + [limit + 1]

        def work(db: Connection, blobs: Blobs) -> Page:
            rows = db.execute(sql, values).fetchall()
            more = reading.encode_cursor(*rows[limit - 1][:2]) if len(rows) > limit else None
            return Page([from_row(row[2:], blobs) for row in rows[:limit]], more)

        return self._read(scope.tenant, work)

    def keys(self, scope: Scope, where: Filter) -> NDArray[np.int64]:
        """Keys, ascending, of all versions in a scope that pass a filter, whether open, closed or archived."""
        here, parameters = within(scope)
        condition, more = self._compiled(parse(where))
        sql = f"SELECT c.key FROM cubes c WHERE {here} AND {condition} ORDER BY c.key"
        rows = self._rows(scope.tenant, sql, parameters + more)
        return np.fromiter((key for (key,) in rows), np.int64)

    def load(self, keys: Sequence[int]) -> list[MemCube]:
        """Cubes by key, in the order asked. Raises ``NotFound`` for a key that was forgotten: read
        ``changes`` and ask again."""
        wanted = [int(key) for key in keys]
        sql = f"SELECT c.key, {SELECTED} FROM cubes c WHERE c.key IN ({reading.NUMBERS})"

        def work(db: Connection, blobs: Blobs) -> dict[int, MemCube]:
            return {row[0]: from_row(row[1:], blobs) for row in db.execute(sql, (json.dumps(wanted),)).fetchall()}

        cubes = self._read(None, work)
        if missing := [key for key in wanted if key not in cubes]:
            raise NotFound(f"keys {missing[:5]} are not in {self._place()}: forgotten, or of another store")
        return [cubes[key] for key in wanted]

    def derived(self, id: str) -> list[str]:
        """Ids of open memories any version of which names ``id`` as a parent in its lineage, sorted."""
        sql = (
            "SELECT DISTINCT c.id FROM parents p JOIN cubes c ON c.key = p.key JOIN cubes o ON o.id = c.id"
            " WHERE p.parent = ? AND p.lineage = 1 AND c.id <> p.parent AND o.superseded IS NULL ORDER BY c.id"
        )
        return [row[0] for row in self._rows(None, sql, (id,))]

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
        return self._read(_tenant(scope), lambda db, _: edge_rows.select(db, scope, ids, relations, as_of, closed))

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
        return self._read(_tenant(scope), lambda db, _: edge_rows.reach(db, scope, ids, hops, relations, as_of, limit))

    def events(self, *, cube: str | None = None, since: int = 0, limit: int | None = None) -> Iterator[Event]:
        """The log after row ``since``, oldest first; of one memory, or of all."""
        left = limit
        of_cube, parameters = ("cube = ? AND ", [cube]) if cube is not None else ("", [])
        sql = f"SELECT {_LOG} FROM log WHERE {of_cube}seq > ? ORDER BY seq LIMIT ?"
        while left is None or left > 0:
            size = CHUNK if left is None else min(CHUNK, left)
            values = [*parameters, since, size]
            rows = self._log_rows(sql, values, whole=cube is None)
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
            f"SELECT user_id, agent_id, run_id, count(*) FILTER (WHERE {is_open} AND {LIVE}) FROM cubes c"
            " WHERE tenant = ? GROUP BY user_id, agent_id, run_id"
            " ORDER BY user_id NULLS FIRST, agent_id NULLS FIRST, run_id NULLS FIRST"
        )
        rows = self._rows(tenant, sql, [*parameters, tenant])
        return [(Scope(tenant, user, agent, run), count) for user, agent, run, count in rows]

    def sizes(self, scope: Scope) -> list[Size]:
        """Of each kind that is open now: how many, their bytes, and how many different memories their lineage names."""
        here, ids = within(scope)
        is_open, moments = reading.open_now()
        where = f"{here} AND {is_open} AND {LIVE}"
        count = f"SELECT c.kind, count(*), sum(c.nbytes) FROM cubes c WHERE {where} GROUP BY c.kind"
        made_of = (
            "SELECT c.kind, count(DISTINCT p.parent) FROM cubes c JOIN parents p ON p.key = c.key AND p.lineage = 1"
            f" WHERE {where} GROUP BY c.kind"
        )

        def work(db: Connection, _: Blobs) -> list[Size]:
            parents = dict(db.execute(made_of, [*ids, *moments]).fetchall())
            rows = db.execute(f"{count} ORDER BY c.kind", [*ids, *moments]).fetchall()
            return [Size(kind, cubes, int(size), parents.get(kind, 0)) for kind, cubes, size in rows]

        return self._read(scope.tenant, work)

    def _conditions(self, scope: Scope, where: Filter | None, as_of: datetime | None, closed: bool) -> list[Fragment]:
        parts = [within(scope)]
        node = parse(where) if where is not None else None
        if node is not None:
            parts.append(self._compiled(node))
        if closed and as_of is not None:
            parts.append(reading.recorded_by(as_of))
        if not closed:
            parts.append(reading.open_now() if as_of is None else reading.open_at(as_of))
            if node is None or not names_state(node):
                parts.append((LIVE, []))
        return parts

    def _rows(self, tenant: str | None, sql: str, parameters: Sequence[Any]) -> list[Any]:
        return self._read(tenant, lambda db, _: db.execute(sql, parameters).fetchall())

    def _log_rows(self, sql: str, parameters: Sequence[Any], *, whole: bool) -> list[Any]:  # noqa: ARG002
        """Rows of the log; the ``whole`` of it belongs to all tenants."""
        return self._rows(None, sql, parameters)

    def _cubes(self, sql: str, parameters: list[Any]) -> list[MemCube]:
        return self._read(
            None, lambda db, blobs: [from_row(row, blobs) for row in db.execute(sql, parameters).fetchall()]
        )


def _tenant(scope: Scope) -> str:
    within(scope)  # refuses what is no scope
    return scope.tenant
