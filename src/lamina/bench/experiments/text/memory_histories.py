"""Seeded chat histories with questions about them: what the memory gym is played on, as plain text.

Chunks (Mem-alpha's gym, shares of a history): 30 % new facts (entity, attribute, value), 18 % changes of a value, 14 %
dated events, 4 % traits of the user, 4 % facts told again, 30 % chatter that *reuses* the entities, attributes,
events and traits but says nothing. Entities grow with the history, one per eight chunks. Questions ask for every
value that holds at the end, every event's date and every trait.

``split`` decides the sentences and the names: those of one split never occur in another. ``train`` is learned from,
settings are chosen on ``validation`` (``memory_sayings`` and ``memory_validation``), and ``fresh``, of
``fresh_histories``, was written by somebody else and decides nothing. Common nouns (attributes, events, values) are
the same in all.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar, get_args

import numpy as np

from lamina.bench.experiments.text import fresh_histories, memory_sayings, memory_validation
from lamina.bench.experiments.text.memory_sayings import Sayings
from lamina.text.policy.tools import TypedMemory

T = TypeVar("T")
Split = Literal["train", "validation", "fresh"]
Kind = Literal["fact", "change", "event", "trait", "repeat", "chatter"]
KINDS: tuple[Kind, ...] = ("fact", "change", "event", "trait", "repeat", "chatter")
SHARES = (0.30, 0.18, 0.14, 0.04, 0.04, 0.30)
READ = 3  # entries the frozen reader looks at
CHUNKS_PER_ENTITY = 8

_WORD = re.compile(r"\w+")
_ATTRIBUTES = _WORD.findall(
    "car job city team dog phone sofa bicycle gym kitchen boat camera lawyer breakfast jacket guitar bank school"
    " garden laptop roof piano tent desk"
)
_EVENTS = _WORD.findall(
    "wedding marathon concert exam surgery picnic auction interview parade recital funeral regatta conference"
    " workshop festival hike seminar rehearsal tournament barbecue"
)
_TRAITS = _WORD.findall(
    "diet tone language bedtime font currency spelling humour seating greeting alphabet soundtrack pace brightness"
    " nickname calendar keyboard pillow allergy handwriting temperature punctuation shoe lighting pronoun accent coffee"
    " tea"
)
_VALUES = _WORD.findall(
    "amber basalt cedar dusty emerald fennel granite hazel indigo jasper khaki lilac maroon nickel ochre pearl quartz"
    " russet saffron teal umber velvet walnut yellow zinc birch copper denim ebony flint ginger honey ivory jade kiwi"
    " lemon mustard navy olive plum rose silver topaz vanilla wheat azure bronze coral daisy fern"
)
_MONTHS = _WORD.findall("January February March April May June July August September October November December")

_SAID: dict[Split, Sayings] = {
    "train": memory_sayings.TRAIN,
    "validation": memory_validation.VALIDATION,
    "fresh": fresh_histories.SAID,
}


@dataclass(frozen=True, slots=True)
class Chunk:
    """One message. ``kind`` is the truth about it: for the gold-reading baseline, never a feature."""

    text: str
    kind: Kind


@dataclass(frozen=True, slots=True)
class Question:
    """Asked at the end: ``terms`` are searched, ``answer`` is the words that must be read. A trait is asked of the
    core, everything else of the lists; there an answer must come from an entry that names ``entity``."""

    kind: Literal["fact", "event", "trait"]
    terms: tuple[str, ...]
    entity: str
    answer: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class History:
    chunks: tuple[Chunk, ...]
    questions: tuple[Question, ...]

    @property
    def texts(self) -> tuple[str, ...]:
        return tuple(chunk.text for chunk in self.chunks)

    def score(self, memory: TypedMemory) -> float:
        """Share of the questions that the frozen reader answers from ``memory``; 1 if there are none."""
        right = [answered(question, memory) for question in self.questions]
        return sum(right) / len(right) if right else 1.0


def make_history(seed: int, chunks: int, split: Split, *, chatter: bool = True) -> History:
    """The history of a seed: the same in every process. Without ``chatter`` the other shares grow alike."""
    return _Teller(seed, chunks, split).tell(chatter)


def answered(question: Question, memory: TypedMemory) -> bool:
    """The frozen reader: the first of the best ``READ`` entries that names the entity is believed.

    It is right if that entry holds the answer. Of entries that match equally the first to arrive is believed, so what
    is out of date and was left in the memory does harm.
    """
    if question.kind == "trait":
        return _holds(memory.core, (*question.terms, *question.answer))
    found = memory.search(" ".join(question.terms), READ)
    named = next((entry for entry in found if _holds(entry.text, (question.entity,))), None)
    return named is not None and _holds(named.text, question.answer)


def plain_words(text: str) -> frozenset[str]:
    """The words of a text as the reader compares them: lower case, without punctuation."""
    return frozenset(word.strip(".,?") for word in text.lower().split())


def _holds(text: str, words: Sequence[str]) -> bool:
    return plain_words(text) >= set(words)


class _Teller:
    """Draws one history, keeping what is true so far."""

    def __init__(self, seed: int, chunks: int, split: Split) -> None:
        self._rng = np.random.default_rng((seed, chunks, get_args(Split).index(split)))
        self._count = chunks
        self._said = _SAID[split]
        names = _NAMES[split]
        wanted = max(2, round(chunks / CHUNKS_PER_ENTITY))
        self._entities = [names[place] for place in self._rng.permutation(len(names))[:wanted]]
        self._traits = [_TRAITS[place] for place in self._rng.permutation(len(_TRAITS))]
        self._values: dict[tuple[str, str], str] = {}
        self._dates: dict[tuple[str, str], str] = {}
        self._known_traits: dict[str, str] = {}

    def tell(self, chatter: bool) -> History:
        shares = np.asarray(SHARES) * [1, 1, 1, 1, 1, chatter]
        kinds = self._rng.choice(len(KINDS), self._count, p=shares / shares.sum())
        chunks = tuple(self._chunk(KINDS[kind]) for kind in kinds)
        return History(chunks, self._questions())

    def _chunk(self, kind: Kind) -> Chunk:
        if kind in ("change", "repeat") and not self._values:
            kind = "fact"
        if kind == "trait" and not self._traits:
            kind = "chatter"
        return Chunk(getattr(self, f"_{kind}")(), kind)

    def _fact(self) -> str:
        free = [(e, a) for e in self._entities for a in _ATTRIBUTES if (e, a) not in self._values]
        who, what = self._any(free)
        self._values[who, what] = self._any(_VALUES)
        return self._say("fact", e=who, a=what, v=self._values[who, what])

    def _change(self) -> str:
        who, what = self._any(list(self._values))
        self._values[who, what] = self._any([value for value in _VALUES if value != self._values[who, what]])
        return self._say("change", e=who, a=what, v=self._values[who, what])

    def _repeat(self) -> str:
        who, what = self._any(list(self._values))
        return self._say("fact", e=who, a=what, v=self._values[who, what])

    def _event(self) -> str:
        who, what = self._any([(e, x) for e in self._entities for x in _EVENTS if (e, x) not in self._dates])
        self._dates[who, what] = f"{int(self._rng.integers(1, 29))} {self._any(_MONTHS)}"
        return self._say("event", e=who, x=what, d=self._dates[who, what])

    def _trait(self) -> str:
        what = self._traits.pop()
        self._known_traits[what] = self._any(_VALUES)
        return self._say("trait", p=what, v=self._known_traits[what])

    def _chatter(self) -> str:
        return self._say(
            "chatter",
            e=self._any(self._entities),
            a=self._any(_ATTRIBUTES),
            x=self._any(_EVENTS),
            p=self._any(_TRAITS),
        )

    def _questions(self) -> tuple[Question, ...]:
        facts = [Question("fact", (e.lower(), a), e.lower(), (v,)) for (e, a), v in self._values.items()]
        events = [
            Question("event", (e.lower(), x), e.lower(), tuple(d.lower().split())) for (e, x), d in self._dates.items()
        ]
        traits = [Question("trait", (p,), "", (v,)) for p, v in self._known_traits.items()]
        return (*facts, *events, *traits)

    def _say(self, kind: str, **slots: str) -> str:
        sentence = self._any(self._said[kind]).format(**slots)
        return sentence[0].upper() + sentence[1:]

    def _any(self, options: Sequence[T]) -> T:
        return options[int(self._rng.integers(len(options)))]


def _names() -> dict[Split, list[str]]:
    """Invented names of two syllables, dealt to ``train`` and ``validation`` in turn: neither knows one of the other.

    ``fresh`` has names of people.
    """
    starts = _WORD.findall("Ba Be Da Do Fa Fi Ga Ha Jo Ka Ke La Lo Ma Mi Na No Pa Ra Ro Sa Ta Ti Va Vo Za")
    ends = _WORD.findall("bren dil fen gor len mar nix rod sel tav")
    names = [start + end for end in ends for start in starts]
    return {"train": names[0::2], "validation": names[1::2], "fresh": fresh_histories.NAMES}


_NAMES = _names()
