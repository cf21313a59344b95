"""mem0's published hybrid ranking, whole: cosine, BM25 through a sigmoid, and a boost by linked entities.

Mem0, arXiv 2504.19413, in the ranking its package carries since April 2026 (Apache-2.0):

* the pool is the ``max(4 k, 60)`` turns nearest by cosine; a cosine below 0.1 is dropped before fusion;
* BM25 becomes ``1 / (1 + exp(-a (x - b)))`` with (b, a) by the number of query terms: up to 3 (5, 0.7), 6 (7, 0.6),
  9 (9, 0.5), 15 (10, 0.5), beyond (12, 0.5); a turn without a common word has no lexical part;
* at most eight entities of the query are compared with the entities of all turns; from a cosine of 0.5 an entity
  lends the turns it is linked to ``0.5 sim / (1 + 0.001 (n - 1)^2)``, n being how many they are; the best counts;
* the score is ``min(1, (cosine + bm25 + entity) / (1 + [bm25] + 0.5 [entity]))``, brackets being 1 if any turn has
  such a part. Words and entities never propose a turn that cosine did not.

The package needs downloads for its keyword and entity parts, so that without a network it ranks by cosine alone.
Here both run: stems for lemmas, and names, quotes and keyphrases from Lamina's own reader for spaCy's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lamina.bench.conversations.baselines import ByScore, Found, Okapi, Ranker, Scores, line
from lamina.bench.conversations.dataset import Conversation, DialogueTurn
from lamina.llm.base import Embedder
from lamina.store.analysis import terms
from lamina.text.english.entities import entities, keywords, names_inside

_POOL, _FLOOR = 60, 0.1
_SIGMOID = ((3, 5.0, 0.7), (6, 7.0, 0.6), (9, 9.0, 0.5), (15, 10.0, 0.5))  # up to terms, midpoint, steepness
_LONG = (12.0, 0.5)
_QUERY_ENTITIES, _NEAR, _SAME = 8, 0.5, 0.95
_BOOST, _SPREAD = 0.5, 0.001


@contextmanager
def mem0_ranker(talk: Conversation, embedder: Embedder, folder: Path) -> Iterator[Ranker]:  # noqa: ARG001
    """The formulas above over verbatim turns."""
    yield Mem0Ranker(talk.turns, embedder)


class Mem0Ranker:
    def __init__(self, turns: Sequence[DialogueTurn], embedder: Embedder) -> None:
        lines = [line(turn) for turn in turns]
        self._turns = turns
        self._embedder = embedder
        self._vectors = embedder.encode(lines)
        self._okapi = Okapi([terms(text) for text in lines])
        self._links = EntityLinks(lines, embedder)

    def rank(self, query: str, k: int) -> list[Found]:
        """At most ``k`` turns; fewer where the pool's cosines are below the floor."""
        return ByScore(self._turns, lambda text: self.score(text, k)).rank(query, k)

    def score(self, query: str, k: int) -> Scores:
        """float64 ``(turns,)``, minus infinity outside the pool."""
        cosine = np.asarray(self._vectors @ self._embedder.encode([query])[0], np.float64)
        lexical = sigmoid(self._okapi.scores(terms(query)), len(terms(query)))
        entity = self._links.boosts(query, len(cosine))
        most = 1 + float(lexical.any()) + 0.5 * float(entity.any())
        score = np.minimum(1.0, (cosine + lexical + entity) / most)
        pool = np.argsort(-cosine, kind="stable")[: max(4 * k, _POOL)]
        inside = np.zeros(len(cosine), bool)
        inside[pool] = cosine[pool] >= _FLOOR
        return np.where(inside, score, -np.inf)


class EntityLinks:
    """Entities of texts, each with the texts it occurs in; nearly equal ones are one."""

    def __init__(self, texts: Sequence[str], embedder: Embedder) -> None:
        self._embedder = embedder
        self._known = frozenset().union(*(names_inside(text) for text in texts))
        names = [self._read(text) for text in texts]
        unique = list(dict.fromkeys(name for found in names for name in found))
        vectors = embedder.encode(unique)
        linked: list[set[int]] = []
        kept: list[int] = []
        place: dict[str, int] = {}
        for number, name in enumerate(unique):
            near = vectors[kept] @ vectors[number] if kept else np.zeros(0)
            if len(near) and near.max() >= _SAME:
                place[name] = int(near.argmax())
            else:
                place[name] = len(kept)
                kept.append(number)
                linked.append(set())
        for text, found in enumerate(names):
            for name in found:
                linked[place[name]].add(text)
        self._vectors = vectors[kept]
        self._linked = [np.array(sorted(texts), np.int64) for texts in linked]

    def boosts(self, query: str, texts: int) -> Scores:
        """float64 ``(texts,)`` in [0, 0.5]."""
        boost = np.zeros(texts)
        asked = list(self._read(query))[:_QUERY_ENTITIES]
        if not asked or not self._linked:
            return boost
        similar: NDArray[np.float32] = self._embedder.encode(asked) @ self._vectors.T
        for name, number in zip(*np.nonzero(similar >= _NEAR), strict=True):
            rows = self._linked[number]
            value = _BOOST * float(similar[name, number]) / (1 + _SPREAD * (len(rows) - 1) ** 2)
            boost[rows] = np.maximum(boost[rows], value)
        return boost

    def _read(self, text: str) -> dict[str, None]:
        """Normalised names and phrases, in order."""
        phrases = [phrase for phrase in keywords(text) if " " in phrase]
        return dict.fromkeys(name.casefold() for name in (*entities(text, known=self._known), *phrases))


def sigmoid(bm25: Scores, query_terms: int) -> Scores:
    """BM25 scores to (0, 1); zero stays zero: no common word."""
    middle, slope = next(((b, a) for most, b, a in _SIGMOID if query_terms <= most), _LONG)
    return np.where(bm25 > 0, 1 / (1 + np.exp(-slope * (bm25 - middle))), 0.0)
