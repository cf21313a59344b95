"""Edges between memories, as SQL: written inside a transaction, walked hop by hop.

Edges have versions like memories: nothing is overwritten, an edge that changes or ends is closed and stays for
``as_of``. The same two memories may be connected by the same relation on the evidence of several others: one
row each, so that forgetting one of them leaves what the others say. An edge lives no longer than what it
rests on: it is closed with either end or with its evidence, and forgotten with them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from lamina.cube.cube import Scope
from lamina.errors import InvalidInput, NotFound
from lamina.store.base import Edge, Reached
from lamina.store.reading import within
from lamina.store.rows import micros, moment
from lamina.store.sql import Connection

SCHEMA = (
    """CREATE TABLE edges (
        key INTEGER PRIMARY KEY,
        source TEXT NOT NULL,
        target TEXT NOT NULL,
        relation TEXT NOT NULL,
        weight REAL NOT NULL,
        evidence TEXT,
        reason TEXT NOT NULL,
        tenant TEXT NOT NULL,
        user_id TEXT,
        agent_id TEXT,
        run_id TEXT,
        recorded INTEGER NOT NULL,
        superseded INTEGER,
        valid_from INTEGER,
        valid_to INTEGER
    )""",
    "CREATE INDEX edges_source ON edges (source, target, relation)",
    "CREATE INDEX edges_target ON edges (target)",
    "CREATE INDEX edges_evidence ON edges (evidence) WHERE evidence IS NOT NULL",
    "CREATE INDEX edges_scope ON edges (tenant, user_id, recorded)",
)
_COLUMNS = (
    "e.source, e.target, e.relation, e.weight, e.evidence, e.reason, e.recorded, e.superseded, e.valid_from, e.valid_to"
)
_INSERT = (
    "INSERT INTO edges (source, target, relation, weight, evidence, reason, tenant, user_id, agent_id, run_id,"
    " recorded, superseded, valid_from, valid_to) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_TOUCHES = """e.key IN (
    SELECT key FROM edges WHERE source IN ({0})
    UNION SELECT key FROM edges WHERE target IN ({0})
    UNION SELECT key FROM edges WHERE evidence IN ({0})
)"""
_IDS = "SELECT value FROM json_each(?)"
_FAN = 200  # edges followed from one memory, the strongest first: a hub must not stop the world
_STEP = f"""
SELECT e.source, e.target, e.weight FROM (
    SELECT key, source, target, weight FROM edges e WHERE e.source = ? AND {{condition}}
    UNION ALL
    SELECT key, source, target, weight FROM edges e WHERE e.target = ? AND {{condition}}
) e ORDER BY e.weight DESC, e.key LIMIT {_FAN}
"""


def connect(connection: Connection, edges: Sequence[Edge]) -> None:
    """Insert ``edges``; an open one with the same ends, relation and evidence is closed first."""
    scopes = _scopes(connection, {id for edge in edges for id in (edge.source, edge.target, edge.evidence) if id})
    rows = [_row(edge, scopes) for edge in edges]
    for edge in (edge for edge in edges if edge.superseded is None):
        connection.execute(
            "UPDATE edges SET superseded = ? WHERE source = ? AND target = ? AND relation = ? AND evidence IS ?"
            " AND superseded IS NULL",
            (micros(edge.recorded), edge.source, edge.target, edge.relation, edge.evidence),
        )
    connection.executemany(_INSERT, rows)


def disconnect(
    connection: Connection, source: str, target: str, relation: str, at: datetime, valid_to: datetime | None
) -> bool:
    """Close every open edge of these ends and relation, whatever its evidence; whether there was one."""
    done = connection.execute(
        "UPDATE edges SET superseded = ?, valid_to = coalesce(?, valid_to)"
        " WHERE source = ? AND target = ? AND relation = ? AND superseded IS NULL",
        (micros(at), None if valid_to is None else micros(valid_to), source, target, relation),
    )
    return done.rowcount > 0


def close_with(connection: Connection, id: str, at: int, valid_to: int | None) -> None:
    """A memory was closed at ``at``: so are the open edges that rest on it."""
    connection.execute(
        "UPDATE edges SET superseded = ?, valid_to = coalesce(?, valid_to) WHERE superseded IS NULL"
        " AND key IN (SELECT key FROM edges WHERE source = ? UNION SELECT key FROM edges WHERE target = ?"
        " UNION SELECT key FROM edges WHERE evidence = ?)",
        (at, valid_to, id, id, id),
    )


def reopen_with(connection: Connection, id: str, closed: int) -> None:
    """A memory closed at ``closed`` is open again: so are the edges closed with it whose other memories are open."""
    connection.execute(
        "UPDATE edges SET superseded = NULL WHERE superseded = ?"
        " AND key IN (SELECT key FROM edges WHERE source = ? UNION SELECT key FROM edges WHERE target = ?"
        " UNION SELECT key FROM edges WHERE evidence = ?)"
        " AND NOT EXISTS (SELECT 1 FROM cubes c WHERE c.id IN (source, target, evidence) AND c.id <> ?"
        " GROUP BY c.id HAVING count(*) = count(c.superseded))",
        (closed, id, id, id, id),
    )


def erase_with(connection: Connection, ids: Sequence[str]) -> list[str]:
    """Delete all edges that rest on forgotten memories; the ``entity`` memories left without any edge."""
    listed = json.dumps(list(ids))
    touching = _TOUCHES.format(_IDS)
    ends = connection.execute(
        f"SELECT e.source FROM edges e WHERE {touching} UNION SELECT e.target FROM edges e WHERE {touching}",
        [listed] * 6,
    ).fetchall()
    connection.execute(f"DELETE FROM edges AS e WHERE {touching}", [listed] * 3)
    orphans = connection.execute(
        f"SELECT DISTINCT c.id FROM cubes c WHERE c.id IN ({_IDS}) AND c.semantic_type = 'entity'"
        " AND NOT EXISTS (SELECT 1 FROM edges e WHERE e.source = c.id OR e.target = c.id)",
        (json.dumps([id for (id,) in ends]),),
    )
    return sorted(id for (id,) in orphans)


def touching(connection: Connection, ids: Sequence[str]) -> list[Edge]:
    """Open edges with one of ``ids`` as an end or as evidence, oldest first."""
    sql = f"SELECT {_COLUMNS} FROM edges e WHERE e.superseded IS NULL AND {_TOUCHES.format(_IDS)} ORDER BY e.key"
    return [_edge(row) for row in connection.execute(sql, [json.dumps(list(ids))] * 3)]


def select(
    connection: Connection,
    scope: Scope,
    ids: Sequence[str] | None,
    relations: Sequence[str] | None,
    as_of: datetime | None,
    closed: bool,
) -> list[Edge]:
    """See ``Store.edges``. Oldest first."""
    condition, values = _condition(scope, relations, as_of, closed)
    if ids is not None:
        condition, values = f"{_TOUCHES.format(_IDS)} AND {condition}", [json.dumps(list(ids))] * 3 + values
    rows = connection.execute(f"SELECT {_COLUMNS} FROM edges e WHERE {condition} ORDER BY e.key", values)
    return [_edge(row) for row in rows]


def reach(
    connection: Connection,
    scope: Scope,
    ids: Sequence[str],
    hops: int,
    relations: Sequence[str] | None,
    as_of: datetime | None,
    limit: int,
) -> list[Reached]:
    """See ``Store.reach``. Raises ``InvalidInput`` for hops or limit below 1."""
    for name, value in (("hops", hops), ("limit", limit)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise InvalidInput(f"{name}={value!r}: pass a whole number from 1")
    condition, values = _condition(scope, relations, as_of, closed=False)
    step = _STEP.format(condition=condition)
    best = {id: Reached(id, 0, 1.0, (id,)) for id in dict.fromkeys(ids)}
    frontier, found = list(best.values()), []
    for hop in range(1, hops + 1):
        after: dict[str, Reached] = {}
        for here in frontier[:_FAN]:
            for source, target, weight in connection.execute(step, [here.id, *values, here.id, *values]):
                other, reached = target if source == here.id else source, here.weight * weight
                if other not in best and (other not in after or after[other].weight < reached):
                    after[other] = Reached(other, hop, reached, (*here.path, other))
        frontier = sorted(after.values(), key=lambda each: (-each.weight, each.id))
        best |= after
        found += frontier
        if len(found) >= limit:
            break
    return found[:limit]


def _condition(
    scope: Scope, relations: Sequence[str] | None, as_of: datetime | None, closed: bool
) -> tuple[str, list[Any]]:
    sql, values = within(scope, table="e")
    if relations is not None:
        sql, values = f"{sql} AND e.relation IN ({_IDS})", [*values, json.dumps(list(relations))]
    if as_of is not None:
        sql, values = f"{sql} AND e.recorded <= ?", [*values, micros(as_of)]
    if not closed and as_of is not None:
        sql, values = f"{sql} AND (e.superseded IS NULL OR e.superseded > ?)", [*values, micros(as_of)]
    elif not closed:
        sql = f"{sql} AND e.superseded IS NULL"
    return sql, values


def _scopes(connection: Connection, ids: set[str]) -> dict[str, tuple[Any, ...]]:
    """The scope of each memory, as columns. Raises ``NotFound``."""
    rows = connection.execute(
        f"SELECT DISTINCT id, tenant, user_id, agent_id, run_id FROM cubes WHERE id IN ({_IDS})",
        (json.dumps(list(ids)),),
    )
    scopes = {id: tuple(scope) for id, *scope in rows}
    if missing := sorted(ids - set(scopes)):
        raise NotFound(f"an edge names memories that do not exist: {missing[:3]}; insert them before connecting them")
    return scopes


def _row(edge: Edge, scopes: dict[str, tuple[Any, ...]]) -> tuple[Any, ...]:
    if edge.source == edge.target or not edge.relation or not 0 < edge.weight <= 1:
        raise InvalidInput(
            f"{edge!r:.160}: an edge has a relation, a weight in (0, 1], and joins two different memories"
        )
    scope = scopes[edge.source]
    for id in (edge.target, edge.evidence):
        if id is not None and scopes[id] != scope:
            raise InvalidInput(
                f"an edge from {edge.source!r} to {edge.target!r} would cross scopes; connect within one"
            )
    times = (edge.superseded, edge.valid_from, edge.valid_to)
    return (
        edge.source, edge.target, edge.relation, float(edge.weight), edge.evidence, edge.reason, *scope,
        micros(edge.recorded), *(None if time is None else micros(time) for time in times),
    )  # fmt: skip


def _edge(row: tuple[Any, ...]) -> Edge:
    source, target, relation, weight, evidence, reason, recorded, superseded, valid_from, valid_to = row
    return Edge(
        source=source,
        target=target,
        relation=relation,
        weight=weight,
        evidence=evidence,
        reason=reason,
        recorded=moment(recorded),
        superseded=None if superseded is None else moment(superseded),
        valid_from=None if valid_from is None else moment(valid_from),
        valid_to=None if valid_to is None else moment(valid_to),
    )
