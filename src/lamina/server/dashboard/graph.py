"""Graph: memories and names as boxes, and what links them; all of it, or what is around one of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Annotated, Any, Literal
from urllib.parse import quote, urlencode

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel, Field

from lamina.cube.cube import MemCube
from lamina.errors import InvalidInput, NotFound
from lamina.kernel.governance import check
from lamina.server.caller import Caller
from lamina.server.dashboard import graph_links
from lamina.server.dashboard.drawing import layout, links, text
from lamina.server.dashboard.graph_links import SUBJECT, Link, Net, Node, View
from lamina.server.dashboard.shell import PageRoute, asks_for_part, render
from lamina.server.dashboard.visitor import ROOT, Reader
from lamina.server.routes.service_of import Served
from lamina.server.service import Service
from lamina.text import arguments
from lamina.text.graphs.directory import ENTITY, Directories

router = APIRouter(route_class=PageRoute)

LONGEST, LONGEST_RELATION = 400, 200  # letters of a name and of a relation that can be asked for
ROWS = 400  # of the table
LABELLED = 24  # lines whose words stand in the drawing without being asked for
_LINE, _WIDE, _PADDING, _NAME = 15.0, 168.0, 20.0, 130.0  # px: a line of a box, its words, around them, a relation
_NAMES = (ENTITY, SUBJECT)

Owner = Annotated[str, Field(max_length=255)]


class Asked(BaseModel):
    """What the address asks for. ``focus``: the id of a memory, or a name. ``show``: what pipelines related, or where
    facts are from; empty: the first of the two that there is."""

    focus: str = Field("", max_length=LONGEST)
    show: Literal["", "related", "sources"] = ""
    hops: int = Field(2, ge=1, le=2)
    relation: list[Annotated[str, Field(max_length=LONGEST_RELATION)]] = Field([], max_length=20)
    user_id: Owner = ""
    agent_id: Owner = ""
    run_id: Owner = ""
    as_of: str = Field("", max_length=40)
    ended: bool = False
    cursor: str = Field("", max_length=200)

    def address(self, **other: Any) -> str:
        """This page's address without what is as usual, or with ``other`` values. Pages are begun anew."""
        told = self.model_copy(update={"cursor": "", **other}).model_dump(exclude_defaults=True)
        return f"{ROOT}/graph" + (f"?{urlencode(told, doseq=True)}" if told else "")

    def toggled(self, relation: str) -> str:
        """The address with one more or one less relation."""
        chosen = [one for one in self.relation if one != relation]
        return self.address(relation=chosen if relation in self.relation else [*chosen, relation][-20:])

    @property
    def narrowed(self) -> bool:
        return bool(self.model_dump(exclude_defaults=True, exclude={"show", "cursor", "hops"}))


@dataclass(frozen=True, slots=True)
class DrawnNode:
    """``lines`` of words as (y, text), all centred at ``x``; ``box`` is drawn around them."""

    node: Node
    box: links.Box
    lines: tuple[tuple[float, str], ...]
    href: str
    current: bool

    @property
    def round(self) -> bool:
        return self.node.kind in _NAMES


