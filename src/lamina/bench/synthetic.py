"""Chat-like text and vectors for it, by seed: what a store of any size is filled with.

``Chatter`` writes sentences from patterns whose names and things follow Zipf's law (Zipf 1949; exponent and
offset of Mandelbrot's form), so that full-text search meets a few very common and very many rare words, as in
real chats. ``WordVectors`` gives texts unit vectors without a model: the weighted sum of one seeded random
direction per word, so that texts with common words are near and the whole cloud leans one way, as the
vectors of real encoders do. It stands in for an encoder where only the store is measured.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

_PATTERNS = (
    "I {did} the {thing} with {name} {when}.",
    "{name} told me that the {thing} in {place} was better than the {thing}.",
    "Do you remember when we {did} that {thing} near {place}?",
    "My {kin} {did} a {thing} for {name}, and I still think about it.",
    "We are going to {place} {when} because {name} found a {thing} there.",
    "Honestly the {thing} made me feel great, {name} said the same about the {thing}.",
    "I moved my {thing} from {place} to {place} {when}.",
    "{name} and my {kin} {did} the {thing}; it took {count} hours.",
    "There were {count} people at the {thing} in {place}, and {name} {did} a {thing}.",
    "I can't find the {thing} that {name} {did} {when}, it must be in {place}.",
)
_QUESTIONS = (
    "What did {name} say about the {thing}?",
    "When did we go to {place} for the {thing}?",
    "Who {did} the {thing} in {place}?",
    "Where is the {thing} that {name} {did}?",
)
_WORD = re.compile(r"\w+")
_DID = _WORD.findall(
    "bought painted fixed sold cooked planned finished watched lost found borrowed repaired built tried"
)
_WHEN = ["yesterday", "last week", "in March", "two days ago", "on Friday", "last summer", "this morning"]
_KIN = _WORD.findall("sister brother mother father neighbour boss friend daughter son colleague")
_THINGS = _WORD.findall(
    "dog garden guitar bicycle painting book concert recipe kitchen marathon camera laptop trip museum job car"
    " puppy course novel film song party jacket phone boat tent oven piano lamp chair window letter train picnic"
)
_PLACES = _WORD.findall("Denver Boston Lisbon Osaka Berlin Madrid Oslo Dublin Chicago Vienna")
_SYLLABLE = (
    ["b", "br", "d", "f", "g", "h", "k", "l", "m", "n", "p", "r", "s", "st", "t", "tr", "v", "w", "z"],
    ["a", "e", "i", "o", "u", "ai", "ee", "ou"],
    ["", "l", "n", "r", "s", "m"],
)
_DIMENSION = 384


class Chatter:
    """Messages by seed; the n-th of a seed is always the same, however they are asked for."""

    def __init__(self, seed: int, *, names: int = 2_000, things: int = 20_000, places: int = 1_000) -> None:
        rng = np.random.default_rng((seed, 1))
        self._seed = seed
        self._slots: dict[str, list[str]] = {
            "name": _invented(rng, names, capital=True),
            "thing": [*_THINGS, *_invented(rng, things, capital=False)],
            "place": [*_PLACES, *_invented(rng, places, capital=True)],
        }
        self._tables = {slot: _zipf(len(words)) for slot, words in self._slots.items()}

    def messages(self, count: int, start: int = 0) -> list[str]:
        """Messages ``start`` to ``start + count``, of one or two sentences."""
        return [self._write(_PATTERNS, 2, number, 1 + number % 2) for number in range(start, start + count)]

    def questions(self, count: int) -> list[str]:
        """Questions in the same words."""
        return [self._write(_QUESTIONS, 3, number, 1) for number in range(count)]

    def _write(self, patterns: Sequence[str], stream: int, number: int, length: int) -> str:
        draws = iter(np.random.default_rng((self._seed, stream, number)).random(16).tolist())
        pattern = " ".join(patterns[int(next(draws) * len(patterns))] for _ in range(length))
        return re.sub(r"\{(\w+)\}", lambda match: self._word(match[1], next(draws)), pattern)

    def _word(self, slot: str, draw: float) -> str:
        if slot == "count":
            return str(2 + int(draw * 40))
        if slot in self._slots:
            words = self._slots[slot]
            return words[int(np.searchsorted(self._tables[slot], draw))]
        words = {"did": _DID, "when": _WHEN, "kin": _KIN}[slot]
        return words[int(draw * len(words))]


class WordVectors:
    """An ``Embedder`` without a model; ``name`` is free, so that it can reopen a store another encoder filled."""

    def __init__(self, name: str = "synthetic-word-vectors") -> None:
        self.name = name
        self.dimension = _DIMENSION
        self._words: dict[str, NDArray[np.float32]] = {}

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """float32 ``(len(texts), 384)``, unit rows; equal texts have equal vectors in every process."""
        out = np.empty((len(texts), self.dimension), np.float32)
        for row, text in zip(out, texts, strict=True):
            row[:] = sum(map(self._direction, _WORD.findall(text.lower())), start=self._direction(""))
        unit: NDArray[np.float32] = out / np.linalg.norm(out, axis=1, keepdims=True)
        return unit

    def forget(self, texts: Iterable[str]) -> None:
        """Nothing of a text is kept; the directions of words are the same for everybody."""

    def _direction(self, word: str) -> NDArray[np.float32]:
        found = self._words.get(word)
        if found is None:
            rng = np.random.default_rng(zlib.crc32(word.encode()))
            # Short words are mostly function words, which real encoders all but ignore.
            weight = 1.0 if len(word) > 3 else 0.4
            found = rng.standard_normal(self.dimension, np.float32) * np.float32(weight)
            self._words[word] = found
        return found


def _invented(rng: np.random.Generator, count: int, *, capital: bool) -> list[str]:
    """Distinct pronounceable words of two or three syllables."""
    found: dict[str, None] = {}
    while len(found) < count:
        draws = iter(rng.random(10).tolist())
        syllables = 2 + int(next(draws) * 2)
        word = "".join(part[int(next(draws) * len(part))] for _ in range(syllables) for part in _SYLLABLE)
        found[word.capitalize() if capital else word] = None
    return list(found)


def _zipf(size: int) -> NDArray[np.float64]:
    """Cumulative probabilities of ranks 1 to ``size``, p ~ 1 / (rank + 2.7)^1.07."""
    weights = 1.0 / (np.arange(1, size + 1) + 2.7) ** 1.07
    total: NDArray[np.float64] = np.cumsum(weights) / weights.sum()
    return total
