"""When: temporal expressions in English to half-open intervals, anchored at the moment of the message.

``resolve("I moved last June", anchor)`` gives the June before the anchor. Everything is computed on the anchor's
calendar, in its time zone. An expression that cannot be resolved gives nothing, never "today". Own compact
grammar (``time_rules``, ``time_grammar``, ``calendar``): a general date parser is some hundred times slower
and reads dates into words such as "may" and "sat".

Choices: weeks begin on Monday; "last Friday" is the latest Friday before today, "next Friday" the one of the
next calendar week; "two weeks ago" is that whole week, "three years ago" that whole year; bare weekdays and
dates without a year look back if the sentence is in the past tense, else ahead.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal

from lamina.text.english import calendar
from lamina.text.english.calendar import Interval
from lamina.text.english.numbers import NUMBER, parse_number
from lamina.text.english.time_grammar import WEEKDAYS, Context
from lamina.text.english.time_rules import RULES, TRIGGERS, Rule

Relation = Literal["at", "since", "until", "for", "before", "after"]


@dataclass(frozen=True, slots=True)
class TimeSpan:
    """``[start, end)`` in the anchor's zone, and the characters ``[char_start, char_end)`` that say it.

    ``granularity``: minute, hour, part (of a day), day, weekend, week, month, season, quarter, year, decade
    or range. ``relation`` tells "in 2019" (at) from "since 2019", "until", "before", "after"; the interval is that
    of the date itself. "for two years" in the perfect is the two years up to the anchor.
    """

    start: datetime
    end: datetime
    granularity: str
    char_start: int
    char_end: int
    text: str
    relation: Relation = "at"


_PAST = re.compile(
    r"\b(?:was|were|had|did|didn't|went|(?<!have )(?<!has )(?<!'ve )got|came"
    r"|saw|took|made|met|bought|left|told|said|gave|found|felt|thought|began"
    r"|ran|won|lost|ate|drove|flew|wrote|read|sold|built|taught|caught|brought|spent|slept|sang|swam|grew|became|broke"
    r"|kept|heard|held|sat|stood|fell|knew|chose|threw|wore|drew|paid|sent|hung|last|ago|been"
    r"|(?!indeed|exceed|proceed|succeed|excited|scheduled|planned|supposed|invited|interested|booked|need)[a-z]{3,}ed)\b",
    re.I | re.A,
)
_AHEAD = re.compile(
    r"\b(?:will|won't|shall|gonna|going to|plan|plans|planning|hope|hoping|want|wants|let's|can't wait|due|upcoming"
    r"|scheduled|excited|looking forward|see you|next|is|are|am|has|have|must|should)\b|'(?:ll|m|re)\b",
    re.I | re.A,
)
# "was moved to 3 June": told in the past, but the date is where the event went.
_RESCHEDULED = re.compile(
    r"\b(?:moved?|pushed?|rescheduled?|postponed?|shift(?:ed)?|delay(?:ed)?|bump(?:ed)?|scheduled|set|booked|planned)\b"
    r"[^.!?]*\b(?:to|for|until|till) (?:the )?$",
    re.I | re.A,
)
_TENSE_REACH = 200  # characters on either side in which a verb may tell the tense of a date
_WORD = re.compile(r"[a-z]+|\d")
_SENTENCE_END = re.compile(r"[.!?\n](?:\s|$)")
_LEAD = re.compile(
    r"(?:over|in|for|during|within|throughout|on|by|until|till|to|from|before|after|since|and|of|around|through|between|about)"
    r" (?:the (?=\d))?",
    re.I | re.A,
)
_RELATION = re.compile(r"\b(since|until|till|before|after|by)(?: about| around| the)? ?$", re.I | re.A)
_OFFSET = re.compile(
    rf"\b(?:the |an? |(?P<n>{NUMBER}) )?(?P<unit>day|weekend|week|month|year|{'|'.join(WEEKDAYS)})s?"
    r" (?P<side>before|after|of|following|prior to|from) $",
    re.I | re.A,
)
# "two weeks from Friday" is a day, "for two weeks from Friday" begins with one.
_FROM_DAY = re.compile(rf"(?<!\bfor )(?<![\w.,])(?:an?|{NUMBER}) (?:day|week|month|year)s? from $", re.I | re.A)
_CLOCK = re.compile(r"(?:,? (?:at|around|about))? (\d{1,2})(?::(\d\d))?(?: ?([ap])\.?m\b)?", re.I | re.A)
_CLOCK_FIRST = re.compile(r"\b(?:at |around )?(\d{1,2})(?::(\d\d))? ?([ap])\.?m\.?,? (?:on )?$", re.I | re.A)


def resolve(text: str, anchor: datetime) -> list[TimeSpan]:
    """The temporal expressions of ``text`` in order, without overlaps. ``anchor`` must be timezone-aware."""
    words = set(_WORD.findall(text.lower()))
    if any(word.isdigit() for word in words):
        words.add("#")
    if words.isdisjoint(TRIGGERS):
        return []
    rules = [rule for rule in RULES if not rule.triggers.isdisjoint(words)]
    context = Context(anchor, lambda m: _looks_back(text, m.start(), m.end()))
    found = [span for rule in rules for span in _apply(rule, text, context)]
    # Twice: "the Friday before 15 July" has taken in the Friday that was found on its own.
    refined = _without_overlaps([_refine(span, text) for span in _without_overlaps(found)])
    return _join_ranges(refined, text)


def format_date(span: TimeSpan) -> str:
    """The interval for people: "7 May 2023", "week of 1 May 2023", "June 2023", "summer 2022"."""
    start, last = span.start, span.end - timedelta(microseconds=1)
    name = span.granularity
    if name == "year":
        return str(start.year)
    if name == "decade":
        return f"{start.year}s"
    if name == "month":
        return f"{start:%B} {start.year}"
    if name == "quarter":
        return f"Q{(start.month + 2) // 3} {start.year}"
    if name == "season":
        return f"{_SEASON_OF[start.month]} {start.year}"
    if name in ("week", "weekend"):
        return f"{name} of {_day(start)}"
    if name == "part":
        return f"{_PART_OF[start.hour]} of {_day(start)}"
    if name in ("hour", "minute"):
        return f"{_day(start)}, {start:%H:%M}"
    return _day(start) if start.date() == last.date() else f"{_day(start)} to {_day(last)}"


_SEASON_OF = {3: "spring", 6: "summer", 9: "autumn", 12: "winter"}
_PART_OF = {5: "morning", 12: "afternoon", 17: "evening", 20: "night"}


def _day(moment: datetime) -> str:
    return f"{moment.day} {moment:%B} {moment.year}"


def _apply(rule: Rule, text: str, context: Context) -> list[TimeSpan]:
    spans = []
    for m in rule.pattern.finditer(text):
        try:
            interval = rule.meaning(m, context)
        except (ValueError, OverflowError):  # 30 February; a thousand years from now; "99999 years ago"
            continue
        if interval is None or interval.start >= interval.end:
            continue
        group = "span" if "span" in rule.pattern.groupindex else 0
        start, end = m.span(group)
        relation: Relation = "for" if group else "at"
        lead = _LEAD.match(text, start, end)
        if lead and not group:
            start = lead.end()
        end -= text[start:end].endswith(".")
        spans.append(TimeSpan(*interval, start, end, text[start:end], relation))
    return spans


def _looks_back(text: str, start: int, end: int) -> bool:
    """Whether the sentence is in the past: the marker of tense nearest before the expression, else after."""
    near = text[max(0, start - _TENSE_REACH) : start]
    ends = [m.end() for m in _SENTENCE_END.finditer(near)]
    before = near[ends[-1] if ends else 0 :]
    if _RESCHEDULED.search(before):
        return False
    past, ahead = _last(_PAST, before), _last(_AHEAD, before)
    if past >= 0 or ahead >= 0:
        return past > ahead
    stop = _SENTENCE_END.search(text, end, end + _TENSE_REACH)
    after = text[end : stop.start() if stop else end + _TENSE_REACH]
    past_after, ahead_after = _PAST.search(after), _AHEAD.search(after)
    return past_after is not None and (ahead_after is None or past_after.start() < ahead_after.start())


def _without_overlaps(found: list[TimeSpan]) -> list[TimeSpan]:
    """In order of position; of two that overlap the longer stays, of equals the earlier rule's."""
    kept: list[TimeSpan] = []
    for span in sorted(found, key=lambda span: (span.char_start, -span.char_end)):
        if not kept or kept[-1].char_end <= span.char_start:
            kept.append(span)
        elif span.char_end - span.char_start > kept[-1].char_end - kept[-1].char_start:
            kept[-1] = span
    return kept


