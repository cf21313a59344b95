"""The graph as a file: GraphML, which Gephi, yEd, Cytoscape and networkx read, or JSON.

Names are text that anybody may have said. XML has no way at all to write most control characters, so these are
replaced; the library escapes the rest. Nothing is drawn here.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from lamina.text.graphs.directory import Entity

if TYPE_CHECKING:
    from lamina.text.graph import Relation

_NAMESPACE = "http://graphml.graphdrawing.org/xmlns"
_ILLEGAL = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_EDGE_KEYS = ("relation", "weight", "evidence", "recorded", "superseded", "valid_from", "valid_to")
_KEYS = [("node", "name"), ("node", "type"), *(("edge", name) for name in _EDGE_KEYS)]


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
    root = ET.Element("graphml", xmlns=_NAMESPACE)
    for number, (target, name) in enumerate(_KEYS):
        kind = "double" if name == "weight" else "string"
        ET.SubElement(root, "key", {"id": f"d{number}", "for": target, "attr.name": name, "attr.type": kind})
    graph = ET.SubElement(root, "graph", id="lamina", edgedefault="directed")
    ends = {end.id: end for each in relations for end in (each.source, each.target)}
    for id, entity in ({each.id: each for each in entities} | ends).items():
        _data(ET.SubElement(graph, "node", id=_legal(id)), "node", {"name": entity.name, "type": entity.type})
    for number, each in enumerate(relations):
        ends_of = {"id": f"e{number}", "source": _legal(each.source.id), "target": _legal(each.target.id)}
        _data(ET.SubElement(graph, "edge", ends_of), "edge", _values(each))
    ET.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _values(relation: Relation) -> dict[str, Any]:
    edge = relation.edge
    values = {name: getattr(edge, name) for name in _EDGE_KEYS}
    return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in values.items()}


def _data(element: ET.Element, target: str, values: dict[str, Any]) -> None:
    for number, (owner, name) in enumerate(_KEYS):
        if owner == target and values[name] is not None:
            ET.SubElement(element, "data", key=f"d{number}").text = _legal(str(values[name]))


def _legal(text: str) -> str:
    return _ILLEGAL.sub("\ufffd", text)
