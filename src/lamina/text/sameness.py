"""Whether two statements say the same, or one the other and more.

Cosine alone cannot tell ("two cats" and "three cats" are at 0.95): numbers, names, polarity and wording must agree.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from lamina.cube.cube import Claim, MemCube
from lamina.text.base import Fact
from lamina.text.english.lexicon import ADVERBS, STOP, words
from lamina.text.english.numbers import parse_number
from lamina.text.english.slots import base, same_value, stem, stems

DUPLICATE = 0.88  # cosine from which two wordings may be the same statement (MiniLM duplicates: 0.78-0.98)
CONTAINED = 0.8  # share of the old statement's content that an augmentation repeats

# Words without which a statement says the same; "before", "up", "with" and "my" are not among them.
_FILLER = words(
    "a an the is are was were be been being am has have had do does did very really just so still actually that"
)
_WORD = re.compile(r"[\w@.+'’-]*\w")
_NUMBER = re.compile(r"\d+(?:[.,:]\d+)*")


def claim_of(cube: MemCube) -> Claim:
    assert cube.header.claim is not None
    return cube.header.claim


@dataclass(frozen=True, slots=True)
class _Content:
    """What a text says, for comparison: its wording but for filler words, its content stems and its numbers."""

    wording: tuple[str, ...]
    stems: frozenset[str]
    numbers: frozenset[str]


def _content(text: str, names: Sequence[str]) -> _Content:
    """``names`` are the fact's entities: names that happen to be function words still count as content."""
    spoken = [w.lower().replace("’", "'").removesuffix("'s") for w in _WORD.findall(text)]
    named = {part.lower() for name in names for part in name.split()}
    kept = [w for w in spoken if (w not in STOP and w not in ADVERBS) or w in named or parse_number(w) is not None]
    numbers = {n for w in kept for n in _NUMBER.findall(w)} | {
        str(parse_number(w)) for w in kept if parse_number(w) is not None
    }
    wording = tuple(w for w in spoken if w not in _FILLER)
    return _Content(wording, frozenset(stem(w) for w in kept), frozenset(numbers))


def _contents(fact: Fact, cube: MemCube) -> tuple[_Content, _Content]:
    return _content(fact.text, fact.entities), _content(cube.text, cube.header.entities)


def is_same(fact: Fact, cube: MemCube, cosine: float) -> bool:
    new, old = fact.claim, claim_of(cube)
    if new.polarity != old.polarity or new.modality != old.modality or _apart_in_time(fact, cube):
        return False
    if " ".join(fact.text.casefold().split()).strip(".!") == " ".join(cube.text.casefold().split()).strip(".!"):
        return True
    if new.slot is not None and base(new.slot) == base(old.slot or "") and same_value(new.slot, new.value, old.value):
        mine, theirs = _contents(fact, cube)
        extra = mine.stems - theirs.stems - stems(new.value or "")
        return (
            mine.numbers <= theirs.numbers and names(fact.entities) <= names(cube.header.entities) and len(extra) <= 1
        )
    if cosine < DUPLICATE or new.slot != old.slot:
        return False
    mine, theirs = _contents(fact, cube)
    return mine.numbers == theirs.numbers and mine.wording == theirs.wording


def names(entities: Sequence[str]) -> frozenset[str]:
    return frozenset(name.casefold() for name in entities)


def _apart_in_time(fact: Fact, cube: MemCube) -> bool:
    """Two happenings at different times are two, however alike they sound."""
    if fact.valid_to is None and cube.header.valid_to is None:
        return False
    return (fact.valid_from, fact.valid_to) != (cube.header.valid_from, cube.header.valid_to)


def is_fuller(fact: Fact, cube: MemCube) -> bool:
    new, old = fact.claim, claim_of(cube)
    if new.polarity != old.polarity or new.modality != old.modality or new.modality == "hypothetical":
        return False
    if fact.semantic_type == "event" or cube.header.semantic_type == "event" or _apart_in_time(fact, cube):
        return False  # another occasion, not more about this one
    if old.slot is not None and (new.slot != old.slot or not same_value(old.slot, new.value, old.value)):
        return False
    mine, theirs = _contents(fact, cube)
    enough = len(theirs.stems) >= 3 or old.slot is not None
    shared = len(theirs.stems & mine.stems) / max(1, len(theirs.stems))
    grows = len(mine.stems) > len(theirs.stems) and theirs.numbers <= mine.numbers
    return enough and grows and shared >= CONTAINED and names(cube.header.entities) <= names(fact.entities)
