"""Connections between memories as lines of an export: ``{"lamina": 1, "edge": {...}}``, after what they join."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any

from lamina.cube import strict_json
from lamina.cube.cube import Scope
from lamina.errors import InvalidInput
from lamina.store.base import Edge, Store
from lamina.text.arguments import short
from lamina.text.turns import to_datetime

_NAMES = [field.name for field in fields(Edge)]
_TIMES = ("recorded", "superseded", "valid_from", "valid_to")
_TEXTS = ("source", "target", "relation", "evidence", "reason")


def edge_lines(store: Store, scope: Scope, version: int, *, history: bool) -> Iterator[str]:
    """Every open edge of a scope as a line; ``history`` adds closed ones."""
    for edge in store.edges(scope, closed=history):
        values = {name: getattr(edge, name) for name in _NAMES}
        values |= {name: values[name].isoformat() for name in _TIMES if values[name] is not None}
        yield strict_json.dumps({"lamina": version, "edge": values})


def read_edge(value: Any) -> Edge:
    """The edge of a line. Raises ``InvalidInput``."""
    if not isinstance(value, Mapping) or set(value) != set(_NAMES) or value["recorded"] is None:
        raise InvalidInput(f"{short(value)}: expected an edge with {', '.join(_NAMES)}.")
    wrong = [name for name in _TEXTS if not isinstance(value[name], str) and (name, value[name]) != ("evidence", None)]
    weight = value["weight"]
    if wrong or isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 < weight <= 1:
        raise InvalidInput(
            f"edge.{(wrong or ['weight'])[0]}={short(value[(wrong or ['weight'])[0]])}: expected another value."
        )
    times: dict[str, datetime | None] = {
        name: None if value[name] is None else to_datetime(value[name], name).astimezone(UTC) for name in _TIMES
    }
    return Edge(**{**value, **times})


def write_edges(store: Store, edges: Sequence[Edge], tenant: str) -> tuple[int, int]:
    """Store edges that are not here yet and whose memories are, in ``tenant``; how many were, and how many skipped."""
    new = []
    for edge in edges:
        scope = _joined(store, edge)
        if scope is not None and scope.tenant == tenant and not _known(store, scope, edge):
            new.append(edge)
    with store.transaction() as tx:
        tx.connect(new)
    return len(new), len(edges) - len(new)


def _joined(store: Store, edge: Edge) -> Scope | None:
    """The one scope of both ends and the evidence; ``None`` if any of them is not here."""
    cubes = [store.get(id) for id in (edge.source, edge.target, edge.evidence) if id is not None]
    scopes = {cube.header.scope if cube is not None else None for cube in cubes}
    return scopes.pop() if len(scopes) == 1 else None


def _known(store: Store, scope: Scope, edge: Edge) -> bool:
    keys = ("source", "target", "relation", "evidence", "recorded")
    there = store.edges(scope, [edge.source], closed=True)
    return any(all(getattr(edge, key) == getattr(one, key) for key in keys) for one in there)
