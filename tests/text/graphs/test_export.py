"""Graph files: other programs read them, whatever the names are."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamina.cube.cube import Scope, now
from lamina.store.base import Edge
from lamina.text.graph import Relation
from lamina.text.graphs.directory import Entity
from lamina.text.graphs.export import to_graphml, to_json

HOSTILE = ['<script>&"', "]]>", "a\x00b\x1bc", "名前", "line\nbreak", "\ufffe", "😀", "&amp;", "' OR 1=1 --"]
_IN = "{http://graphml.graphdrawing.org/xmlns}"


def relation(one: str, name: str, other: str) -> Relation:
    a, b = Entity("id a", one, "person", Scope()), Entity("id b", other, "thing", Scope())
    return Relation(a, b, Edge(source=a.id, target=b.id, relation=name, recorded=now(), evidence="fact"))


def parsed(text: str) -> tuple[dict[str, dict[str, str]], list[dict[str, str]]]:
    root = ET.fromstring(text.encode())
    names = {key.get("id"): key.get("attr.name") for key in root.iter(f"{_IN}key")}

    def data(element: ET.Element) -> dict[str, str]:
        return {str(names[d.get("key")]): d.text or "" for d in element.iter(f"{_IN}data")}

    nodes = {str(node.get("id")): data(node) for node in root.iter(f"{_IN}node")}
    return nodes, [{**data(edge), **edge.attrib} for edge in root.iter(f"{_IN}edge")]


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_stay_data(name: str) -> None:
    nodes, edges = parsed(to_graphml([], [relation(name, "likes", "tea")]))
    legal = "".join("\ufffd" if c in "\x00\x1b\ufffe" else c for c in name)
    assert nodes["id a"] == {"name": legal, "type": "person"}
    assert (edges[0]["source"], edges[0]["target"], edges[0]["relation"]) == ("id a", "id b", "likes")


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_any_text_parses(name: str) -> None:
    nodes, _ = parsed(to_graphml([], [relation(name, "likes", "tea")]))
    assert set(nodes) == {"id a", "id b"}


def test_networkx_reads_a_multigraph() -> None:
    networkx = pytest.importorskip("networkx")
    both = [relation("Ana", "likes", "tea"), relation("Ana", "brews", "tea")]
    graph = networkx.parse_graphml(to_graphml([both[0].source], both))
    assert graph.is_directed()
    assert graph.is_multigraph()
    assert graph.nodes["id a"] == {"name": "Ana", "type": "person"}
    assert {edge["relation"] for _, _, edge in graph.edges(data=True)} == {"likes", "brews"}
    assert all(edge["weight"] == 1.0 for _, _, edge in graph.edges(data=True))


def test_json_holds_names_times_and_evidence() -> None:
    (row,) = json.loads(json.dumps(to_json([], [relation("Ana", "likes", "tea")])))["relations"]
    assert (row["source"], row["relation"], row["target"], row["evidence"]) == ("Ana", "likes", "tea", "fact")
    assert row["superseded"] is None