def _last(pattern: re.Pattern[str], text: str) -> int:
    return max((m.start() for m in pattern.finditer(text)), default=-1)


def _refine(span: TimeSpan, text: str) -> TimeSpan:
    """Take in the words around a date: a time of day, "the week before", "since"."""
    try:
        span = _with_clock(span, text)
        span = _with_offset(span, text)
    except (ValueError, OverflowError):
        pass  # the clock or the offset leaves the calendar: the date itself stands
    relation = _RELATION.search(text, max(0, span.char_start - 16), span.char_start)
    if relation and span.relation == "at":
        word = relation[1].lower()
        names: dict[str, Relation] = {"since": "since", "until": "until", "till": "until", "after": "after"}
        return replace(span, relation=names.get(word, "before"))
    return span


def _with_clock(span: TimeSpan, text: str) -> TimeSpan:
    if span.granularity not in ("day", "part"):
        return span
    after = _CLOCK.match(text, span.char_end)
    before = _CLOCK_FIRST.search(text, max(0, span.char_start - 20), span.char_start)
    m = after if after and (after[2] or after[3]) else before
    if m is None or not (hour := _hour(int(m[1]), m[3])):
        return span
    start = calendar.midnight(span.start) + timedelta(hours=hour - 1, minutes=int(m[2] or 0))
    interval = calendar.unit_at("minute" if m[2] else "hour", start)
    low, high = min(m.start(), span.char_start), max(m.end(), span.char_end)
    low += len(text[low:high]) - len(text[low:high].lstrip(" ,"))
    return TimeSpan(*interval, low, high, text[low:high])


