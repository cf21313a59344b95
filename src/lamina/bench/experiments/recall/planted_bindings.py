"""Documents with rare facts planted in them and asked back later: what is still known of what scrolled away?

A document is technical English (Python's own documentation, 512 byte-pair tokens) in which a *name*, one of 64 tokens
that occur nowhere else, is followed by a two-digit *number*, one of 100 such tokens; later a question token and the
name stand again, and the number is to be said. Numbers are drawn evenly, so that nobody is right by guessing more
often than once in a hundred. The text between is never about the names.
"""

from __future__ import annotations

import pydoc_data.topics
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from lamina._optional import require

if TYPE_CHECKING:
    from numpy.typing import NDArray

WORDS, NAMES, NUMBERS = 512, 64, 100
ASK = WORDS + NAMES + NUMBERS
VOCABULARY = ASK + 1
_TRIES = 20


@dataclass(frozen=True, slots=True, eq=False)
class Documents:
    """``ids`` int64 ``(B, T)``. Of each question: ``rows``, ``places`` of the name asked for (the number is to be said
    there, and stands one further), ``distances`` in tokens from the stated number to that place; all ``(Q,)``."""

    ids: NDArray[np.int64]
    rows: NDArray[np.int64]
    places: NDArray[np.int64]
    distances: NDArray[np.int64]

    @property
    def numbers(self) -> NDArray[np.int64]:
        """The right answers ``(Q,)``."""
        return self.ids[self.rows, self.places + 1]


@cache
def prose(part: str) -> NDArray[np.int64]:
    """Token ids of the text to ``learn`` from (nine tenths of the topics) or to ``ask`` in."""
    tokenizers = require("tokenizers", "the language of planted bindings")
    topics = [pydoc_data.topics.topics[name] for name in sorted(pydoc_data.topics.topics)]
    learn, ask = [t for n, t in enumerate(topics) if n % 10], topics[::10]
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=WORDS, initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(learn, trainer)
    return np.array(tokenizer.encode("\n".join(learn if part == "learn" else ask)).ids, dtype=np.int64)


def documents(
    rng: np.random.Generator,
    count: int,
    length: int,
    *,
    part: str = "learn",
    facts: int = 4,
    distances: tuple[tuple[int, int], ...] = ((8, 64), (65, 128), (129, 240)),
    again: int | None = None,
) -> Documents:
    """``count`` documents of ``length`` tokens with ``facts`` bindings each, no name twice in one.

    The distance of a question is drawn evenly within one of the ranges ``distances``, itself drawn evenly.
    ``again`` asks each question a second time that many tokens later.
    """
    text = prose(part)
    starts = rng.integers(0, len(text) - length, count)
    ids = text[starts[:, None] + np.arange(length)]
    found: list[tuple[int, int, int]] = []
    for row in range(count):
        names = WORDS + rng.choice(NAMES, facts, replace=False)
        numbers = WORDS + NAMES + rng.integers(0, NUMBERS, facts)
        layout = _layout(rng, length, facts, distances, again)
        for name, number, (stated, asked) in zip(names, numbers, layout, strict=True):
            ids[row, stated - 1 : stated + 1] = name, number
            for place in asked:
                ids[row, place - 1 : place + 2] = ASK, name, number
                found.append((row, place, place - stated))
    rows, places, apart = np.array(found, dtype=np.int64).reshape(-1, 3).T
    return Documents(ids, rows, places, apart)


def drills(rng: np.random.Generator, count: int, *, facts: int, questions: int) -> Documents:
    """``count`` documents of nothing but ``facts`` bindings and then ``questions``, to learn looking names up from."""
    which = rng.integers(0, facts, (count, questions))
    return _drills(rng, which, facts, 0)


def distant_drills(rng: np.random.Generator, count: int, *, facts: int, apart: int) -> Documents:
    """``count`` documents of ``facts`` bindings, ``apart`` tokens of text, and then a question about each."""
    which = rng.random((count, facts)).argsort(1)
    return _drills(rng, which, facts, apart)


def _drills(rng: np.random.Generator, which: NDArray[np.int64], facts: int, apart: int) -> Documents:
    """Questions about the facts ``which`` ``(B, questions)``."""
    count, questions = which.shape
    order = rng.random((count, NAMES)).argsort(1)[:, :facts]
    names, numbers = WORDS + order, WORDS + NAMES + rng.integers(0, NUMBERS, (count, facts))
    asked = [np.full_like(which, ASK), np.take_along_axis(names, which, 1), np.take_along_axis(numbers, which, 1)]
    stated = np.stack([names, numbers], 2).reshape(count, -1)
    text = prose("learn")
    between = text[rng.integers(0, len(text) - apart, (count, 1)) + np.arange(apart)]
    ids = np.concatenate([stated, between, np.stack(asked, 2).reshape(count, -1)], 1)
    rows, place = np.divmod(np.arange(count * questions), questions)
    places = 2 * facts + apart + 1 + 3 * place
    return Documents(ids, rows, places, places - 2 * which.ravel() - 1)


def _layout(
    rng: np.random.Generator, length: int, facts: int, distances: tuple[tuple[int, int], ...], again: int | None
) -> list[tuple[int, list[int]]]:
    """Of each fact, where the number is stated and where its name is asked for; no two on the same token."""
    taken: set[int] = set()
    layout: list[tuple[int, list[int]]] = []
    tries = 0
    while len(layout) < facts:
        tries += 1
        if tries > _TRIES * facts:  # what stands already leaves no room: begin again
            taken, layout, tries = set(), [], 0
        low, high = distances[int(rng.integers(len(distances)))]
        asks = [int(rng.integers(low, high + 1))]
        if again is not None:
            asks.append(asks[0] + again)
        if (last := length - 2 - asks[-1]) < 1:
            continue
        stated = int(rng.integers(1, last + 1))
        asked = [stated + ask for ask in asks]
        wanted = {stated - 1, stated, *(place + step for place in asked for step in (-1, 0, 1))}
        if len(wanted) == 2 + 3 * len(asked) and not wanted & taken:
            taken |= wanted
            layout.append((stated, asked))
    return layout
