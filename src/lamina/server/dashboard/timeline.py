"""Timeline: when facts hold, or when they were known; beside them when messages were said."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel, Field

from lamina.cube.cube import Header, MemCube, Scope, now
from lamina.errors import InvalidInput
from lamina.kernel.governance import check
from lamina.server.caller import Caller
from lamina.server.dashboard.drawing.text import plain
from lamina.server.dashboard.shell import PageRoute, asks_for_part, render
from lamina.server.dashboard.timeline_drawing import Chart, Lane, Said, Span, draw, grouped
from lamina.server.dashboard.visitor import ROOT, Reader
from lamina.server.routes.service_of import Served
from lamina.store.base import Store
from lamina.text import arguments
from lamina.text.decisions import QUARANTINED

router = APIRouter(route_class=PageRoute)

LONGEST = 400  # of a subject that can be asked about
BARS, DOTS = 150, 500  # of one page
WIDTHS = {"large": 1126.0, "small": 322.0}  # px: one drawing for each kind of screen
_LEAST = timedelta(days=14)  # of an axis
_DAY = timedelta(days=1)
_NO_FACTS = ["turn", "entity", "note", "summary", "prompt"]
_LIVE = ["generated", "active", "frozen"]

Owner = Annotated[str, Field(max_length=255)]
Day = Annotated[str, Field(max_length=40)]


class Asked(BaseModel):
    """What the address asks for. ``clock``: when facts held in the world, or when they were known here. ``zoom`` to the
    year or the month of ``since``; else from ``since`` to ``until``, both days included. ``about``: a subject."""

    clock: Literal["held", "known"] = "held"
    zoom: Literal["", "year", "month"] = ""
    since: Day = ""
    until: Day = ""
    about: str = Field("", max_length=LONGEST)
    user_id: Owner = ""
    agent_id: Owner = ""
    run_id: Owner = ""
    cursor: str = Field("", max_length=200)

    def address(self, **other: Any) -> str:
        """This page's address without what is as usual, or with ``other`` values. Pages are begun anew."""
        told = self.model_copy(update={"cursor": "", **other}).model_dump(exclude_defaults=True)
        return f"{ROOT}/timeline" + (f"?{urlencode(told)}" if told else "")

    @property
    def narrowed(self) -> bool:
        return bool(self.model_dump(exclude_defaults=True, exclude={"clock", "cursor"}))


