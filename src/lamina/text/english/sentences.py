"""Sentences and clauses of a message, as spans of its text: the units that facts are made of.

Chat is not prose: sentences end at newlines and emoji too, lists have bullets, and a full stop may belong to "Dr.",
"e.g." or "J. Smith". A clause is split off only where a new subject or an equal verb begins ("I live in Boston
and work at Google"), never inside a condition ("if I move, I will sell the car").
"""

from __future__ import annotations

import re

from lamina.text.english.verbs import FORMS

MAX_SENTENCE = 600  # characters; longer runs are tables, code or encoded data, cut at white space

_EMOJI = "[\u2600-\u27bf\ufe0f\u200d\U0001f000-\U0001faff]"
_BREAK = re.compile(rf"[.!?…]+[\"'”’)\]]*(?=\s|$|{_EMOJI})|(?<![^\S\n])[^\S\n]*\n\s*|{_EMOJI}+")
_ABBREVIATION = re.compile(
    r"(?:\b(?:mr|mrs|ms|dr|prof|st|mt|vs|etc|e\.g|i\.e|approx|inc|ltd|co|corp|jr|sr|dept|est|fig|no|ave|blvd|rd|gen|sgt|capt"
    r"|a\.m|p\.m|u\.s|u\.k|jan|feb|mar|apr|jun|jul|aug|sept?|oct|nov|dec|mon|tues?|wed|thurs?|fri|sat|sun)|(?<![\w'])[A-Z])\.$",
    re.I,
)
_TITLE = re.compile(r"\b(?:Mr|Mrs|Ms|Dr|Prof|St|Mt|Gen|Sgt|Capt|e\.g|i\.e|vs)\.$|(?<![\w'])[A-Z]\.$", re.I)
_BULLET = re.compile(r"\s*(?:[-*•–—]+\s+|\(?\d{1,2}[.)]\s+|#+\s+|>\s+)")
_CONDITION = re.compile(
    r"\s*(?:(?:and|but|so|even|well|oh|maybe|because|yeah),? )*"
    r"(?:if|when|whenever|once|unless|although|though|while|since|because|as|after|before|until)\b"
    r"|.*\bif\b|.*\bwhether\b",
    re.I | re.S,
)
_SUBJECT = r"(?:I|i|we|my|our|he|she|they|it|there|that|this|you)(?:['’]\w+)?\b"
_CLAUSE = re.compile(
    rf"(?:\s*[;:,]\s*|\s+[-–—]+\s*|—)(?:(?:and|but|so|then|plus|yet)\s+)?(?:(?:now|then|also|so)\s+)?(?={_SUBJECT})"
    rf"|\s+(?:and|but|so|then)\s+(?:(?:now|then|also|so)\s+)?(?={_SUBJECT})"
    r"|(?:,\s*|\s+)(?:and|but)\s+(?:(?:now|then|also|just|recently)\s+)?(?=(?P<verb>[a-z]+)\s)"
)
_FIRST = re.compile(
    r"\b(?:I|i|we|We)(?:['’]\w+)?\b(?:\s+(?:now|also|just|really|recently|currently|\w+ly))*\s+(?P<verb>[a-z]+)"
)


def sentences(text: str) -> list[tuple[int, int]]:
    """Spans of the sentences of ``text``, trimmed, without bullets; none is empty."""
    spans: list[tuple[int, int]] = []
    start = 0
    for m in _BREAK.finditer(text):
        if m[0].strip().startswith(".") and _is_abbreviation(text, start, m):
            continue
        _add(spans, text, start, m.end())
        start = m.end()
    _add(spans, text, start, len(text))
    return spans


def clauses(text: str) -> list[tuple[int, int]]:
    """Spans of the clauses of one sentence: the whole sentence where splitting is not safe."""
    if _CONDITION.match(text):
        return [(0, len(text))]
    spans: list[tuple[int, int]] = []
    start = 0
    for m in _CLAUSE.finditer(text):
        if m["verb"] is not None and not _same_form(text[start : m.start()], m["verb"]):
            continue
        if text[start : m.start()].count('"') % 2 or len(text[start : m.start()].split()) < 2:
            continue
        spans.append((start, m.start()))
        start = m.end()
    spans.append((start, len(text)))
    return [(low, high) for low, high in spans if text[low:high].strip()]


def _same_form(before: str, verb: str) -> bool:
    """Whether "and VERB" continues the speaker's own verb: both present, or both past."""
    first = _FIRST.search(before)
    if first is None or verb not in FORMS:
        return False
    kind = FORMS[verb][1]
    told = FORMS.get(first["verb"], ("", ""))[1]
    return kind == told and kind in ("base", "past")


def _is_abbreviation(text: str, start: int, m: re.Match[str]) -> bool:
    """Whether the full stop belongs to the word before it. Before a capital most abbreviations may end."""
    head = text[max(start, m.start() - 8) : m.start() + 1]
    rest = text[m.end() : m.end() + 2].lstrip()
    if len(m[0]) > 1:  # an ellipsis goes on if the next word is small
        return bool(rest) and rest[0].islower()
    if not _ABBREVIATION.search(head):
        return False
    return bool(_TITLE.search(head)) or not rest[:1].isupper()


def _add(spans: list[tuple[int, int]], text: str, start: int, end: int) -> None:
    bullet = _BULLET.match(text, start, end)
    start = bullet.end() if bullet and bullet.end() < end else start
    while start < end and (text[start].isspace() or re.match(_EMOJI, text[start])):
        start += 1
    while end > start and (text[end - 1].isspace() or re.match(_EMOJI, text[end - 1])):
        end -= 1
    while end - start > MAX_SENTENCE:
        cut = text.rfind(" ", start + 1, start + MAX_SENTENCE)
        cut = cut if cut > start else start + MAX_SENTENCE
        spans.append((start, cut))
        start = cut + (text[cut : cut + 1] == " ")
    if start < end:
        spans.append((start, end))
