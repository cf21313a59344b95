"""Whether a sentence says only what was said: every number, every name, and most of the words.

A model may add what nobody told it, or copy the examples of its prompt. A fact is therefore checked against the
turns it cites: each number, month and day of the week must occur there, or in the dates their expressions resolve
to ("last week" gives its year, month and days); at least 60% of the words of each name, and 60% of all content words,
must occur too. Speakers' names may always be used. The check knows words, not logic; the little that can be seen of a
sentence that turns round what was said is in ``contradiction``.
"""

from __future__ import annotations

import calendar
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from lamina.store.analysis import STOP_WORDS, terms
from lamina.text.base import Turn
from lamina.text.english.entities import entities, names_inside
from lamina.text.english.lexicon import ADVERBS, OPENERS, STOP
from lamina.text.english.numbers import NUMBER_WORD, VAGUE_NUMBER, parse_number
from lamina.text.english.verbs import FORMS
from lamina.text.prompted.contradiction import why_contradicted
from lamina.text.time import TimeSpan, format_date, resolve

SHARE = 0.6  # of the words of a name, and of all content words
# What a sentence in the third person needs and no turn says: who speaks, and that they do.
_TELLING = "user assistant speaker said say tell told mention express describe explain share ask note state report"
_FREE = frozenset(terms(_TELLING))

_DIGITS = re.compile(r"\d+(?:[.,]\d+)*")
_SPELLED = re.compile(rf"\b(?:{VAGUE_NUMBER}|{NUMBER_WORD})\b", re.I)
_CALENDAR = re.compile(
    rf"\b(?:{'|'.join((*calendar.month_name[1:], *calendar.day_name))})\b"
)  # capital: "may", "march"
_FIRST = re.compile(r"\W*(\w[\w'’-]*)")
_COARSE = ("year", "decade", "season", "quarter")


def why_ungrounded(text: str, turns: Sequence[Turn], names: Iterable[str] = ()) -> str | None:
    """What in ``text`` the cited ``turns`` do not give, in words; ``None`` if they give enough."""
    known = evidence(turns, names)
    invented = sorted(numbers(text) - known.numbers)
    invented += [name for name in _CALENDAR.findall(text) if not known.words.issuperset(terms(name))]
    if invented:
        return f"ungrounded: {invented[0]} is in none of the cited turns"
    for name in _names(text):
        if _share(terms(name), known.words) < SHARE:
            return f"ungrounded: {name[:60]!r} is in none of the cited turns"
    content = [term for term in terms(text) if term not in known.free]
    if not content:
        return "ungrounded: it says nothing"
    share = _share(content, known.words)
    if share < SHARE:
        return f"ungrounded: {share:.0%} of its words are in the cited turns"
    wrong = why_contradicted(text, "\n".join(turn.text for turn in turns))
    return f"ungrounded: {wrong}" if wrong else None


@dataclass(frozen=True, slots=True)
class Evidence:
    """Stems and numbers that may be said; ``free`` stems (names, dates) prove nothing by being said."""

    words: frozenset[str]
    numbers: frozenset[str]
    free: frozenset[str] = field(default=_FREE)


def evidence(turns: Sequence[Turn], names: Iterable[str] = ()) -> Evidence:
    """What ``turns`` give: their words and numbers, and those of the dates they speak of."""
    speakers = {term for name in (*names, *(turn.speaker for turn in turns)) for term in terms(name)}
    words: set[str] = set()
    found: set[str] = set()
    dated: set[str] = set()
    for turn in turns:
        words.update(terms(turn.text))
        found |= numbers(turn.text)
        for span in resolve(turn.text, turn.at.astimezone(turn.zone)):
            dated.update(terms(_date_words(span)))
            found |= numbers(_date_words(span))
    free = _FREE | speakers | dated
    return Evidence(frozenset(words | free), frozenset(found), frozenset(free - words))


def numbers(text: str) -> frozenset[str]:
    """Numbers of ``text`` in one spelling: "1,200" and "1200", "three" and "3", "06" and "6" are the same."""
    plain = unicodedata.normalize("NFKC", text)
    digits = {_normal(found) for found in _DIGITS.findall(plain)}
    spelled = {str(parse_number(m[0])) for m in _SPELLED.finditer(plain) if m[0].lower() not in ("one", "zero")}
    return frozenset((digits | spelled) - {"", "None"})


def _normal(digits: str) -> str:
    parts = re.split(r"[.,]", digits)
    grouped = all(len(part) == 3 for part in parts[1:])
    if len(parts) == 1 or (grouped and "," in digits):
        parts = ["".join(parts)]
    return ".".join([_western(parts[0]).lstrip("0") or "0", *map(_western, parts[1:])])


def _western(digits: str) -> str:
    """Digits of any script as 0 to 9; a string, since a number may have more of them than ``int`` takes."""
    return "".join(str(unicodedata.decimal(digit)) for digit in digits)


def _date_words(span: TimeSpan) -> str:
    """Every way to write the interval's ends that its granularity allows."""
    last = max(span.start, span.end - timedelta(microseconds=1))
    said = [format_date(span), str(span.start.year)]
    if span.granularity not in _COARSE:
        said += [f"{at:%B %Y} {at.month}" for at in (span.start, last)]
        if span.granularity != "month":
            said += [f"{at.day} {at:%A}" for at in (span.start, last)]
    if span.granularity in ("hour", "minute"):
        said.append(f"{span.start.hour} {span.start.hour % 12 or 12} {span.start.minute}")
    return " ".join(said)


def _names(text: str) -> list[str]:
    """Names in ``text``; the first word too where it can be nothing else, since a fact may begin with its subject."""
    found = list(entities(text, known=names_inside(text)))
    first = _FIRST.match(text)
    if first and first[1][:1].isupper():
        word = re.sub(r"['’]s$", "", first[1])
        if word.lower() not in STOP | STOP_WORDS | OPENERS | ADVERBS and word.lower() not in FORMS:
            found.append(word)
    return found


def _share(wanted: Sequence[str], given: frozenset[str]) -> float:
    """How much of ``wanted`` is given. Numbers count as given: they are checked one by one."""
    return sum(term in given or term.isdigit() for term in wanted) / len(wanted) if wanted else 1.0