@dataclass(frozen=True, slots=True)
class Window:
    """From ``start`` up to ``end``; ``None``: as far as there is anything."""

    start: datetime | None
    end: datetime | None

    def shifted(self, way: int) -> str | None:
        """The first day of the window before (-1) or after (1) this one, as long as it."""
        if self.start is None or self.end is None:
            return None
        try:
            moved = self.start - _DAY if way < 0 else self.end
            return moved.date().isoformat()
        except OverflowError:
            return None


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table."""

    cube: MemCube
    span: Span
    attribute: str


@dataclass(frozen=True, slots=True)
class Found:
    rows: list[Row]
    said: list[Said]
    cursor: str | None
    removed: int  # taken out of use without anything in their place: they hold no more


@router.get("/timeline")
def timeline(request: Request, asked: Annotated[Asked, Query()], caller: Reader, service: Served) -> Response:
    asked = asked.model_copy(update={name: value.strip() for name, value in asked if isinstance(value, str)})
    at, window = now(), windowed(asked, now())
    found = find(asked, caller, service.memory(caller).store, window)
    part = asks_for_part(request)
    owned = len({row.cube.header.scope.user for row in found.rows}) > 1
    answer = render(
        request,
        "timeline_drawn.html" if part else "timeline.html",
        asked=asked,
        found=found,
        window=window,
        charts=charts(found, window, at, owned) if found.rows or found.said else {},
        earlier=_moved(asked, window, -1),
        later=_moved(asked, window, 1),
        zooms=(("", "All"), ("year", "A year"), ("month", "A month")),
        last_day=last_day,
        most_dots=DOTS,
        longest=LONGEST,
        owned=owned,
        abouts=sorted({row.cube.header.claim.subject[:200] for row in found.rows if row.cube.header.claim}),
    )
    if part:
        answer.headers["HX-Push-Url"] = asked.address(cursor=asked.cursor)
    return answer


def windowed(asked: Asked, at: datetime) -> Window:
    """Raises ``InvalidInput`` for days that are none, or an end before the start."""
    since, until = (arguments.moment(name, getattr(asked, name) or None) for name in ("since", "until"))
    if asked.zoom:
        day = (since or at).replace(hour=0, minute=0, second=0, microsecond=0, day=1)
        start = day.replace(month=1) if asked.zoom == "year" else day
        months = start.year * 12 + start.month - 1 + (12 if asked.zoom == "year" else 1)
        if months // 12 > 9998:
            raise InvalidInput(f"since={asked.since!r:.60}: after that there is no time left")
        return Window(start, datetime(months // 12, months % 12 + 1, 1, tzinfo=UTC))
    end = until + _DAY if until is not None and until.year < 9999 else until
    if since is not None and end is not None and end <= since:
        raise InvalidInput(f"until={asked.until!r:.60} is before since={asked.since!r:.60}; exchange them")
    return Window(since, end)


def last_day(window: Window) -> str:
    """As a field of a form takes it."""
    return (window.end - timedelta(microseconds=1)).date().isoformat() if window.end else ""


def _moved(asked: Asked, window: Window, way: int) -> str | None:
    """The address of the time before or after."""
    day = window.shifted(way)
    if day is None or window.start is None or window.end is None:
        return None
    if asked.zoom:
        return asked.address(since=day, until="")
    long = window.end - window.start - _DAY
    try:
        other = datetime.fromisoformat(day) + way * long
    except OverflowError:
        return None
    first, last = sorted((day, other.date().isoformat()))
    return asked.address(since=first, until=last)


# -- reading ---------------------------------------------------------------------------------------------


def find(asked: Asked, caller: Caller, store: Store, window: Window) -> Found:
    """A page of facts, those told last first, and the messages of the same time. Raises ``InvalidInput``,
    ``NotPermitted``."""
    ids = {name: getattr(asked, name) or None for name in arguments.IDENTITY}
    scope = arguments.scope_of(caller.tenant, caller.owner(ids), required=False)
    page = store.query(scope, _where(asked, window), closed=True, limit=BARS, cursor=asked.cursor or None)
    cubes = [cube for cube in page.cubes if check(caller.principal, "read", cube)]
    rows, removed = [], 0
    for cube in cubes:
        span = known(cube) if asked.clock == "known" else held(cube)
        if span is not None:
            rows.append(Row(cube, span, _attribute(cube)))
        removed += span is None and cube.header.superseded_by is None
    said = [] if asked.about else _said(caller, store, scope, window)
    return Found(rows, said, page.cursor, removed)


def _where(asked: Asked, window: Window) -> dict[str, Any]:
    """Facts that are believed, or once were, at some time in the window."""
    where: list[dict[str, Any]] = [
        {"kind": "text", "semantic_type": {"nin": _NO_FACTS}, "state": {"in": _LIVE}},
        {"NOT": [{"tags": {"contains": QUARANTINED}}]},
    ]
    if asked.about:
        where.append({"subject": asked.about.casefold()})
    if asked.clock == "known":
        begun, ended = ["recorded"], ["superseded"]
    else:
        begun, ended = ["valid_from", "recorded"], ["valid_to", "superseded"]
    if window.end is not None:
        where.append(_first(begun, "lt", window.end))
    if window.start is not None:
        where.append({"OR": [_first(ended, "gt", window.start), dict.fromkeys(ended)]})
        if asked.clock == "held":  # what happened is over at once
            where.append({"OR": [{"semantic_type": {"ne": "event"}}, _first(begun, "gte", window.start)]})
    return {"AND": where}


def _first(names: Sequence[str], operator: str, moment: datetime) -> dict[str, Any]:
    """The first of the times that is there compares so."""
    name, *others = names
    here: dict[str, Any] = {name: {operator: moment}}
    return {"OR": [here, {"AND": [{name: None}, _first(others, operator, moment)]}]} if others else here


def _said(caller: Caller, store: Store, scope: Scope, window: Window) -> list[Said]:
    """The newest messages of the window, oldest first."""
    recorded = {name: at for name, at in (("gte", window.start), ("lt", window.end)) if at is not None}
    where: dict[str, Any] = {"kind": "text", "semantic_type": "turn"} | ({"recorded": recorded} if recorded else {})
    page = store.query(scope, where, limit=DOTS)
    cubes = [cube for cube in reversed(page.cubes) if check(caller.principal, "read", cube)]
    return [Said([cube.id], cube.text[:400], cube.header.recorded, cube.header.recorded) for cube in cubes]


def held(cube: MemCube) -> Span | None:
    """When a fact holds in the world; ``None`` for what holds no more, though no end of it is known: a wording that was
    replaced, a memory that was deleted."""
    header = cube.header
    start, end = header.valid_from or header.recorded, header.valid_to
    if header.superseded is not None and end is None:
        if header.superseded_by in (None, cube.id):
            return None
        end = header.superseded
    elif header.superseded_by == cube.id:
        return None
    point = header.semantic_type == "event"
    return Span(cube.id, cube.text, _label(cube), start, end and max(start, end), header.valid_from is not None, point)


def known(cube: MemCube) -> Span:
    """When a wording of a fact was believed here."""
    header = cube.header
    end = header.superseded and max(header.recorded, header.superseded)
    return Span(cube.id, cube.text, _label(cube), header.recorded, end)


def _label(cube: MemCube) -> str:
    """What a bar says: in the lane of an attribute its value, as the text spells it; else the text."""
    claim, text = cube.header.claim, plain(cube.text[:500])
    if claim is None or not claim.slot or not claim.value:
        return text
    at = text.casefold().find(claim.value.casefold())
    value = text[at : at + len(claim.value)] if at >= 0 and len(text.casefold()) == len(text) else claim.value
    return value if claim.polarity else f"not {value}"


def _attribute(cube: MemCube) -> str:
    claim = cube.header.claim
    return (claim.slot or "").replace(".", ": ").replace("_", " ") if claim else ""


# -- drawing ---------------------------------------------------------------------------------------------


def charts(found: Found, window: Window, at: datetime, owned: bool) -> dict[str, Chart]:
    """The same in each of ``WIDTHS``."""
    ends = [row.span.end or row.span.start for row in found.rows] + [one.end for one in found.said]
    begins = [row.span.start for row in found.rows] + [one.start for one in found.said]
    start = window.start or min([*begins, window.end or at])
    end = window.end or max([*ends, at, start])
    pad = timedelta() if window.start and window.end else (end - start) * 0.02
    start, end = _long_enough(start if window.start else start - min(pad, start - _EARLIEST), end, pad, window)
    lanes = _lanes(found.rows, owned)
    return {name: draw(lanes, found.said, start, end, at, width) for name, width in WIDTHS.items()}


_EARLIEST, _LATEST = datetime(1, 1, 2, tzinfo=UTC), datetime(9999, 12, 30, tzinfo=UTC)


def _long_enough(start: datetime, end: datetime, pad: timedelta, window: Window) -> tuple[datetime, datetime]:
    end = end if window.end else end + min(pad, max(_LATEST - end, timedelta()))
    if end - start < _LEAST and start < _LATEST - _LEAST:
        end = start + _LEAST
    return start, end


def _lanes(rows: Sequence[Row], owned: bool) -> list[Lane]:
    titles: dict[tuple[str, ...], str] = {}
    spans = []
    for row in rows:
        header = row.cube.header
        subject = header.claim.subject if header.claim else ""
        key = (f"{_owner(header)}\0{subject.casefold()}", row.attribute)
        whose = f" ({_owner(header)})" if owned and _owner(header).casefold() != subject.casefold() else ""
        titles.setdefault(
            key, (subject or "nobody in particular") + whose + (f" · {row.attribute}" if row.attribute else "")
        )
        spans.append((key, row.span))
    return grouped(spans, titles.__getitem__)


def _owner(header: Header) -> str:
    scope = header.scope
    return scope.user or scope.agent or scope.run or ""
