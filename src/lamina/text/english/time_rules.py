"""Which words speak of time: the table of patterns, each with the function that gives it a meaning.

A rule is tried only if one of its trigger words (or ``#``, a digit) occurs in the text. Most sentences hold no
date, and the table costs them one set intersection. A group ``span`` marks the part that is the expression
where the pattern needs to see more.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from re import Match

from lamina.text.english import time_grammar as grammar
from lamina.text.english.calendar import SEASON_START, Interval
from lamina.text.english.numbers import NUMBER
from lamina.text.english.time_grammar import HOLIDAYS, MONTHS, ORDINALS, WEEKDAYS, Context

_MONTH = "|".join(sorted(MONTHS, key=len, reverse=True))
_DAY = "|".join(name for name in WEEKDAYS if name.endswith("day"))
_SHORT_DAY = r"(?:mon|tues?|wed|thur?s?|fri|sat|sun)\b\.?"
_UNIT = "minute|hour|day|weekend|week|fortnight|month|year|decade"
_SEASON = "|".join(SEASON_START)
_N = rf"(?<![\d.,])(?:{NUMBER}|a few|few|several|some|an?)"
_PART = "morning|afternoon|evening|night"
_TH = "(?:st|nd|rd|th)"
_MOD = "early|mid|late|(?:the )?(?:beginning|start|middle|end) of"
_PREP = "in|since|until|till|by|during|before|after|of|from|around|through|for|to|between|and"
_AND_TO = "and|to|until|till|through"
_Y = r"(?P<year>(?:19|20)\d\d)"
_ABOUT = r"(?:about |around |almost |nearly |over |just |roughly )?"
_SURE_MONTHS = "January|February|July|September|October|November|December"  # no verb, no first name
_THINGS = "people|miles|km|dollars|meters|metres|feet|steps|words|times|euros|pounds|calories|pages"
# A bare 20xx is a year at the end of a clause, before a name ("the 2019 World Cup") or before these.
_AFTER_YEAR = r"(?=\s*(?:[.,;:!?)]|$)|\s+(?:(?-i:[A-Z])|(?:and|but|when|with|to|for|at|because|so|until|as)\b))"
_AFTER_NTH = r"(?=\s*(?:[.,;:!?)]|$|(?:and|at|but|because|so|to|in|with|for|we|I)\b))"


@dataclass(frozen=True, slots=True)
class Rule:
    triggers: frozenset[str]
    pattern: re.Pattern[str]
    meaning: Callable[[Match[str], Context], Interval | None]


def _rule(triggers: str, meaning: Callable[[Match[str], Context], Interval | None], *pattern: str) -> Rule:
    return Rule(frozenset(triggers.split()), re.compile("".join(pattern), re.I | re.A), meaning)


_MONTH_WORDS = " ".join(MONTHS)

RULES: tuple[Rule, ...] = (
    _rule(
        "#",
        grammar.iso_date,
        r"(?<![\d-])(\d{4})-(\d{2})-(\d{2})",
        r"(?:[T ](\d{2}):(\d{2})(?::\d{2}(?:\.\d+)?)?(?:Z|[+-]\d{2}:?\d{2})?)?(?![\d-])",
    ),
    _rule("#", grammar.slashed, r"(?<![\d/.])(\d{1,2})([/.])(\d{1,2})\2(\d{4}|\d{2})(?![\d/.]\d|\d)"),
    _rule(
        _MONTH_WORDS,
        grammar.day_month,
        rf"(?<![\d:.])\b(?:the )?(?P<day>\d{{1,2}}|{'|'.join(ORDINALS)})(?P<ord>{_TH}?(?: of)?)",
        rf"(?:\s?[-–]\s?(?P<to>\d{{1,2}}){_TH}?)? (?P<month>{_MONTH})\b\.?(?:,? (?P<year>\d{{4}})\b)?",
    ),
    _rule(
        _MONTH_WORDS,
        grammar.day_month,
        rf"\b(?P<month>{_MONTH})\b\.? (?:the )?(?P<day>\d{{1,2}})(?P<ord>{_TH}?)",
        rf"(?:\s?[-–]\s?(?P<to>\d{{1,2}}){_TH}?)?\b(?!:|\s?(?:am|pm)\b)(?:,? (?P<year>\d{{4}})\b)?",
    ),
    _rule(
        _MONTH_WORDS,
        grammar.day_month,
        rf"\b(?:between|from) (?:the )?(?P<day>\d{{1,2}})(?P<ord>{_TH}?) (?:{_AND_TO}) ",
        rf"(?:the )?(?P<to>\d{{1,2}}){_TH}?",
        rf"(?: of)? (?P<month>{_MONTH})\b\.?(?:,? (?P<year>\d{{4}})\b)?",
    ),
    _rule(
        _MONTH_WORDS,
        grammar.day_month,
        rf"\b(?:between|from) (?P<month>{_MONTH})\b\.? (?:the )?(?P<day>\d{{1,2}})(?P<ord>{_TH}?) (?:{_AND_TO}) ",
        rf"(?:the )?(?P<to>\d{{1,2}}){_TH}?\b(?!:| ?(?:[ap]m|of|{_MONTH})\b)(?:,? (?P<year>\d{{4}})\b)?",
    ),
    _rule(
        _MONTH_WORDS,
        grammar.month_year,
        rf"\b(?:(?P<mod>{_MOD})[- ])?(?<!\d )(?<!\d(?:st|nd|rd|th) )(?P<month>{_MONTH})\b\.?,? (?:of )?{_Y}\b",
    ),
    _rule(
        _MONTH_WORDS,
        grammar.month_alone,
        rf"\b(?P<mod>{_MOD}|last|next|this past|this|{_PREP})[- ](?P<month>{_MONTH})\b(?! \d)",
    ),
    _rule(_MONTH_WORDS, grammar.month_alone, rf"(?<![A-Z]\w )\b(?P<mod>)(?P<month>(?-i:{_SURE_MONTHS}))\b(?! \d|'s\b)"),
    _rule(
        "today tonight yesterday tomorrow",
        grammar.named_day,
        r"\b(?P<name>the day (?:before yesterday|after tomorrow)|today|tonight|yesterday|tomorrow)",
        rf"(?: (?P<part>{_PART}))?\b",
    ),
    _rule("last this", grammar.named_day, rf"\b(?P<name>last(?= night)|this(?! night)) (?P<part>{_PART})\b"),
    _rule(
        " ".join(WEEKDAYS),
        grammar.weekday,
        r"\b(?P<every>(?:every|each|most) (?:other )?)?\b",
        rf"(?:(?P<mod>last|next|this past|past|this coming|coming|this) )?\b(?P<day>{_DAY})\b",
        rf"(?: (?P<part>{_PART})\b(?!s))?(?: (?P<tail>(?:of )?(?:last|next|this) week|after next)\b)?",
    ),
    _rule(
        "mon tue tues wed thu thur thurs fri sat sun",
        grammar.weekday,
        r"\b(?P<every>(?:every|each|most) (?:other )?)?\b(?:(?P<mod>last|next|this)|on|by|until|till|since|from) ",
        rf"(?P<day>{_SHORT_DAY})(?: (?P<part>{_PART})\b)?(?P<tail>)",
    ),
    _rule(
        f"week weekend month quarter year decade {_SEASON.replace('|', ' ')}",
        grammar.relative_unit,
        rf"\b(?:(?P<part>{_MOD}|later|earlier) )?",
        r"(?P<mod>last|next|this past|past|previous|the coming|coming|this|the) ",
        rf"(?P<unit>weekend|week|month|quarter|year|decade|{_SEASON})\b",
    ),
    _rule("next", grammar.after_next, r"\b(?:the )?(?P<unit>weekend|week|month|year) after next\b"),
    _rule(_SEASON.replace("|", " "), grammar.season_year, rf"\b(?:the )?(?P<season>{_SEASON})(?: of|,)? {_Y}\b"),
    _rule(
        "ago back now later",
        grammar.ago,
        rf"\b{_ABOUT}(?P<n>{_N}) (?P<unit>{_UNIT})s?(?P<half> and a half)? (?P<dir>ago|back|from now)\b",
    ),
    _rule("ago", grammar.weekdays_ago, rf"\b(?P<n>{NUMBER}) (?P<day>{_DAY})s ago\b"),
    _rule(
        "in",
        grammar.in_units,
        rf"\bin (?:another )?{_ABOUT}(?P<n>{_N}) (?P<unit>{_UNIT})s?(?P<half> and a half)?\b('? time\b)?(?! of\b)",
    ),
    _rule(
        "last past next coming",
        grammar.window,
        rf"\b(?:(?:over|in|for|during|within|throughout) )?the (?P<dir>last|past|next|coming) (?:(?P<n>{_N}) )?",
        rf"(?P<unit>{_UNIT})s?\b",
    ),
    _rule(
        "for",
        grammar.perfect_for,
        r"(?:\b(?:have|has|been)\b|'ve\b)[^.!?\n]{0,60}?\b",
        rf"(?P<span>for {_ABOUT}(?P<n>{NUMBER}|an?) (?P<unit>{_UNIT})s?)\b(?! ago)",
    ),
    _rule(
        "#",
        grammar.year,
        rf"\b(?:(?P<mod>{_MOD})|{_PREP}|year) {_Y}\b(?!\s?[%$€£]|[-:/.,]\d| (?:{_THINGS})\b)",
    ),
    _rule("#", grammar.year, rf"(?<![\w$€£#.,:/+-])(?<!\d )(?P<mod>){_Y}(?![-:/.,]?\d| \d){_AFTER_YEAR}"),
    _rule("#", grammar.decade, r"\b(?:the )?(?:early |mid |late )?'?(?P<century>19|20)?(?P<tens>\d)0'?s\b"),
    _rule(
        "#",
        grammar.day_of_month,
        rf"\b(?:on|by|until|till|to|for|from|before|after|since|and) the (?P<day>\d{{1,2}}){_TH}",
        rf"(?: of (?P<which>this|last|next) month\b)?{_AFTER_NTH}",
    ),
    _rule(
        "christmas boxing new halloween valentine",
        grammar.holiday,
        rf"\b(?:(?P<mod>last|this|next) )?(?P<name>{'|'.join(sorted(HOLIDAYS, key=len, reverse=True))})",
        rf"(?:,? {_Y})?\b",
    ),
)

TRIGGERS = frozenset().union(*(rule.triggers for rule in RULES))
