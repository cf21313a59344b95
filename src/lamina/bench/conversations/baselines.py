"""What a memory has to beat on conversations: free rankers by words, by meaning, by both, and mem0 itself.

Every ranker is built over one conversation and returns distinct turns, best first. All of them get the
same line per turn, ``Speaker: text`` with image captions, and the encoder that Lamina uses.

The hybrid with mem0's published ranking formulas has a file of its own, ``mem0_ranking``.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from lamina._optional import require
from lamina.bench.conversations.dataset import Conversation, DialogueTurn
from lamina.bench.mem0_peer import open_mem0
from lamina.llm.base import Embedder
from lamina.store.analysis import terms

Scores = NDArray[np.float64]

_WORD = re.compile(r"\w+")
_RRF = 60  # Cormack et al., "Reciprocal Rank Fusion outperforms Condorcet", SIGIR 2009
_CONTEXT = (0.2, 0.6, 0.2)  # weights of the turn before, the turn, and the turn after
_LEXICAL = 0.5  # of the best BM25 score, beside a cosine


@dataclass(frozen=True, slots=True)
class Found:
    """A turn that was found, and the text that the hit hands to a prompt."""

    dia_id: str
    text: str


class Ranker(Protocol):
    def rank(self, query: str, k: int) -> list[Found]:
        """At most ``k`` distinct turns, best first."""


Build = Callable[[Conversation, Embedder, Path], AbstractContextManager[Ranker]]


def line(turn: DialogueTurn) -> str:
    """A turn as every baseline indexes it and hands it to a prompt: with who spoke, where the data has names."""
    return turn.text if turn.speaker == turn.role else f"{turn.speaker}: {turn.text}"


def distinct_turns(search: Callable[[int], Sequence[Sequence[Found]]], k: int) -> list[Found]:
    """The first ``k`` distinct turns of ``search(n)``, asking for more hits while they share turns.

    ``search`` returns at most ``n`` hits, each as the turns it stands for.
    """
    ask = k
    while True:
        hits = search(ask)
        first: dict[str, Found] = {}
        for hit in hits:
            for turn in hit:
                first.setdefault(turn.dia_id, turn)
        if len(first) >= k or len(hits) < ask:
            return list(first.values())[:k]
        ask *= 2


class ByScore:
    """Ranks turns by a score each; ties go to the earlier turn, and minus infinity is left out."""

    def __init__(self, turns: Sequence[DialogueTurn], score: Callable[[str], Any]) -> None:
        self._turns = turns
        self._score = score

    def rank(self, query: str, k: int) -> list[Found]:
        scores = np.asarray(self._score(query), np.float64)
        order = np.argsort(-scores, kind="stable")[:k]
        return [Found(self._turns[i].dia_id, line(self._turns[i])) for i in order if scores[i] > -np.inf]


class Okapi:
    """BM25 over documents of index terms: ``idf = ln(1 + (N - n + 0.5) / (n + 0.5))``, k1 1.2, b 0.75.

    Written out plainly and apart from ``lamina.store.lexical``, so that it can stand beside it as a peer.
    """

    def __init__(self, documents: Sequence[Sequence[str]], *, k1: float = 1.2, b: float = 0.75) -> None:
        lengths = np.array([len(document) for document in documents], np.float64)
        self._damping = k1 * (1 - b + b * lengths / max(lengths.mean(), 1.0))
        self._k1 = k1
        postings: dict[str, list[tuple[int, int]]] = {}
        for place, document in enumerate(documents):
            for term, count in Counter(document).items():
                postings.setdefault(term, []).append((place, count))
        self._postings = {term: np.array(found).T for term, found in postings.items()}

    def scores(self, query: Sequence[str]) -> Scores:
        """float64 ``(documents,)``; a term that the query repeats counts once."""
        total = np.zeros(len(self._damping))
        for term in dict.fromkeys(query):
            if term in self._postings:
                places, counts = self._postings[term]
                idf = np.log1p((len(total) - len(places) + 0.5) / (len(places) + 0.5))
                total[places] += idf * counts * (self._k1 + 1) / (counts + self._damping[places])
        return total


# -- by words, by meaning ------------------------------------------------------------------------


@contextmanager
def bm25(talk: Conversation, embedder: Embedder, folder: Path) -> Iterator[Ranker]:  # noqa: ARG001 - the common signature
    """Okapi BM25 as ``rank-bm25`` computes it with its own defaults (k1 1.5, b 0.75), on lower-cased words."""
    okapi = require("rank_bm25", "the BM25 baseline").BM25Okapi([_words(line(turn)) for turn in talk.turns])
    yield ByScore(talk.turns, lambda query: okapi.get_scores(_words(query)))


@contextmanager
def bm25_stemmed(talk: Conversation, embedder: Embedder, folder: Path) -> Iterator[Ranker]:  # noqa: ARG001
    """BM25 over Lamina's own index terms: Porter stems, stop words out, k1 1.2, b 0.75."""
    okapi = Okapi([terms(line(turn)) for turn in talk.turns])
    yield ByScore(talk.turns, lambda query: okapi.scores(terms(query)))


