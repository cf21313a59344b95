"""Long texts in segments: English prose with facts strewn in, asked for in the same segment or up to forty later.

A fact is a key and its value, two tokens; a question is a mark and a key, and what should come next is the value. The
value does not stand there: a later question finds it nowhere but where it was stated. Each key is stated once in a
text, with a value drawn anew, so that nothing but the text itself tells it. The prose is that of Python's own
documentation (``pydoc_data.topics``), in byte pairs learned from it; its last tenth is kept for tests.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from lamina._optional import require

Ids = NDArray[np.int64]

VOCABULARY, VALUES, KEYS = 512, 64, 192
ASK, FIRST_VALUE, FIRST_KEY = 0, 1, 1 + VALUES
FIRST_WORD = FIRST_KEY + KEYS
SEGMENT = 128
NEAREST, FARTHEST = 2, 40  # segments between a fact and the questions on it
_TESTED = 0.1  # of the prose


class Asked(IntEnum):
    """What a position should say next: nothing that can be known, prose, a value of this segment or of an earlier."""

    NOTHING, PROSE, HERE, EARLIER = range(4)


@dataclass(frozen=True, slots=True)
class Texts:
    """``ids``, ``targets`` (what should come next), what is ``asked`` and the ``place`` in the text of the value that
    answers a question, each (rows, segments, length) int64."""

    ids: Ids
    targets: Ids
    asked: Ids
    place: Ids

    @property
    def distance(self) -> Ids:
        """Segments back to the fact that a question asks for, (rows, segments, length)."""
        back: Ids = np.arange(self.ids.shape[1])[None, :, None] - self.place // self.ids.shape[2]
        return back


@dataclass(frozen=True, slots=True)
class Mixture:
    """Of one segment: facts stated, questions on them, questions on facts of earlier segments (where there are any),
    and its length in tokens."""

    facts: int = 3
    here: int = 4
    earlier: int = 12
    length: int = SEGMENT


def texts(
    rng: np.random.Generator,
    rows: int,
    segments: int,
    mixture: Mixture,
    *,
    test: bool = False,
    farthest: int = FARTHEST,
) -> Texts:
    """``rows`` texts of ``segments`` segments; facts stay unique while ``segments * facts`` is at most ``KEYS``."""
    made = [
        _text(rng, segments, mixture, _stretch(rng, segments * mixture.length, test), farthest) for _ in range(rows)
    ]
    return Texts(*(np.stack(column) for column in zip(*made, strict=True)))


def plain(rng: np.random.Generator, rows: int, segments: int) -> Texts:
    """Prose of the tested part without facts."""
    return texts(rng, rows, segments, Mixture(0, 0, 0), test=True)


def _text(rng: np.random.Generator, segments: int, mixture: Mixture, prose: Ids, farthest: int) -> tuple[Ids, ...]:
    """``ids``, ``targets``, ``asked`` and ``place`` of one text, each (segments, length)."""
    text = _Text(rng, segments * mixture.facts, iter(prose.tolist()))
    for number in range(segments):
        text.first.append(len(text.facts))
        for unit in _units(rng, mixture, earlier=number >= NEAREST):
            if unit is Asked.PROSE:
                text.say(next(text.prose))
            elif unit is Asked.NOTHING:
                text.state()
            else:
                back = 0 if unit is Asked.HERE else int(rng.integers(NEAREST, min(farthest, number) + 1))
                text.ask(unit, number - back)
    told = np.array(text.told).reshape(segments, mixture.length, 4)
    return tuple(np.moveaxis(told, -1, 0))


class _Text:
    """A text as it is written: ``told`` holds (id, target, asked, place) of each token, ``facts`` those stated so far
    as (key, value, place of the value), ``first`` the number of the first fact of each segment."""

    def __init__(self, rng: np.random.Generator, facts: int, prose: Iterator[int]) -> None:
        self.rng, self.prose = rng, prose
        self.keys = np.concatenate([rng.permutation(KEYS) for _ in range(1 + facts // KEYS)])
        self.told: list[tuple[int, int, int, int]] = []
        self.facts: list[tuple[int, int, int]] = []
        self.first: list[int] = []

    def say(self, word: int) -> None:
        """A word of prose; the token before should have said it, unless that asks for something else."""
        if self.told and self.told[-1][2] == Asked.NOTHING:
            self.told[-1] = (self.told[-1][0], word, Asked.PROSE, 0)
        self.told.append((word, 0, Asked.NOTHING, 0))

    def state(self) -> None:
        key = FIRST_KEY + int(self.keys[len(self.facts)])
        value = FIRST_VALUE + int(self.rng.integers(VALUES))
        self.told += [(key, 0, Asked.NOTHING, 0), (value, 0, Asked.NOTHING, 0)]
        self.facts.append((key, value, len(self.told) - 1))

    def ask(self, kind: Asked, segment: int) -> None:
        """For a fact of ``segment``, of those stated so far."""
        end = self.first[segment + 1] if segment + 1 < len(self.first) else len(self.facts)
        key, value, place = self.facts[int(self.rng.integers(self.first[segment], end))]
        self.told += [(ASK, 0, Asked.NOTHING, 0), (key, value, int(kind), place)]


def _units(rng: np.random.Generator, mixture: Mixture, *, earlier: bool) -> list[Asked]:
    """What a segment is made of, in order: ``NOTHING`` states a fact. The first fact comes before any question."""
    pairs = [Asked.NOTHING] * mixture.facts + [Asked.HERE] * mixture.here + [Asked.EARLIER] * mixture.earlier * earlier
    units = pairs + [Asked.PROSE] * (mixture.length - 2 * len(pairs))
    units = [units[n] for n in rng.permutation(len(units))]
    if mixture.here:
        here, fact = units.index(Asked.HERE), units.index(Asked.NOTHING)
        if here < fact:
            units[here], units[fact] = units[fact], units[here]
    return units


def _stretch(rng: np.random.Generator, length: int, test: bool) -> Ids:
    prose = _prose()
    cut = int(len(prose) * (1 - _TESTED))
    part = prose[cut:] if test else prose[:cut]
    start = int(rng.integers(max(1, len(part) - length)))
    return np.resize(np.roll(part, -start), length)


@lru_cache(maxsize=1)
def _prose() -> Ids:
    """All of the documentation as tokens from ``FIRST_WORD`` on."""
    from pydoc_data.topics import topics

    tokenizers = require("tokenizers", "the prose of the long texts")
    told = [topics[name] for name in sorted(topics)]
    bpe = tokenizers.Tokenizer(tokenizers.models.BPE(unk_token="<unknown>"))
    bpe.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=VOCABULARY - FIRST_WORD, special_tokens=["<unknown>"], limit_alphabet=100, show_progress=False
    )
    bpe.train_from_iterator(told, trainer)
    return np.concatenate([np.array(each.ids) for each in bpe.encode_batch(told)]) + FIRST_WORD
