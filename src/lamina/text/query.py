"""What a question tells a search beside its words: whom it names, and which time it asks about.

A dialogue's turns rarely contain the name of who speaks, but often that of who is spoken to ("Thanks,
Anna!"). A name in the question therefore pulls a plain similarity search to the wrong person's turns. Names of
speakers are metadata here: they select by who spoke, and leave the text that is compared.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from lamina.store.analysis import STOP_WORDS, terms
from lamina.text.time import resolve

_WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class Query:
    """``text`` without the names of speakers, its index ``terms``, the ``speakers`` named (their numbers), and the
    half-open ``periods`` of time it mentions."""

    text: str
    terms: tuple[str, ...]
    speakers: tuple[int, ...]
    periods: tuple[tuple[datetime, datetime], ...]


def parse_query(query: str, speakers: Mapping[str, int], anchor: datetime) -> Query:
    """``speakers`` maps the scope's speakers to their numbers; ``anchor`` is what "last week" refers to."""
    words = set(_WORD.findall(query)) | set(_WORD.findall(query.casefold()))
    named = {name: number for name, number in speakers.items() if _is_named(name, words)}
    text = _without(query, named)
    found = terms(text)
    if not found:  # nothing but a name: then the name is the question
        text, found = query, terms(query)
    periods = tuple((span.start, span.end) for span in resolve(query, anchor) if span.relation == "at")
    return Query(text, tuple(dict.fromkeys(found)), tuple(sorted(named.values())), periods)


def _is_named(name: str, words: set[str]) -> bool:
    """By the first name or the only one. A name that is also a function word ("Will") must be capitalised."""
    first = next(iter(_WORD.findall(name)), "")
    if len(first) < 2:
        return False
    return first in words if first.casefold() in STOP_WORDS else first.casefold() in words


def _without(query: str, names: Mapping[str, int]) -> str:
    parts = sorted({part for name in names for part in _WORD.findall(name) if len(part) > 1})
    if not parts:
        return query
    alternatives = [part if part.casefold() in STOP_WORDS else f"(?i:{part})" for part in parts]
    return " ".join(re.sub(rf"\b(?:{'|'.join(alternatives)})\b(?:['’]s)?", " ", query).split())
