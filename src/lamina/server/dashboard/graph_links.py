"""What a graph is drawn from: the links that pipelines wrote between memories, or those that memories have anyway.

``Related`` reads the edges of the store (who works where, which turn has to do with which). ``Sources`` needs no
pipeline: a fact was taken from a turn, is about somebody, was superseded by another. Both read no more than is drawn,
and nothing that the one who looks may not read; a link with an end that is not readable is none.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from lamina.cube.cube import MemCube, Scope
from lamina.store.base import Edge, Store
from lamina.text.graphs.directory import ENTITY

LIMIT = 200  # nodes in one drawing
PAGE = 60  # facts of a page, whose turns and subjects are drawn as well
SUBJECT = "subject"
TAKEN_FROM, ABOUT, SUPERSEDED_BY, MADE_FROM = "taken from", "about", "superseded by", "made from"
Readable = Callable[[MemCube], object]


@dataclass(frozen=True, slots=True)
class Node:
    """A memory, or (kind ``subject``, no memory) somebody whom facts are about. ``ended``: superseded or deleted."""

    id: str
    kind: str
    text: str
    scope: Scope
    ended: bool = False


@dataclass(frozen=True, slots=True)
class Link:
    source: str
    target: str
    relation: str
    weight: float = 1.0
    evidence: str | None = None  # id of the memory that says so
    reason: str = ""
    ended: bool = False
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Net:
    """What was found: nodes by id, links between them, of each relation how many there are. ``of``: how many nodes
    there would have been; ``cursor``: where older ones go on. ``start``: the nodes it was asked about."""

    nodes: dict[str, Node]
    links: list[Link]
    relations: dict[str, int]
    of: int
    start: tuple[str, ...] = ()
    cursor: str | None = None
    evidence: dict[str, str] = field(default_factory=dict)  # texts of what says so


@dataclass(frozen=True, slots=True)
class View:
    """What to look at: a scope, as it was known at ``as_of`` (default: now), with what had ended or without."""

    store: Store
    scope: Scope
    readable: Readable
    as_of: datetime | None = None
    ended: bool = False
    relations: frozenset[str] = frozenset()  # empty: all

    def cubes(self, ids: Iterable[str]) -> dict[str, MemCube]:
        """The newest versions known, open or not, of those that may be read."""
        wanted = sorted(set(ids))
        found: dict[str, MemCube] = {}
        for at in range(0, len(wanted), 500):
            found |= self.every({"id": {"in": wanted[at : at + 500]}}, limit=5000)
        return found

    def every(self, where: dict[str, Any], *, limit: int) -> dict[str, MemCube]:
        """Texts of any state, the newest version of each."""
        page = self.store.query(
            self.scope, {"AND": [{"kind": "text"}, where]}, as_of=self.as_of, closed=True, limit=limit
        )
        found: dict[str, MemCube] = {}
        for cube in page.cubes:
            known = found.get(cube.id)
            if self.readable(cube) and (known is None or known.header.version < cube.header.version):
                found[cube.id] = cube
        return found

    def over(self, moment: datetime | None) -> bool:
        return moment is not None and (self.as_of is None or moment <= self.as_of)

    def node(self, cube: MemCube) -> Node:
        header = cube.header
        return Node(cube.id, header.semantic_type, cube.text, header.scope, self.over(header.superseded))

    def wanted(self, links: Iterable[Link]) -> list[Link]:
        return [link for link in links if not self.relations or link.relation in self.relations]


# -- what pipelines wrote --------------------------------------------------------------------------------


def related(view: View, start: Sequence[str] = (), hops: int = 2) -> Net:
    """Edges of the store: all, the strongest first, or what is at most ``hops`` steps from ``start``."""
    if not start:
        edges = view.store.edges(view.scope, as_of=view.as_of, closed=view.ended)
        return _strongest(view, [_link(view, edge) for edge in edges], ())
    links, known, frontier = dict[Edge, Link](), set(start), list(start)
    for _ in range(hops):
        edges = view.store.edges(view.scope, frontier, as_of=view.as_of, closed=view.ended)
        found = {edge: _link(view, edge) for edge in edges}
        links |= found
        near = defaultdict[str, float](float)
        for link in view.wanted(found.values()):
            for end in (link.source, link.target):
                near[end] = max(near[end], link.weight)
        frontier = sorted(near.keys() - known, key=lambda id: (-near[id], id))[:LIMIT]
        known |= set(frontier)
    inside = [link for link in links.values() if link.source in known and link.target in known]
    said = [end for link in inside if link.evidence in start for end in (link.source, link.target)]
    ends = {end for link in inside for end in (link.source, link.target)}
    begun = start if ends & set(start) else said  # a fact that links rest on is no end of them
    return _strongest(view, inside, tuple(dict.fromkeys(begun)))


def _link(view: View, edge: Edge) -> Link:
    return Link(
        edge.source, edge.target, edge.relation, edge.weight, edge.evidence, edge.reason,
        view.over(edge.superseded), edge.valid_from or edge.recorded, edge.valid_to or edge.superseded,
    )  # fmt: skip


def _strongest(view: View, links: Sequence[Link], start: tuple[str, ...]) -> Net:
    """The ``LIMIT`` nodes whose links weigh the most, those of ``start`` first, and the links among them."""
    chosen = view.wanted(links)
    strength = defaultdict[str, float](float)
    for link in chosen:
        strength[link.source] += link.weight
        strength[link.target] += link.weight
    ranked = sorted(strength, key=lambda id: (id not in start, -strength[id], id))
    cubes = view.cubes(ranked[:LIMIT])
    nodes = {id: view.node(cubes[id]) for id in ranked[:LIMIT] if id in cubes}
    drawn = sorted(
        (link for link in chosen if link.source in nodes and link.target in nodes),
        key=lambda link: (-link.weight, link.source, link.target, link.relation),
    )
    ends = {end for link in drawn for end in (link.source, link.target)}
    kept = {id: node for id, node in nodes.items() if id in ends or id in start}
    evidence = view.cubes({link.evidence for link in drawn if link.evidence} - kept.keys())
    said = {id: cube.text for id, cube in evidence.items()} | {id: node.text for id, node in kept.items()}
    return Net(kept, drawn, counted(links), len(ranked), tuple(id for id in start if id in kept), evidence=said)


# -- what memories have anyway ---------------------------------------------------------------------------


def sources(view: View, cursor: str | None = None) -> Net:
    """A page of memories, the newest first, with the turns they were taken from, whom they are about, and what they
    superseded."""
    where = {"kind": "text", "semantic_type": {"nin": ["turn", ENTITY]}}
    page = view.store.query(view.scope, where, as_of=view.as_of, limit=PAGE, cursor=cursor)
    found = {cube.id: cube for cube in page.cubes if view.readable(cube)}
    before = view.every({"superseded_by": {"in": list(found)}}, limit=PAGE) if found else {}
    found = before | found  # among those before are older versions of the same memories
    return replace(_net(view, found, ()), cursor=page.cursor)


def around(view: View, start: MemCube | str, hops: int = 2) -> Net:
    """What is at most ``hops`` steps from a memory, or from a subject (its name). Nothing is looked for behind a
    subject on the way: everything is about somebody."""
    if isinstance(start, str):
        found = view.every({"subject": start.casefold()}, limit=LIMIT)
        found = {id: cube for id, cube in found.items() if view.ended or not view.over(cube.header.superseded)}
        net = _net(view, found, ())
        begun = tuple(id for id, node in net.nodes.items() if node.kind == SUBJECT and same(node.text, start))
        return replace(net, start=begun)
    found, frontier = {start.id: start}, {start.id: start}
    for _ in range(hops):
        near = _near(view, frontier)
        frontier = {id: cube for id, cube in near.items() if id not in found}
        found |= frontier
    return _net(view, dict(list(found.items())[:LIMIT]), (start.id,), closed=True)


def _near(view: View, cubes: dict[str, MemCube]) -> dict[str, MemCube]:
    """Memories that are one link away, but for those that share no more than a subject."""
    ends = {link.target for cube in cubes.values() for link in _links(view, cube)}
    taken = {id for cube in cubes.values() for id in view.store.derived(cube.id)}
    before = view.every({"superseded_by": {"in": list(cubes)}}, limit=LIMIT)
    return view.cubes((ends | taken) - cubes.keys()) | before


def _net(view: View, cubes: dict[str, MemCube], start: tuple[str, ...], *, closed: bool = False) -> Net:
    """The memories, what their links lead to, and these links. ``closed``: links to nothing else than ``cubes``."""
    links = [link for cube in cubes.values() for link in _links(view, cube)]
    known = cubes if closed else cubes | view.cubes({link.target for link in links} - cubes.keys())
    nodes = {id: view.node(cube) for id, cube in known.items()}
    for cube in cubes.values():
        if cube.header.claim is not None:
            whom = subject_of(cube)
            nodes.setdefault(whom.id, whom)
    chosen = [link for link in view.wanted(links) if link.source in nodes and link.target in nodes]
    ends = {end for link in chosen for end in (link.source, link.target)}
    kept = [id for id in nodes if id in ends or id in start]
    drawn = {id: nodes[id] for id in sorted(kept, key=lambda id: id not in start)[:LIMIT]}
    inside = [link for link in chosen if link.source in drawn and link.target in drawn]
    return Net(drawn, inside, counted(links), len(kept), start)


def subject_of(cube: MemCube) -> Node:
    """Whom a fact is about, apart for each owner: one's mother is not another's."""
    assert cube.header.claim is not None
    name, scope = cube.header.claim.subject, cube.header.scope
    return Node(f"{SUBJECT} {scope.user} {scope.agent} {scope.run} {name.casefold()}", SUBJECT, name, scope)


def same(one: str, other: str) -> bool:
    return one.casefold() == other.casefold()


def _links(view: View, cube: MemCube) -> list[Link]:
    header, found = cube.header, list[Link]()
    taken = dict.fromkeys(source.id for source in header.provenance.sources)
    made = dict.fromkeys(id for id, _ in header.lineage.derived_from if id not in taken and id != cube.id)
    found += [Link(cube.id, id, TAKEN_FROM, since=header.recorded) for id in taken]
    found += [Link(cube.id, id, MADE_FROM, since=header.recorded) for id in made]
    if header.superseded_by not in (None, cube.id) and view.over(header.superseded):
        by = str(header.superseded_by)
        found.append(Link(cube.id, by, SUPERSEDED_BY, ended=True, since=header.superseded))
    if header.claim is not None:
        since, until = header.valid_from or header.recorded, header.valid_to or header.superseded
        ended = view.over(header.superseded)
        found.append(Link(cube.id, subject_of(cube).id, ABOUT, ended=ended, since=since, until=until))
    return found


def counted(links: Iterable[Link]) -> dict[str, int]:
    """How many links of each relation, the most frequent first."""
    found = defaultdict[str, int](int)
    for link in links:
        found[link.relation] += 1
    return dict(sorted(found.items(), key=lambda pair: (-pair[1], pair[0])))
