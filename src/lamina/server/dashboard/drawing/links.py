"""The lines between boxes, from border to border, and the words on them, which stand where nothing else does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lamina.server.dashboard.drawing import text

Point = tuple[float, float]
HEIGHT = 15.0  # of a line of words
_ALONG = (0.5, 0.4, 0.6, 0.3, 0.7, 0.22, 0.78)  # where words are tried
_BEND = 22.0  # px that a line goes aside for one that comes the other way


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle by its centre."""

    x: float
    y: float
    width: float
    height: float

    def meets(self, other: Box, gap: float = 0.0) -> bool:
        across = abs(self.x - other.x) < (self.width + other.width) / 2 + gap
        return across and abs(self.y - other.y) < (self.height + other.height) / 2 + gap


@dataclass(frozen=True, slots=True)
class Line:
    """From border to border; ``control`` is the point that bends it, as of a quadratic Bézier curve."""

    start: Point
    control: Point
    end: Point

    @property
    def path(self) -> str:
        """For the ``d`` of an SVG path."""
        points = [f"{x:.1f} {y:.1f}" for x, y in (self.start, self.control, self.end)]
        return f"M{points[0]}Q{points[1]} {points[2]}"

    def at(self, t: float) -> Point:
        """The point at ``t`` of the way, from 0 to 1."""
        weights = ((1 - t) ** 2, 2 * t * (1 - t), t**2)
        points = (self.start, self.control, self.end)
        x, y = (sum(weight * point[axis] for weight, point in zip(weights, points, strict=True)) for axis in (0, 1))
        return x, y


def line(source: Box, target: Box, *, aside: bool = False) -> Line:
    """The line from one box to another; ``aside``: bent, for there is one that comes back."""
    middle = ((source.x + target.x) / 2, (source.y + target.y) / 2)
    if aside:
        dx, dy = target.x - source.x, target.y - source.y
        length = max((dx * dx + dy * dy) ** 0.5, 1.0)
        middle = (middle[0] - dy / length * _BEND, middle[1] + dx / length * _BEND)
    start, end = border(source, middle), border(target, middle)
    if not aside:
        middle = ((start[0] + end[0]) / 2, (start[1] + end[1]) / 2)
    return Line(start, middle, end)


def border(box: Box, towards: Point, gap: float = 2.0) -> Point:
    """Where the way from the centre of ``box`` to a point leaves it, ``gap`` px outside."""
    dx, dy = towards[0] - box.x, towards[1] - box.y
    if dx == dy == 0:
        return box.x, box.y
    share = min(
        (box.width / 2 + gap) / abs(dx) if dx else float("inf"),
        (box.height / 2 + gap) / abs(dy) if dy else float("inf"),
    )
    share = min(share, 1.0)
    return box.x + dx * share, box.y + dy * share


def placed(words: Sequence[str], lines: Sequence[Line], boxes: Sequence[Box], *, inside: Point) -> list[Point | None]:
    """For the words of each line the middle of a place on it where they meet no box, no words placed before and not the
    edge of the drawing (``inside``: its width and height); ``None`` where there is none."""
    taken, found = list(boxes), list[Point | None]()
    for said, each in zip(words, lines, strict=True):
        wide = text.width(said)
        tried = (Box(*each.at(t), wide, HEIGHT) for t in _ALONG)
        free = next((one for one in tried if _within(one, inside) and not any(one.meets(b, 2) for b in taken)), None)
        if free is not None:
            taken.append(free)
        found.append(None if free is None else (free.x, free.y))
    return found


def _within(box: Box, inside: Point) -> bool:
    across = box.width / 2 <= box.x <= inside[0] - box.width / 2
    return across and box.height / 2 <= box.y <= inside[1] - box.height / 2
