"""Facts as bars on an axis of time, in lanes: what is said of the same attribute of the same subject is one lane.

Everything is in px. No words overlap: a bar takes the room of its words as well when rows are chosen.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

from lamina.server.dashboard.drawing import lanes, text
from lamina.server.dashboard.drawing.axis import Axis, Tick

ROW, BAR, DOT = 26.0, 18.0, 5.0
HEAD, TITLE, TIP = 44.0, 20.0, 8.0  # px: the axis' labels, a lane's title above it, the tip of what goes on
SIDE, EDGE, PAD, GAP = 220.0, 10.0, 6.0, 8.0  # px: titles beside lanes, the frame, around words, between two marks
_LEAST = 4.0  # px of a bar
_BESIDE = 700.0  # from this width on titles stand beside the lanes
_INSIDE = 80.0  # px of a bar in which shortened words are better than whole ones beside it


@dataclass(frozen=True, slots=True)
class Span:
    """A fact in time. ``end``: ``None`` if it still is; ``told``: whether a text says when it began, or only since when
    it is known; ``point``: it happened, it did not last."""

    id: str
    text: str
    label: str
    start: datetime
    end: datetime | None = None
    told: bool = True
    point: bool = False


@dataclass(frozen=True, slots=True)
class Lane:
    """``title`` names what all ``spans`` are about; ``named``: one attribute, whose values follow upon each other."""

    title: str
    spans: list[Span]
    named: bool = True


@dataclass(frozen=True, slots=True)
class Said:
    """Messages at about one moment; ``ids``: theirs, ``start`` and ``end``: the first and the last."""

    ids: list[str]
    text: str
    start: datetime
    end: datetime


@dataclass(frozen=True, slots=True)
class Spot:
    """A span from ``x`` to ``end``, with its words from ``at`` on."""

    span: Span
    x: float
    end: float
    words: str = ""
    at: float = 0.0


@dataclass(frozen=True, slots=True)
class Mark:
    """A span as it is drawn: from ``x`` to ``end`` around ``y``, its words from ``at`` on. ``open``: it goes on."""

    span: Span
    shape: Literal["bar", "dot"]
    x: float
    end: float
    y: float
    words: str
    at: float
    open: bool

    @property
    def outside(self) -> bool:
        """Whether the words stand beside it."""
        return self.shape == "dot" or not self.x <= self.at < self.end

    @property
    def path(self) -> str:
        """The outline of a bar; what goes on has a tip."""
        top, bottom, tip = self.y - BAR / 2, self.y + BAR / 2, min(TIP, self.end - self.x) if self.open else 0.0
        return (
            f"M{self.x:.1f} {top:.1f}H{self.end - tip:.1f}"
            + (f"L{self.end:.1f} {self.y:.1f}L{self.end - tip:.1f} {bottom:.1f}" if tip else f"V{bottom:.1f}")
            + f"H{self.x:.1f}Z"
        )


@dataclass(frozen=True, slots=True)
class DrawnLane:
    """``title`` at (``x``, ``y``), ``full`` if it was cut; ``top``: where the lane begins."""

    title: str
    full: str
    x: float
    y: float
    top: float
    marks: list[Mark]


@dataclass(frozen=True, slots=True)
class Dot:
    """``many`` messages around ``x``."""

    said: Said
    x: float
    radius: float


@dataclass(frozen=True, slots=True)
class Chart:
    width: float
    height: float
    left: float
    right: float
    ticks: list[Tick]
    now: float | None
    dots: list[Dot]
    dots_y: float
    lanes: list[DrawnLane]


def draw(
    found: Sequence[Lane], said: Sequence[Said], start: datetime, end: datetime, now: datetime, width: float
) -> Chart:
    """Everything between ``start`` and ``end``. ``said`` must be in order of time."""
    beside = width >= _BESIDE
    axis = Axis(start, end, SIDE if beside else EDGE, width - EDGE)
    y, drawn = HEAD + (ROW if said else 0.0), []
    for lane in found:
        title = 0.0 if beside else TITLE
        first = y + title + ROW / 2
        rows = _sequences(axis, lane.spans) if lane.named else _list(axis, lane.spans)
        marks = [_mark(axis, spot, first + number * ROW) for number, row in enumerate(rows) for spot in row]
        room = (SIDE if beside else width) - 1.5 * EDGE
        below = (first if beside else y + TITLE * 0.6) + 4
        drawn.append(DrawnLane(text.shorten(lane.title, room), lane.title, EDGE, below, y, marks))
        y += title + ROW * len(rows) + 4
    return Chart(
        width, y + EDGE, axis.left, axis.right, axis.ticks(), axis.x(now) if start <= now <= end else None,
        _dots(axis, said), HEAD + ROW / 2, drawn,
    )  # fmt: skip


def _mark(axis: Axis, spot: Spot, y: float) -> Mark:
    span = spot.span
    goes_on = not span.point and (span.end is None or span.end > axis.end)
    return Mark(span, "dot" if span.point else "bar", spot.x, spot.end, y, spot.words, spot.at, goes_on)


def _sequences(axis: Axis, spans: Sequence[Span]) -> list[list[Spot]]:
    """Rows of what follows upon each other. Words stand in their bar, or beside it where the row is free."""
    ends = [_ends(axis, span) for span in spans]
    rows: list[list[Spot]] = []
    for (x, end), span, number in zip(ends, spans, lanes.rows(ends, gap=0.0), strict=True):
        rows += [[]] * (number + 1 - len(rows))
        rows[number] = [*rows[number], Spot(span, x, end)]
    found = []
    for row in rows:
        free, placed = axis.left, list[Spot]()
        for number, spot in enumerate(row):
            until = row[number + 1].x - GAP if number + 1 < len(row) else axis.right
            placed.append(_worded(spot, free, until))
            free = max(spot.end, placed[-1].at + text.width(placed[-1].words)) + GAP
        found.append(placed)
    return found


def _list(axis: Axis, spans: Sequence[Span]) -> list[list[Spot]]:
    """Rows of what has nothing to do with each other: as many as it takes for all words."""
    spots = [_worded(Spot(span, *_ends(axis, span)), axis.left, axis.right) for span in spans]
    taken = [(min(spot.x, spot.at), max(spot.end, spot.at + text.width(spot.words))) for spot in spots]
    chosen = lanes.rows(taken, gap=GAP)
    return [[spot for spot, row in zip(spots, chosen, strict=True) if row == n] for n in range(max(chosen) + 1)]


def _ends(axis: Axis, span: Span) -> tuple[float, float]:
    """From where to where a span is drawn."""
    x = axis.x(span.start)
    if span.point:
        middle = min(max(x, axis.left + DOT), axis.right - DOT)
        return middle - DOT, middle + DOT
    end = axis.right if span.end is None else axis.x(span.end)
    end = max(end, min(x + _LEAST, axis.right))
    return min(x, end - _LEAST), end


def _worded(spot: Spot, free: float, until: float) -> Spot:
    """``spot`` with its words: in it if they fit, else after it or before it (from ``free``, up to ``until``), else as
    many of them as there is room for."""
    label = spot.span.label
    wide = text.width(text.plain(label[:2000]))
    inside = 0.0 if spot.span.point else spot.end - spot.x - 2 * PAD - (TIP if spot.span.end is None else 0)
    after, before = (min(room - PAD, 3 * SIDE) for room in (until - spot.end, spot.x - free))
    if wide <= inside or (inside >= _INSIDE and wide > max(after, before)) or inside >= max(after, before):
        return replace(spot, words=text.shorten(label, inside), at=spot.x + PAD)
    if wide <= after or after >= before:
        return replace(spot, words=text.shorten(label, after), at=spot.end + PAD)
    words = text.shorten(label, before)
    return replace(spot, words=words, at=spot.x - PAD - text.width(words))


def _dots(axis: Axis, said: Sequence[Said]) -> list[Dot]:
    """Messages whose dots would overlap are one larger dot."""
    dots: list[Dot] = []
    for one in said:
        x = min(max(axis.x(one.start), axis.left + DOT), axis.right - DOT)
        if dots and x - dots[-1].x < 3 * DOT:
            last = dots[-1]
            both = Said([*last.said.ids, *one.ids], last.said.text, last.said.start, one.end)
            dots[-1] = Dot(both, last.x, min(DOT * 1.4, DOT + len(both.ids) * 0.1))
        else:
            dots.append(Dot(one, x, DOT * 0.8))
    return dots


def grouped(spans: Sequence[tuple[tuple[str, ...], Span]], title: Callable[[tuple[str, ...]], str]) -> list[Lane]:
    """Spans of one key side by side, by time; lanes of the subject (the first of a key) with the most spans first, and
    of these the ones with a name before the one without."""
    keyed: dict[tuple[str, ...], list[Span]] = {}
    about: dict[str, int] = {}
    for key, span in spans:
        keyed.setdefault(key, []).append(span)
        about[key[0]] = about.get(key[0], 0) + 1
    order = sorted(keyed, key=lambda key: (-about[key[0]], key[0], key[-1] == "", key))
    return [
        Lane(title(key), sorted(keyed[key], key=lambda span: (span.start, span.id)), named=key[-1] != "")
        for key in order
    ]
