"""GraphML, which Gephi, yEd, Cytoscape and networkx read: nodes and edges with their attributes as one document.

What is written is text that anybody may have said. XML has no way at all to write most control characters, so these
are replaced; the library escapes the rest.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from datetime import datetime

_NAMESPACE = "http://graphml.graphdrawing.org/xmlns"
_ILLEGAL = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

Attributes = Mapping[str, str | float | datetime | None]  # what is None is left out


def to_graphml(
    nodes: Mapping[str, Attributes], edges: Sequence[tuple[str, str, Attributes]], *, directed: bool = True
) -> str:
    """A GraphML document of ``nodes`` by id and ``edges`` (source, target, attributes); several may join two nodes."""
    root = ET.Element("graphml", xmlns=_NAMESPACE)
    keys = {("node", name): value for node in nodes.values() for name, value in node.items()}
    keys |= {("edge", name): value for _, _, edge in edges for name, value in edge.items()}
    names = {key: f"d{number}" for number, key in enumerate(keys)}
    for (owner, name), value in keys.items():
        kind = "double" if isinstance(value, float) else "string"
        ET.SubElement(root, "key", {"id": names[owner, name], "for": owner, "attr.name": name, "attr.type": kind})
    graph = ET.SubElement(root, "graph", id="lamina", edgedefault="directed" if directed else "undirected")
    for id, node in nodes.items():
        _data(ET.SubElement(graph, "node", id=_legal(id)), "node", node, names)
    for number, (source, target, edge) in enumerate(edges):
        ends = {"id": f"e{number}", "source": _legal(source), "target": _legal(target)}
        _data(ET.SubElement(graph, "edge", ends), "edge", edge, names)
    ET.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _data(element: ET.Element, owner: str, values: Attributes, names: Mapping[tuple[str, str], str]) -> None:
    for name, value in values.items():
        if value is not None:
            text = value.isoformat() if isinstance(value, datetime) else str(value)
            ET.SubElement(element, "data", key=names[owner, name]).text = _legal(text)


def _legal(text: str) -> str:
    return _ILLEGAL.sub("\ufffd", text)
