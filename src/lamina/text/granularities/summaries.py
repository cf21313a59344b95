"""A summary and keywords of a session without a language model, for the two granularities that need one.

The summary takes sentences over: TextRank (Mihalcea and Tarau, "TextRank: Bringing Order into Text", 2004) ranks
them by a walk over common words, and the best are kept in their order. Keywords are the words and pairs of words
with the highest TF-IDF, counted against the sessions known so far, so that no later session changes an earlier one.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from lamina.store.analysis import STOP_WORDS, terms
from lamina.text.english.sentences import sentences

SENTENCES, KEYWORDS = 5, 20
_DAMPING = 0.85  # TextRank's own
_STEPS = 50
_WORD = re.compile(r"[^\W_]+")
_LEAST = 4  # terms of a sentence worth quoting: "Wow, that's cool!" is none


def extract_summary(utterances: Sequence[str], *, limit: int = SENTENCES) -> str:
    """The ``limit`` most central sentences, in order, one a line with its speaker's mark; all if there are no more."""
    spoken = [line for utterance in utterances for line in _sentences(utterance)]
    bags = [set(terms(sentence)) for sentence in spoken]
    worth = [place for place, bag in enumerate(bags) if len(bag) >= _LEAST] or list(range(len(spoken)))
    if len(worth) <= limit:
        return "\n".join(spoken[place] for place in worth)
    rank = _centrality([bags[place] for place in worth])
    best = sorted(sorted(range(len(worth)), key=lambda at: -rank[at])[:limit])
    return "\n".join(spoken[worth[at]] for at in best)


def extract_keywords(
    text: str, frequency: Callable[[str], int], sessions: int, *, limit: int = KEYWORDS
) -> tuple[str, ...]:
    """The ``limit`` words and pairs of adjacent words of ``text`` with the highest TF-IDF, best first.

    ``frequency`` says in how many of ``sessions`` earlier sessions an index term occurs; a pair is as rare as its
    rarer half. Stop words are left out; words stay as they were said, since encoders know no stems.
    """
    words = [word for word in _WORD.findall(text.casefold()) if word not in STOP_WORDS and len(word) > 1]
    counts = Counter((word,) for word in words) + Counter(pairwise(words))
    idf = {
        word: math.log((1 + sessions) / (1 + max(map(frequency, terms(word)), default=0))) + 1 for word in set(words)
    }
    score = {gram: count * max(idf[word] for word in gram) for gram, count in counts.items()}
    return tuple(" ".join(gram) for gram in sorted(score, key=lambda gram: (-score[gram], gram))[:limit])


def _sentences(utterance: str) -> list[str]:
    """Sentences of an utterance, each with the mark of who speaks (``[Ann]: ``) in front."""
    mark, colon, said = utterance.partition(": ")
    if not colon or not mark.startswith("["):
        mark, said = "", utterance
    prefix = f"{mark}: " if mark else ""
    return [prefix + said[start:end] for start, end in sentences(said)]


def _centrality(bags: Sequence[set[str]]) -> NDArray[np.float64]:
    """TextRank of each bag of words: common words over the log lengths, walked with restarts.

    ``weight[i, j] = |i & j| / (log(1 + |i|) + log(1 + |j|))`` is never laid out, as a long talk would fill the memory
    with it: a step passes what sentences of each length give to a word on to the sentences that have that word.
    """
    size = len(bags)
    numbers = {word: number for number, word in enumerate(dict.fromkeys(word for bag in bags for word in sorted(bag)))}
    counts = np.asarray([len(bag) for bag in bags])
    row = np.repeat(np.arange(size), counts)  # of each word of each sentence
    word = np.asarray([numbers[word] for bag in bags for word in sorted(bag)], np.int64)
    lengths, kind = np.unique(counts, return_inverse=True)
    logs = np.log1p(lengths)
    share = 1.0 / np.maximum(logs[:, None] + logs, 1e-12)
    shares, slot = share[kind[row]], word * len(lengths) + kind[row]
    itself = counts * share[kind, kind]

    def passed(values: NDArray[np.float64]) -> NDArray[np.float64]:
        """``weight @ values``."""
        at_word = np.bincount(slot, weights=values[row], minlength=len(numbers) * len(lengths))
        given = (at_word.reshape(-1, len(lengths))[word] * shares).sum(axis=1)
        return np.asarray(np.bincount(row, weights=given, minlength=size) - itself * values)

    total = np.maximum(passed(np.ones(size)), 1e-12)
    rank = np.full(size, 1.0 / size)
    for _ in range(_STEPS):
        rank = (1 - _DAMPING) / size + _DAMPING * passed(rank / total)
    return rank
