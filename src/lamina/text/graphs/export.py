"""The graph as a file: GraphML or JSON. Nothing is drawn here."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from lamina.text import graphml
from lamina.text.graphs.directory import Entity

if TYPE_CHECKING:
    from lamina.text.graph import Relation

_EDGE_KEYS = ("relation", "weight", "evidence", "recorded", "superseded", "valid_from", "valid_to")


def to_json(entities: Sequence[Entity], relations: Sequence[Relation]) -> dict[str, Any]:
    """``{"entities": [{"id", "name", "type"}], "relations": [{"source", "relation", "target", ...}]}``, for JSON."""
    return {
        "entities": [{"id": each.id, "name": each.name, "type": each.type} for each in entities],
        "relations": [
            {
                "source": each.source.name,
                "target": each.target.name,
                "source_id": each.source.id,
                "target_id": each.target.id,
                **_values(each),
            }
            for each in relations
        ],
    }


def to_graphml(entities: Sequence[Entity], relations: Sequence[Relation]) -> str:
    """A GraphML document: a directed multigraph, names and types on nodes, relations, times and evidence on edges."""
    known = {each.id: each for each in entities}
    known |= {end.id: end for each in relations for end in (each.source, each.target)}
    nodes = {id: {"name": entity.name, "type": entity.type} for id, entity in known.items()}
    edges = [
        (each.source.id, each.target.id, {name: getattr(each.edge, name) for name in _EDGE_KEYS}) for each in relations
    ]
    return graphml.to_graphml(nodes, edges)


def _values(relation: Relation) -> dict[str, Any]:
    values = {name: getattr(relation.edge, name) for name in _EDGE_KEYS}
    return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in values.items()}
