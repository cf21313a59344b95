"""Half-open calendar intervals around a moment, on the wall clock of its time zone.

All arithmetic is on local dates, so a day is from midnight to midnight whatever daylight saving does in
between. Weeks begin on Monday (ISO 8601). Seasons are the northern meteorological ones (summer: June to
August); a winter is named by the year it begins in.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import NamedTuple

SEASON_START = {"spring": 3, "summer": 6, "autumn": 9, "fall": 9, "winter": 12}
UNITS = ("minute", "hour", "day", "weekend", "week", "fortnight", "month", "year", "decade")
_FIXED = {
    "minute": timedelta(minutes=1),
    "hour": timedelta(hours=1),
    "day": timedelta(days=1),
    "weekend": timedelta(days=7),
    "week": timedelta(days=7),
    "fortnight": timedelta(days=14),
}
_MONTHS = {"month": 1, "year": 12, "decade": 120}


class Interval(NamedTuple):
    """``[start, end)`` and how coarse it is: a unit of ``UNITS``, or part, season, quarter, range."""

    start: datetime
    end: datetime
    granularity: str


def midnight(moment: datetime) -> datetime:
    return moment.replace(hour=0, minute=0, second=0, microsecond=0, fold=0)


def shift(moment: datetime, unit: str, count: int) -> datetime:
    """``moment`` moved by ``count`` units; the day of the month is cut to the month's length."""
    if unit in _FIXED:
        return moment + _FIXED[unit] * count
    index = moment.year * 12 + moment.month - 1 + _MONTHS[unit] * count
    first = moment.replace(day=1).replace(year=index // 12, month=index % 12 + 1)
    return first.replace(day=min(moment.day, (month(first).end - timedelta(days=1)).day))


def day(moment: datetime) -> Interval:
    start = midnight(moment)
    return Interval(start, start + timedelta(days=1), "day")


def week(moment: datetime) -> Interval:
    start = midnight(moment) - timedelta(days=moment.weekday())
    return Interval(start, start + timedelta(days=7), "week")


def weekend(moment: datetime) -> Interval:
    """Saturday and Sunday of the week of ``moment``."""
    start = week(moment).start + timedelta(days=5)
    return Interval(start, start + timedelta(days=2), "weekend")


def month(moment: datetime) -> Interval:
    start = midnight(moment).replace(day=1)
    return Interval(start, (start + timedelta(days=32)).replace(day=1), "month")


def year(moment: datetime) -> Interval:
    start = midnight(moment).replace(month=1, day=1)
    return Interval(start, start.replace(year=start.year + 1), "year")


def decade(moment: datetime) -> Interval:
    start = midnight(moment).replace(year=moment.year // 10 * 10, month=1, day=1)
    return Interval(start, start.replace(year=start.year + 10), "decade")


def season(name: str, moment: datetime, of_year: int) -> Interval:
    """The season that begins in ``of_year``."""
    start = midnight(moment).replace(year=of_year, month=SEASON_START[name], day=1)
    return Interval(start, shift(start, "month", 3), "season")


def unit_at(unit: str, moment: datetime) -> Interval:
    """The unit of the calendar that holds ``moment``."""
    if unit == "minute":
        start = moment.replace(second=0, microsecond=0)
        return Interval(start, start + timedelta(minutes=1), "minute")
    if unit == "hour":
        start = moment.replace(minute=0, second=0, microsecond=0)
        return Interval(start, start + timedelta(hours=1), "hour")
    if unit == "fortnight":
        return week(moment)
    whole = {"day": day, "weekend": weekend, "week": week, "month": month, "year": year, "decade": decade}
    return whole[unit](moment)
