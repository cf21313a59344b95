"""What each kind of temporal expression means: one function from a match to an interval.

``lamina.text.english.time_rules`` says which words lead here. A function returns an interval on the anchor's calendar,
or ``None``: what cannot be resolved gets no date, never today's. Ambiguous numeric dates (03/04/2023) are not
resolved. Dates without a year, and bare weekdays, look back if their sentence does, else ahead.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from re import Match

from lamina.text.english import calendar as cal
from lamina.text.english.calendar import Interval
from lamina.text.english.numbers import parse_number

_MONTH_NAMES = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
]
MONTHS = {name: n for n, name in enumerate(_MONTH_NAMES, 1)} | {m[:3]: n for n, m in enumerate(_MONTH_NAMES, 1)}
MONTHS |= {"sept": 9}
DAY_NAMES = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]
WEEKDAYS = {name: n for n, name in enumerate(DAY_NAMES)}
WEEKDAYS |= {"mon": 0, "tue": 1, "tues": 1, "wed": 2, "thu": 3, "thur": 3, "thurs": 3, "fri": 4, "sat": 5, "sun": 6}
ORDINALS = {
    w: n
    for n, w in enumerate(
        ["first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth"], 1
    )
}
HOLIDAYS = {
    "christmas eve": (12, 24), "christmas day": (12, 25), "christmas": (12, 25), "boxing day": (12, 26),
    "new year's eve": (12, 31), "new year's day": (1, 1), "halloween": (10, 31), "valentine's day": (2, 14),
}  # fmt: skip
PARTS = {"morning": (5, 12), "afternoon": (12, 17), "evening": (17, 22), "night": (20, 28)}  # hours from midnight


@dataclass(frozen=True, slots=True)
class Context:
    """What a handler may ask: the anchor on its local calendar, and whether the sentence looks back."""

    now: datetime
    past: Callable[[Match[str]], bool]


def _on(ctx: Context, year: int, month: int, day: int) -> Interval:
    return cal.day(cal.midnight(ctx.now).replace(year=year, month=month, day=day))


def _nearest_year(m: Match[str], ctx: Context, month: int, day: int) -> int:
    """The year of a date without one: the last such date if the sentence looks back, else the coming one."""
    today, year = ctx.now.date(), ctx.now.year
    if ctx.past(m):
        return year if (month, day) <= (today.month, today.day) else year - 1
    return year if (month, day) >= (today.month, today.day) else year + 1


def _year_of(text: str) -> int:
    return int(text) if len(text) == 4 else 2000 + int(text) - (100 if int(text) > 68 else 0)  # POSIX pivot


def _lowercase_verb(word: str, ordinal: bool = False) -> bool:
    """Whether "may" or "march" is more likely the verb than the month."""
    return word in ("may", "march", "mar", "sun") and not ordinal


def iso_date(m: Match[str], ctx: Context) -> Interval | None:
    whole = _on(ctx, int(m[1]), int(m[2]), int(m[3]))
    if not m[4]:
        return whole
    return cal.unit_at("minute", whole.start.replace(hour=int(m[4]), minute=int(m[5])))


def slashed(m: Match[str], ctx: Context) -> Interval | None:
    first, second, year = int(m[1]), int(m[3]), _year_of(m[4])
    if m[2] == "." or first > 12:
        return _on(ctx, year, second, first)
    if second > 12 or first == second:
        return _on(ctx, year, first, second)
    return None


def day_month(m: Match[str], ctx: Context) -> Interval | None:
    if _lowercase_verb(m["month"], bool(m["ord"] or m["year"])):
        return None
    month, first = MONTHS[m["month"].lower()], ORDINALS.get(m["day"].lower()) or int(m["day"])
    last = int(m["to"]) if m["to"] else first
    year = int(m["year"]) if m["year"] else _nearest_year(m, ctx, month, first)
    return _days(_on(ctx, year, month, first), _on(ctx, year, month, last))


def _days(first: Interval, last: Interval) -> Interval | None:
    if first == last:
        return first
    return Interval(first.start, last.end, "range") if first.start < last.start else None


def month_year(m: Match[str], ctx: Context) -> Interval | None:
    if _lowercase_verb(m["month"]):
        return None
    return _part_of(m["mod"], cal.month(_on(ctx, int(m["year"]), MONTHS[m["month"].lower()], 1).start))


def month_alone(m: Match[str], ctx: Context) -> Interval | None:
    word, mod = m["month"], (m["mod"] or "").lower()
    if _A_DAY.search(m.string, max(0, m.start() - 16), m.start("month")):
        return None  # a date that no calendar has: "31st of February"
    if _lowercase_verb(word) and mod not in ("last", "next", "this", "in", "since", "until", "of", "early", "late"):
        return None
    month, now = MONTHS[word.lower()], ctx.now
    if mod in ("last", "this past"):
        year = now.year if month < now.month else now.year - 1
    elif mod == "next":
        year = now.year if month > now.month else now.year + 1
    elif mod == "this":
        year = now.year
    elif mod == "since" or ctx.past(m):
        year = now.year if month <= now.month else now.year - 1
    else:
        year = now.year if month >= now.month else now.year + 1
    return _part_of(mod, cal.month(_on(ctx, year, month, 1).start))


def _part_of(mod: str | None, whole: Interval) -> Interval:
    """The early, middle or late third of an interval; all of it without such a word."""
    words = (mod or "").lower()
    third = (whole.end - whole.start) / 3
    third -= timedelta(seconds=third.seconds, microseconds=third.microseconds)
    if "early" in words or "beginning" in words or "start" in words:
        return Interval(whole.start, whole.start + third, "range")
    if "mid" in words:
        return Interval(whole.start + third, whole.end - third, "range")
    if "late" in words or "end" in words:
        return Interval(whole.end - third, whole.end, "range")
    return whole


_A_DAY = re.compile(r"\b\d{1,2}(?:st|nd|rd|th)?(?: of)? $")
_NAMED_DAYS = {"today": 0, "tonight": 0, "yesterday": -1, "tomorrow": 1}


def named_day(m: Match[str], ctx: Context) -> Interval | None:
    word, part = m["name"].lower(), (m["part"] or "").lower()
    if word.startswith("the "):
        return cal.day(cal.shift(ctx.now, "day", -2 if "yesterday" in word else 2))
    if word == "last":  # "last night"
        return _day_part(cal.day(cal.shift(ctx.now, "day", -1)), "night")
    if word == "this":
        return _day_part(cal.day(ctx.now), part)
    whole = cal.day(cal.shift(ctx.now, "day", _NAMED_DAYS[word]))
    return _day_part(whole, "night" if word == "tonight" else part)


def _day_part(whole: Interval, part: str) -> Interval:
    if not part:
        return whole
    first, last = PARTS[part]
    return Interval(whole.start + timedelta(hours=first), whole.start + timedelta(hours=last), "part")


def weekday(m: Match[str], ctx: Context) -> Interval | None:
    if m["every"]:
        return None
    target, part = WEEKDAYS[m["day"].lower().strip(".")], (m["part"] or "").lower()
    mod, tail = (m["mod"] or "").lower(), (m["tail"] or "").lower()
    if tail == "after next":
        return cal.day(cal.shift(ctx.now, "day", 14 - ctx.now.weekday() + target))
    if tail:
        start = cal.shift(cal.week(ctx.now).start, "week", {"last": -1, "next": 1, "this": 0}[tail.split()[-2]])
        return _day_part(cal.day(start + timedelta(days=target)), part)
    ahead = (target - ctx.now.weekday()) % 7
    if mod in ("last", "this past", "past") or (mod not in ("next", "this coming", "coming") and ctx.past(m)):
        offset = ahead - 7
    elif mod == "next":
        offset = 7 - ctx.now.weekday() + target
    elif mod == "this":
        offset = ahead
    else:
        offset = ahead or 7
    return _day_part(cal.day(cal.shift(ctx.now, "day", offset)), part)


def relative_unit(m: Match[str], ctx: Context) -> Interval | None:
    """last/this/next week, weekend, month, quarter, year, decade, season; "end of the month"."""
    mod, unit = m["mod"].lower(), m["unit"].lower()
    step = (
        -1 if mod in ("last", "past", "this past", "previous") else 1 if mod in ("next", "the coming", "coming") else 0
    )
    if unit in cal.SEASON_START:
        return _part_of(m["part"], _season_near(unit, step, ctx.now))
    if mod == "the" and not m["part"]:
        return None
    if unit == "weekend" and step == -1:
        last = cal.weekend(ctx.now)
        moment = ctx.now if last.end <= cal.midnight(ctx.now) else cal.shift(ctx.now, "week", -1)
        return cal.weekend(moment)
    if unit == "quarter":
        return _quarter(ctx.now, step)
    return _part_of(m["part"], cal.unit_at(unit, cal.shift(_first(unit, ctx.now), unit, step)))


def after_next(m: Match[str], ctx: Context) -> Interval | None:
    """ "the week after next"."""
    unit = m["unit"].lower()
    return cal.unit_at(unit, cal.shift(_first(unit, ctx.now), unit, 2))


def _first(unit: str, moment: datetime) -> datetime:
    """The first day of the unit, so that shifting by a month never leaves the 31st behind."""
    return cal.unit_at(unit, moment).start if unit in ("month", "year", "decade") else moment


def _quarter(moment: datetime, step: int) -> Interval:
    start = cal.month(moment).start.replace(month=(moment.month - 1) // 3 * 3 + 1)
    start = cal.shift(start, "month", 3 * step)
    return Interval(start, cal.shift(start, "month", 3), "quarter")


def _season_near(name: str, step: int, now: datetime) -> Interval:
    years = [cal.season(name, now, now.year + d) for d in (-2, -1, 0, 1)]
    if step < 0:
        return [s for s in years if s.end <= now][-1]
    if step > 0:
        return next(s for s in years if s.start > now)
    current = [s for s in years if s.start <= now < s.end]
    return current[0] if current else years[2]


def season_year(m: Match[str], ctx: Context) -> Interval | None:
    return cal.season(m["season"].lower(), ctx.now, int(m["year"]))


def _count(text: str) -> tuple[int, int]:
    """Least and most that a number word stands for."""
    word = text.lower()
    if word in ("a", "an"):
        return 1, 1
    if word in ("a few", "few", "some"):
        return 2, 5
    if word == "several":
        return 3, 7
    value = parse_number(word) or 0
    return value, value


def ago(m: Match[str], ctx: Context) -> Interval | None:
    unit, (low, high) = m["unit"].lower(), _count(m["n"])
    sign = -1 if m["dir"].lower() in ("ago", "back", "earlier") else 1
    return _steps(ctx.now, unit, sign * low, sign * high, bool(m["half"]))


def in_units(m: Match[str], ctx: Context) -> Interval | None:
    if ctx.past(m):  # "finished it in two weeks" is how long it took
        return None
    low, high = _count(m["n"])
    return _steps(ctx.now, m["unit"].lower(), low, high, bool(m["half"]))


def _steps(now: datetime, unit: str, low: int, high: int, half: bool) -> Interval | None:
    if low == 0:
        return None
    if half and unit in ("year", "decade"):
        months = {"year": 6, "decade": 60}[unit] * (1 if low > 0 else -1)
        return cal.month(cal.shift(cal.shift(now, unit, low), "month", months))
    near, far = (cal.unit_at(unit, cal.shift(_first(unit, now), unit, n)) for n in (low, high))
    if near == far:
        return near
    return Interval(min(near.start, far.start), max(near.end, far.end), "range")


def weekdays_ago(m: Match[str], ctx: Context) -> Interval | None:
    low, _ = _count(m["n"])
    target = WEEKDAYS[m["day"].lower()]
    back = (ctx.now.weekday() - target) % 7 or 7
    return cal.day(cal.shift(ctx.now, "day", -back - 7 * (low - 1))) if low else None


def window(m: Match[str], ctx: Context) -> Interval | None:
    """ "the past two months", "the next few days": up to now, or from now."""
    unit, (_, high) = m["unit"].lower(), _count(m["n"] or "one")
    if m["dir"].lower() == "next":
        return Interval(ctx.now, cal.shift(ctx.now, unit, high), "range") if high else None
    return Interval(cal.shift(ctx.now, unit, -high), ctx.now, "range") if high else None


def perfect_for(m: Match[str], ctx: Context) -> Interval | None:
    """ "for three years" reaches back from now only in the perfect ("has lived here for three years")."""
    low, high = _count(m["n"])
    if low != high or not low:
        return None
    return Interval(cal.shift(ctx.now, m["unit"].lower(), -low), ctx.now, "range")


def year(m: Match[str], ctx: Context) -> Interval | None:
    before = m.string[max(0, m.start() - 16) : m.start()].split()
    if before and before[-1].lower().strip(".,") in MONTHS:  # a date that no calendar has: "30 February 2020"
        return None
    return _part_of(m["mod"], cal.year(_on(ctx, int(m["year"]), 1, 1).start))


def decade(m: Match[str], ctx: Context) -> Interval | None:
    century = m["century"] or ("20" if int(m["tens"]) < 3 else "19")
    return cal.decade(_on(ctx, int(f"{century}{m['tens']}0"), 1, 1).start)


def day_of_month(m: Match[str], ctx: Context) -> Interval | None:
    number, now = int(m["day"]), ctx.now
    if m["which"]:
        step = {"last": -1, "this": 0, "next": 1}[m["which"].lower()]
    elif ctx.past(m):
        step = 0 if number <= now.day else -1
    else:
        step = 0 if number >= now.day else 1
    first = cal.shift(cal.month(now).start, "month", step)
    return cal.day(first.replace(day=number))


def holiday(m: Match[str], ctx: Context) -> Interval | None:
    month, number = HOLIDAYS[m["name"].lower().replace("\u2019", "'")]
    mod, today = (m["mod"] or "").lower(), (ctx.now.month, ctx.now.day)
    if m["year"]:
        return _on(ctx, int(m["year"]), month, number)
    if mod == "last":
        return _on(ctx, ctx.now.year - (today <= (month, number)), month, number)
    if mod == "next":
        return _on(ctx, ctx.now.year + (today >= (month, number)), month, number)
    return _on(ctx, ctx.now.year if mod == "this" else _nearest_year(m, ctx, month, number), month, number)