@dataclass(frozen=True, slots=True)
class DrawnLink:
    """``words`` stand at ``at``, if there is room; ``ends``: numbers of the nodes, for what happens under the mouse."""

    path: str
    words: str
    at: tuple[float, float] | None
    title: str
    ended: bool
    ends: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Drawing:
    nodes: list[DrawnNode]
    links: list[DrawnLink]
    width: float
    height: float
    labelled: bool


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table."""

    source: Node
    target: Node
    link: Link
    words: str
    evidence: str | None


@router.get("/graph")
def graph(request: Request, asked: Annotated[Asked, Query()], caller: Reader, service: Served) -> Response:
    asked = asked.model_copy(update={name: value.strip() for name, value in asked if isinstance(value, str)})
    view = viewed(asked, caller, service)
    start = _start(service, caller, view, asked.focus) if asked.focus else None
    if start is not None and not isinstance(start, str) and caller.user is None:
        view = replace(view, scope=start.header.scope)  # links never cross an owner
    shown, net = find(view, asked, start)
    asked = asked.model_copy(update={"show": shown})
    template = "graph_drawn.html" if asks_for_part(request) else "graph.html"
    answer = render(
        request,
        template,
        asked=asked,
        net=net,
        start=start if isinstance(start, str) or start is None else view.node(start),
        drawing=draw(net, asked) if net.links else None,
        rows=[_row(net, link) for link in net.links[:ROWS]],
        link=partial(address, asked),
        chips=_chips(net, asked),
        named=words,
        names=_NAMES,
        names_known=sorted({node.text[:200] for node in net.nodes.values() if node.kind in _NAMES}),
        because=any(link.evidence or link.reason for link in net.links[:ROWS]),
        owned=len({node.scope for node in net.nodes.values()}) > 1,
    )
    if asks_for_part(request):
        answer.headers["HX-Push-Url"] = asked.address(cursor=asked.cursor)
    return answer


def viewed(asked: Asked, caller: Caller, service: Service) -> View:
    """Raises ``InvalidInput``, ``NotPermitted``."""
    ids = {name: getattr(asked, name) or None for name in arguments.IDENTITY}
    return View(
        store=service.memory(caller).store,
        scope=arguments.scope_of(caller.tenant, caller.owner(ids), required=False),
        readable=lambda cube: check(caller.principal, "read", cube),
        as_of=arguments.moment("as_of", asked.as_of or None, end_of_day=True),
        ended=asked.ended,
        relations=frozenset(asked.relation),
    )


def find(view: View, asked: Asked, start: MemCube | str | None) -> tuple[Literal["related", "sources"], Net]:
    """The links to draw, and of which kind they are."""
    if asked.show != "sources" and not isinstance(start, str):
        net = graph_links.related(view, () if start is None else (start.id,), asked.hops)
        if asked.show or net.relations:
            return "related", net
    if start is None:
        return "sources", graph_links.sources(view, asked.cursor or None)
    if not isinstance(start, str) and start.header.semantic_type == ENTITY:
        start = start.text  # of a name there is no source, but of the facts about it
    return "sources", graph_links.around(view, start, asked.hops)


def _start(service: Service, caller: Caller, view: View, focus: str) -> MemCube | str:
    """A memory by its id or, if it is an entity, by its name; else the name of somebody facts are about. Raises
    ``NotFound``."""
    try:
        return service.readable(caller, focus)
    except (NotFound, InvalidInput):  # no id, or nothing that could be one
        with Directories().use(view.store, view.scope) as directory:
            named = directory.named(focus)
    if named:
        return service.readable(caller, named[0].id)
    if not view.every({"subject": focus.casefold()}, limit=1):
        raise NotFound(f"there is no memory, and nobody is called, {arguments.short(focus)}")
    return focus


def address(asked: Asked, node: Node, *, focus: bool = False) -> str:
    """Where a node leads: a memory to its page; a name, or anything with ``focus``, to what is around it. Empty for a
    name that is too long to be asked for."""
    if node.kind == SUBJECT:
        if len(node.text) > LONGEST:
            return ""
        owner = {"user_id": node.scope.user or "", "agent_id": node.scope.agent or "", "run_id": node.scope.run or ""}
        return asked.address(focus=node.text, relation=[], **owner)
    if focus or node.kind == ENTITY:
        return asked.address(focus=node.id, relation=[])
    return f"{ROOT}/memories/{quote(node.id, safe='')}"


def words(relation: str) -> str:
    return relation.replace("_", " ")


def _chips(net: Net, asked: Asked) -> list[tuple[str, int, str, bool]]:
    """(relation, how many, where it leads, whether it is chosen); those that are chosen come first. Where one is too
    long to be asked for, it leads nowhere."""
    known = dict.fromkeys(asked.relation, 0) | net.relations
    order = sorted(known, key=lambda one: one not in asked.relation)
    return [
        (one, known[one], asked.toggled(one) if len(one) <= LONGEST_RELATION else "", one in asked.relation)
        for one in order[:200]
    ]


def _row(net: Net, link: Link) -> Row:
    said = net.evidence.get(link.evidence or "")
    return Row(net.nodes[link.source], net.nodes[link.target], link, words(link.relation), said)


# -- the drawing -----------------------------------------------------------------------------------------


def draw(net: Net, asked: Asked) -> Drawing:
    """Boxes, lines and words of a net, in px."""
    nodes = list(net.nodes.values())
    place = {node.id: number for number, node in enumerate(nodes)}
    lines = [text.wrap(node.text, _WIDE, 2) for node in nodes]
    sizes = [(max(map(text.width, one)) + _PADDING, len(one) * _LINE + _PADDING * 0.6) for one in lines]
    pairs = _pairs(net.links)
    labels = [
        text.shorten(", ".join(dict.fromkeys(words(one.relation) for one in each)), _NAME) for each in pairs.values()
    ]
    labelled = bool(asked.focus) or (asked.show == "related" and len(pairs) <= LABELLED)
    room = max(map(text.width, labels)) if labelled else 30.0
    edges = [(place[source], place[target]) for source, target in pairs]
    found = layout.arrange(sizes, edges, length=room + 20.0)
    boxes = [links.Box(x, y, *size) for (x, y), size in zip(found.centres.tolist(), sizes, strict=True)]
    drawn = [links.line(boxes[a], boxes[b], aside=(b, a) in set(edges)) for a, b in edges]
    where = links.placed(labels, drawn, boxes, inside=(found.width, found.height))
    return Drawing(
        [_box(asked, net, *each) for each in zip(nodes, boxes, lines, strict=True)],
        [
            DrawnLink(line.path, label, at, _title(net, each), all(one.ended for one in each), ends)
            for each, line, label, at, ends in zip(pairs.values(), drawn, labels, where, edges, strict=True)
        ],
        found.width,
        found.height,
        labelled,
    )


def _pairs(found: Sequence[Link]) -> dict[tuple[str, str], list[Link]]:
    """Links of the same two ends are one line."""
    pairs = defaultdict[tuple[str, str], list[Link]](list)
    for link in found:
        pairs[link.source, link.target].append(link)
    return dict(pairs)


def _box(asked: Asked, net: Net, node: Node, box: links.Box, lines: tuple[str, ...]) -> DrawnNode:
    top = box.y - (len(lines) - 1) * _LINE / 2 + text.SIZE * 0.35
    said = tuple((top + number * _LINE, line) for number, line in enumerate(lines))
    return DrawnNode(node, box, said, address(asked, node), node.id in net.start)


def _title(net: Net, found: Sequence[Link]) -> str:
    ends = net.nodes[found[0].source].text[:200], net.nodes[found[0].target].text[:200]
    told = ", ".join(words(link.relation) + (f" until {_day(link.until)}" if link.ended else "") for link in found)
    return f"{ends[0]}: {told}: {ends[1]}"


def _day(moment: datetime | None) -> str:
    return f"{moment:%-d %b %Y}" if moment else "?"