def _hour(number: int, half: str | None) -> int:
    """The hour of a clock face plus one, so that 0 means: none such."""
    if half is None:
        return number + 1 if number < 24 else 0
    return number % 12 + (12 if half.lower() == "p" else 0) + 1 if 1 <= number <= 12 else 0


def _with_offset(span: TimeSpan, text: str) -> TimeSpan:
    """ "the week before 9 June": seven days up to it; "two days after", "the weekend of", "the Friday before"."""
    m = _OFFSET.search(text, max(0, span.char_start - 40), span.char_start)
    if m is None:
        return span
    if m["side"].lower() == "from" and not _FROM_DAY.search(text, max(0, m.start() - 8), m.end()):
        return span
    unit, side, count = m["unit"].lower(), m["side"].lower(), parse_number(m["n"] or "one") or 1
    interval = _offset(span, unit, "after" if side == "following" else side, count)
    if interval is None:
        return span
    return TimeSpan(*interval, m.start(), span.char_end, text[m.start() : span.char_end])


def _offset(span: TimeSpan, unit: str, side: str, count: int) -> Interval | None:
    if side == "from":
        return calendar.day(calendar.shift(span.start, unit, count)) if span.granularity == "day" else None
    if unit in WEEKDAYS:
        ahead = (WEEKDAYS[unit] - span.start.weekday()) % 7
        if side == "of":
            return calendar.day(calendar.week(span.start).start + timedelta(days=WEEKDAYS[unit]))
        return calendar.day(span.start + timedelta(days=(ahead or 7) if side == "after" else ahead - 7))
    if side == "of":
        return calendar.unit_at(unit, span.start) if unit in ("week", "weekend") else None
    sign = 1 if side == "after" else -1
    if unit == "weekend":
        near = calendar.weekend(span.start)
        clear = near.end <= span.start if sign < 0 else near.start >= span.end
        return near if clear else calendar.weekend(calendar.shift(span.start, "week", sign))
    if unit == "day" or count > 1:
        return calendar.unit_at(
            unit, calendar.shift(span.start if sign < 0 else span.end - timedelta(days=1), unit, sign * count)
        )
    if sign < 0:
        return Interval(calendar.shift(span.start, unit, -1), span.start, unit if unit == "week" else "range")
    return Interval(span.end, calendar.shift(span.end, unit, 1), unit if unit == "week" else "range")


_CONNECTOR = re.compile(r" ?(?:to|until|till|through|and|-|–|—) (?:the )?| ?[-–—] ?", re.I | re.A)
_TO_DAY = re.compile(r" (?:to|until|till|through|thru) (?:the )?| ?[-–—] ?", re.I)
_HABIT = re.compile(r"\b(?:works?|working|open|opens|closed|available|usually|always|normally|hours|every)\b", re.I)
_OPENER = re.compile(r"\b(from|between) (?:the )?$", re.I | re.A)


def _join_ranges(spans: list[TimeSpan], text: str) -> list[TimeSpan]:
    """ "from May to June", "between 2010 and 2015": one range."""
    joined: list[TimeSpan] = []
    for span in spans:
        if joined and _is_weekdays(joined[-1], span, text):
            first = joined.pop()
            if _HABIT.search(text, max(0, first.char_start - _TENSE_REACH), first.char_start):
                continue  # "I work Monday to Friday" is no date
            end = span.end if span.start > first.start else span.end + timedelta(days=7)
            joined.append(replace(first, end=end, granularity="range", char_end=span.char_end))
            joined[-1] = replace(joined[-1], text=text[first.char_start : span.char_end])
            continue
        if joined and _is_range(joined[-1], span, text):
            first = joined.pop()
            whole = text[first.char_start : span.char_end]
            span = TimeSpan(first.start, span.end, "range", first.char_start, span.char_end, whole)
        joined.append(span)
    return joined


def _is_weekdays(first: TimeSpan, second: TimeSpan, text: str) -> bool:
    """ "Monday to Friday": the second is the one after the first, whatever it would be on its own."""
    gap = _TO_DAY.fullmatch(text, first.char_end, second.char_start)
    return gap is not None and first.text.lower() in WEEKDAYS and second.text.lower() in WEEKDAYS


def _is_range(first: TimeSpan, second: TimeSpan, text: str) -> bool:
    gap = _CONNECTOR.fullmatch(text, first.char_end, second.char_start)
    if (
        gap is None
        or first.start >= second.end
        or first.granularity == "range"
        or "for" in (first.relation, second.relation)
    ):
        return False
    opener = _OPENER.search(text, max(0, first.char_start - 16), first.char_start)
    if "and" in gap[0].lower():
        return opener is not None and opener[1].lower() == "between"
    return opener is not None or not gap[0].strip().isalpha()
