"""What a write policy sees of a chunk and of the memory: numbers that mean the same in any length of history.

Mem-alpha (arXiv 2509.25911) lets a language model read chunk and memory; a small policy needs features. Its
promise, training on short histories and working on long ones, holds only if none of them grows with the history.
So there are no counts and no store size: cosines, shares and yes-or-no answers. Two choices carry the transfer:

* ``form``: of *how* a chunk is told the policy learns only whether it has a date, a number, a first person or a
  question mark, and its length. With an encoding of its function words too, it did worse on sentences it had not been
  trained on, so there is none.
* ``match``: likeness to stored entries is a cosine over content words weighted by inverse document frequency, so
  that a shared rare name outweighs shared common words. The margin to the second best says how safe the match is.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from lamina.text.english.lexicon import ADVERBS, STOP
from lamina.text.english.slots import stem

Floats = NDArray[np.float64]

MATCH = ("cosine", "margin", "same_entity", "same_attribute", "novelty")
FORM = ("dated", "numbered", "first_person", "asks", "length")
FEATURES = (*FORM, *MATCH, "core_fill")
LONG = 32  # words from which a chunk counts as long
PRIOR = 10.0  # documents assumed beside those stored, so that weights mean the same in a small store

_FUNCTION = STOP | ADVERBS
_MONTH = (
    "jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?"
    "|nov(?:ember)?|dec(?:ember)?"
)
_DAY = r"\d{1,2}(?:st|nd|rd|th)?"
DATE = re.compile(
    rf"\(?\b(?:(?:on|in|since|until)\s+)?(?:\d{{4}}-\d\d-\d\d|{_DAY}\s+(?:of\s+)?(?:{_MONTH})\b(?:,?\s+\d{{4}})?"
    rf"|(?:{_MONTH})\s+{_DAY}\b(?:,?\s+\d{{4}})?|(?:{_MONTH})\s+\d{{4}}|(?:in|since|until)\s+(?:19|20)\d\d)\b\)?",
    re.I,
)
_WORD = re.compile(r"\w+(?:['’]\w+)?")
_FIRST_PERSON = frozenset({"i", "me", "my", "mine", "myself", "i'm", "i've", "i'd", "i'll"})


@dataclass(frozen=True, slots=True)
class Reading:
    """A chunk as the policy reads it. ``terms`` are stems of its content words, names among them, dates not."""

    terms: frozenset[str]
    names: frozenset[str]
    dated: bool
    numbered: bool
    first_person: bool
    asks: bool
    tokens: int

    def form(self) -> list[float]:
        """The features called ``FORM``."""
        flags = (self.dated, self.numbered, self.first_person, self.asks)
        return [*map(float, flags), min(1.0, self.tokens / LONG)]


@dataclass(frozen=True, slots=True)
class Match:
    """How a chunk relates to the memory; ``place`` is the entry it is most like, ``None`` in an empty memory."""

    place: int | None = None
    cosine: float = 0.0
    margin: float = 0.0
    same_entity: bool = False
    same_attribute: bool = False
    novelty: float = 1.0  # share of the chunk's weight that the entry does not have

    def values(self) -> list[float]:
        """The features called ``MATCH``."""
        return [self.cosine, self.margin, float(self.same_entity), float(self.same_attribute), self.novelty]


def read(text: str) -> Reading:
    """Read a chunk of English. Pure; nothing of ``text`` is kept, because it may be somebody's."""
    undated = strip_dates(text)
    spoken = _WORD.findall(undated)
    lower = [word.lower().replace("’", "'").removesuffix("'s") for word in spoken]
    content = [(word, low) for word, low in zip(spoken, lower, strict=True) if low not in _FUNCTION and "'" not in low]
    return Reading(
        terms=frozenset(stem(low) for _, low in content),
        names=frozenset(stem(low) for word, low in content if word[0].isupper()),
        dated=undated != text,
        numbered=any(low[0].isdigit() for low in lower),
        first_person=any(word.lower().replace("’", "'") in _FIRST_PERSON for word in spoken),
        asks=text.rstrip().endswith("?"),
        tokens=count_tokens(text),
    )


def retell(reading: Reading) -> Reading:
    """The reading of a statement that an extractor retold: it asks nothing."""
    return replace(reading, asks=False)


def strip_dates(text: str) -> str:
    """``text`` without its dates and their prepositions: what a semantic entry keeps."""
    return " ".join(DATE.sub("", text).split()).replace(" .", ".").replace(" ,", ",") if DATE.search(text) else text


def count_tokens(text: str) -> int:
    """Words, the unit of every memory budget here."""
    return len(_WORD.findall(text))


def idf(frequency: Floats, documents: Floats | float) -> Floats:
    """Weight of terms that ``frequency`` of ``documents`` entries have; positive, and larger for rarer terms."""
    total = documents + PRIOR
    return np.asarray(np.log1p((total - frequency + 0.5) / (frequency + 0.5)))


def match(chunk: Reading, entries: Sequence[Reading]) -> Match:
    """Compare a chunk with stored entries, given in order of arrival; of equals the first wins."""
    if not entries:
        return Match()
    frequency = Counter(term for entry in entries for term in entry.terms)
    vocabulary = sorted(chunk.terms | frequency.keys())
    weights = idf(np.asarray([frequency[term] for term in vocabulary], np.float64), float(len(entries))) ** 2
    weight = dict(zip(vocabulary, weights.tolist(), strict=True))

    def mass(terms: frozenset[str]) -> float:
        return math.fsum(weight[term] for term in terms)

    whole = mass(chunk.terms)
    shared = [mass(chunk.terms & entry.terms) for entry in entries]
    cosines = [cosine(common, whole, mass(entry.terms)) for common, entry in zip(shared, entries, strict=True)]
    best = max(range(len(entries)), key=lambda place: (round(cosines[place], 9), -place))
    second = max((value for place, value in enumerate(cosines) if place != best), default=0.0)
    return Match(
        place=best,
        cosine=cosines[best],
        margin=cosines[best] - second,
        same_entity=same_entity(chunk, entries[best]),
        same_attribute=same_attribute(chunk, entries[best]),
        novelty=1.0 - shared[best] / whole if whole else 0.0,
    )


def cosine(shared: float, one: float, other: float) -> float:
    """Cosine of two weighted sets from the weight they share and the weight of each."""
    return shared / math.sqrt(one * other) if one and other else 0.0


def same_entity(chunk: Reading, entry: Reading) -> bool:
    """Whether the chunk names somebody, and the entry everybody it names."""
    return bool(chunk.names) and chunk.names <= entry.terms


def same_attribute(chunk: Reading, entry: Reading) -> bool:
    """Whether they share a content word that is no name."""
    return bool((chunk.terms & entry.terms) - chunk.names - entry.names)


def assemble(chunk: Reading, found: Match, core_fill: float) -> Floats:
    """The feature vector, float64 ``(len(FEATURES),)``. ``core_fill``: share of the core budget in use, 0 to 1."""
    return np.asarray([*chunk.form(), *found.values(), core_fill])