@contextmanager
def dense(talk: Conversation, embedder: Embedder, folder: Path) -> Iterator[Ranker]:  # noqa: ARG001
    """Cosine between the question and each turn: what a plain vector store does."""
    vectors = embedder.encode([line(turn) for turn in talk.turns])
    yield ByScore(talk.turns, lambda query: vectors @ embedder.encode([query])[0])


# -- by both -------------------------------------------------------------------------------------


@contextmanager
def rrf(talk: Conversation, embedder: Embedder, folder: Path) -> Iterator[Ranker]:  # noqa: ARG001
    """Reciprocal rank fusion (constant 60) of ``dense`` and ``bm25-stemmed``, over all turns."""
    vectors = embedder.encode([line(turn) for turn in talk.turns])
    okapi = Okapi([terms(line(turn)) for turn in talk.turns])

    def score(query: str) -> Scores:
        return _reciprocal(vectors @ embedder.encode([query])[0]) + _reciprocal(okapi.scores(terms(query)))

    yield ByScore(talk.turns, score)


@contextmanager
def plain_hybrid(talk: Conversation, embedder: Embedder, folder: Path) -> Iterator[Ranker]:  # noqa: ARG001
    """Cosine and half of relative BM25, both over a turn with its two neighbours in the session.

    The vector is ``0.6 e[i] + 0.2 e[i-1] + 0.2 e[i+1]``, normalised; the document is the three turns. No
    speakers, times or facts: what remains of the default ranking without all it knows of conversations.
    """
    vectors = np.asarray(embedder.encode([line(turn) for turn in talk.turns]), np.float64)
    words = [terms(line(turn)) for turn in talk.turns]
    context = np.zeros_like(vectors)
    documents: list[list[str]] = []
    for place in range(len(talk.turns)):
        documents.append([])
        for other, weight in zip(range(place - 1, place + 2), _CONTEXT, strict=True):
            if 0 <= other < len(words) and talk.turns[other].session == talk.turns[place].session:
                context[place] += weight * vectors[other]
                documents[-1] += words[other]
    context /= np.linalg.norm(context, axis=1, keepdims=True)
    okapi = Okapi(documents)

    def score(query: str) -> Scores:
        lexical = okapi.scores(terms(query))
        best = lexical.max(initial=0.0)
        cosine: Scores = context @ embedder.encode([query])[0]
        return cosine + _LEXICAL * lexical / best if best > 0 else cosine

    yield ByScore(talk.turns, score)


# -- a peer, and chance --------------------------------------------------------------------------


@contextmanager
def mem0ai(talk: Conversation, embedder: Embedder, folder: Path) -> Iterator[Ranker]:
    """The mem0 package with ``infer=False``, one ``add`` a turn; its metadata names the turn."""
    with open_mem0(folder, embedder) as memory:
        for turn in talk.turns:
            message = {"role": turn.role, "name": turn.speaker, "content": line(turn)}
            memory.add([message], user_id=talk.name, metadata={"dia_id": turn.dia_id}, infer=False)
        yield _Mem0(memory, talk.name)


@contextmanager
def chance(talk: Conversation, embedder: Embedder, folder: Path) -> Iterator[Ranker]:  # noqa: ARG001
    """A random order, another one for every question and the same on every run: what a number means at all."""

    def score(query: str) -> Scores:
        seed = int.from_bytes(sha256(f"{talk.name}\0{query}".encode()).digest()[:8], "big")
        return np.random.default_rng(seed).random(len(talk.turns))

    yield ByScore(talk.turns, score)


class _Mem0:
    def __init__(self, memory: Any, user: str) -> None:
        self._memory = memory
        self._user = user

    def rank(self, query: str, k: int) -> list[Found]:
        return distinct_turns(lambda n: self._search(query, n), k)

    def _search(self, query: str, n: int) -> list[list[Found]]:
        rows = self._memory.search(query, filters={"user_id": self._user}, top_k=n)["results"]
        return [[Found(row["metadata"]["dia_id"], row["memory"])] for row in rows]


def _reciprocal(scores: Scores) -> Scores:
    ranks = np.empty(len(scores))
    ranks[np.argsort(-scores, kind="stable")] = np.arange(1, len(scores) + 1)
    return np.asarray(1.0 / (_RRF + ranks))


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())
