"""A line of time: where a moment stands on it, and which days, months or years are written below it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from lamina.server.dashboard.drawing import text

_DAY = timedelta(days=1)
_STEPS = (  # (days or months, at most that long apart): from the finest to the coarsest
    *(("day", days) for days in (1, 2, 7, 14)),
    *(("month", months) for months in (1, 3, 6, 12, 24, 60, 120, 240, 600, 1200, 6000)),
)
_SPACE = 14.0  # px between two labels


@dataclass(frozen=True, slots=True)
class Tick:
    """``major``: a year begins, or where days are written a month."""

    x: float
    label: str
    major: bool


@dataclass(frozen=True, slots=True)
class Axis:
    """From ``start`` at ``left`` px to ``end`` at ``right`` px. Times are timezone-aware."""

    start: datetime
    end: datetime
    left: float
    right: float

    def x(self, moment: datetime) -> float:
        """Where ``moment`` stands; what is outside stands at the border."""
        share = (moment - self.start) / (self.end - self.start)
        return self.left + (self.right - self.left) * min(max(share, 0.0), 1.0)

    def ticks(self) -> list[Tick]:
        """As many as fit with their labels side by side: none overlaps another, none leaves the axis."""
        days = (self.end - self.start) / _DAY
        for unit, step in _STEPS:
            if days / step / (1 if unit == "day" else 31) * (text.SIZE + _SPACE) > self.right - self.left:
                continue  # too many for any label
            found = self._ticks(unit, step)
            if all(b.x - a.x >= (_wide(a) + _wide(b)) / 2 + _SPACE for a, b in pairwise(found)):
                return found
        return []

    def _ticks(self, unit: str, step: int) -> list[Tick]:
        found = []
        for moment in _days(self.start, self.end, step) if unit == "day" else _months(self.start, self.end, step):
            year, month = moment.month == moment.day == 1, moment.day == 1
            if unit == "day" and not month:
                tick = Tick(self.x(moment), f"{moment.day} {moment:%b}", False)
            else:
                label = str(moment.year) if year and unit == "month" else f"{moment:%b} {moment.year}"
                tick = Tick(self.x(moment), label, year or (unit == "day" and month))
            if self.left + _wide(tick) / 2 <= tick.x <= self.right - _wide(tick) / 2:
                found.append(tick)
        return found


def _wide(tick: Tick) -> float:
    return text.width(tick.label)


def _days(start: datetime, end: datetime, step: int) -> Iterator[datetime]:
    """Every ``step`` days of each month, from its first."""
    at = datetime(start.year, start.month, start.day, tzinfo=UTC)
    while at <= end:
        if at >= start and (at.day - 1) % step == 0 and at.day + step <= 32:
            yield at
        if at > datetime.max.replace(tzinfo=UTC) - 2 * _DAY:
            return
        at += _DAY


def _months(start: datetime, end: datetime, step: int) -> Iterator[datetime]:
    first = start.year * 12 + start.month - 1
    for number in range(first - first % step, end.year * 12 + end.month, step):
        if number >= 12:
            at = datetime(number // 12, number % 12 + 1, 1, tzinfo=UTC)
            if start <= at <= end:
                yield at
