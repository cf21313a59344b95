"""Which names are one entity: the node lookup of Mem0's graph (arXiv 2504.19413, section 2.2), without its accidents.

The paper joins nodes whose embeddings are close (its released code: cosine 0.7). A small encoder puts Monday and
Friday at 0.71, 2019 and 2021 at 0.72, and Bob and Robert at 0.59: a threshold merges what differs and misses what is
the same. Here one name is one entity within a scope and a type; a short name stands for a long one only if it is the
first or last part of exactly one ("Alice" of "Alice Johnson"), and that is an edge, ``same_as``, which closes when a
second Alice appears. Closeness of vectors joins only things, places and organisations, from 0.92 on.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

from lamina.text.english.lexicon import words
from lamina.text.english.numbers import parse_number

PERSON, PLACE, ORGANISATION, THING = "person", "place", "organisation", "thing"
UNKNOWN = "name"  # a name of which nothing tells what it is; it fits every type
SAME_AS = "same_as"
CLOSE = 0.92  # cosine from which two spellings may be one thing


def _upper() -> str:
    """A regex class of capital letters: ``re`` has none. Scripts up to U+2000, those with two cases that people use."""
    return "".join(chr(code) for code in range(0x2000) if chr(code).isupper())


UPPER = _upper()
_TOKEN = re.compile(r"\w+(?:[.'&+-]\w+)*")
_LEADING = words("the a an my our his her their")
_ALIASES = {
    "usa": "united states", "u.s.a": "united states", "u.s": "united states", "us": "united states",
    "united states of america": "united states", "uk": "united kingdom", "u.k": "united kingdom",
    "great britain": "united kingdom", "nyc": "new york city", "uae": "united arab emirates",
}  # fmt: skip
CALENDAR = words("""
monday tuesday wednesday thursday friday saturday sunday january february march april may june july august september
october november december
""")


@dataclass(frozen=True, slots=True)
class Name:
    """A name as written, and what kind of thing bears it."""

    text: str
    type: str = UNKNOWN

    @property
    def key(self) -> str:
        """What equal names share."""
        return key(self.text)


def key(name: str) -> str:
    """A name for comparison: one case, one spelling of accents' code points, no article, possessive or edge marks."""
    if name in ("US", "U.S."):
        return "united states"
    text = unicodedata.normalize("NFKC", name).replace("’", "'").casefold()
    tokens = [token.removesuffix("'s") for token in _TOKEN.findall(text)]
    while len(tokens) > 1 and tokens[0] in _LEADING:
        tokens.pop(0)
    joined = " ".join(tokens)
    return joined if joined == "us" else _ALIASES.get(joined, joined)


def fits(one: str, other: str) -> bool:
    """Whether two types can be of one entity."""
    return one == other or UNKNOWN in (one, other)


def is_part(short: str, long: str, type: str) -> bool:
    """Whether key ``short`` can stand for key ``long``: a first or last name, the head of an organisation's name.

    Never for places ("York" is no "New York"), things and unknown names, numbers or parts of the calendar.
    """
    part, whole = short.split(), long.split()
    if len(part) >= len(whole) or not part or not is_wordy(short):
        return False
    head = whole[: len(part)] == part
    return head if type == ORGANISATION else type == PERSON and (head or whole[-len(part) :] == part)


def parts(long: str, type: str) -> list[str]:
    """Every key that ``is_part`` of ``long``."""
    tokens = long.split()
    heads = [" ".join(tokens[:n]) for n in range(1, len(tokens))]
    tails = [" ".join(tokens[n:]) for n in range(1, len(tokens))]
    return [short for short in dict.fromkeys(heads + tails) if is_part(short, long, type)]


def may_blend(one: str, other: str, type: str) -> bool:
    """Whether close vectors may join two keys at all: never people, unknown names, numbers or dates."""
    return type in (PLACE, ORGANISATION, THING) and is_wordy(one) and is_wordy(other)


def is_wordy(text: str) -> bool:
    """Letters only: no digit, number word, day or month, whose neighbours look alike and differ."""
    tokens = text.split()
    return all(
        not any(c.isdigit() for c in token) and token not in CALENDAR and parse_number(token) is None
        for token in tokens
    )
