"""BM25 over whole sessions: the granularity of single words, which no vector of a long text keeps.

Okapi BM25 (Robertson and Zaragoza, "The Probabilistic Relevance Framework", 2009) over the index terms of
``lamina.store.analysis``, with ``idf = ln(1 + (N - n + 0.5) / (n + 0.5))``. The store's own index scores turns in the
window of their neighbours; a session is a document here, and enters and leaves as one.
"""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
from numpy.typing import NDArray

from lamina.store.analysis import terms

K1, B = 1.2, 0.75  # the customary values; neither is tuned


class SessionWords:
    """Postings of sessions by place, from 0 in order of arrival."""

    def __init__(self) -> None:
        self._counts: list[Counter[str]] = []
        self._postings: dict[str, set[int]] = {}  # of numbers that stay, unlike places
        self._numbers: list[int] = []
        self._next = 0

    def __len__(self) -> int:
        return len(self._counts)

    def add(self, text: str) -> None:
        """Append a session."""
        counts = Counter(terms(text))
        for term in counts:
            self._postings.setdefault(term, set()).add(self._next)
        self._counts.append(counts)
        self._numbers.append(self._next)
        self._next += 1

    def remove(self, place: int) -> None:
        """Take a session out of all postings; later ones move up."""
        counts, number = self._counts.pop(place), self._numbers.pop(place)
        for term in counts:
            self._postings[term].discard(number)
            if not self._postings[term]:
                del self._postings[term]

    def truncate(self, size: int) -> None:
        """Keep the first ``size`` sessions."""
        for place in reversed(range(size, len(self))):
            self.remove(place)

    def frequency(self, term: str) -> int:
        """In how many sessions a term occurs."""
        return len(self._postings.get(term, ()))

    def scores(self, query: str) -> NDArray[np.float64]:
        """BM25 of every session, (sessions,); 0 for those without a common term."""
        places = {number: place for place, number in enumerate(self._numbers)}
        lengths = np.asarray([counts.total() for counts in self._counts], np.float64)
        norm = K1 * (1 - B + B * lengths / max(lengths.mean() if len(lengths) else 0.0, 1.0))
        total = np.zeros(len(self))
        for term in dict.fromkeys(terms(query)):
            rows = [places[number] for number in sorted(self._postings.get(term, ()))]
            if rows:
                count = np.asarray([self._counts[row][term] for row in rows], np.float64)
                total[rows] += self._idf(term) * count * (K1 + 1) / (count + norm[rows])
        return total

    def _idf(self, term: str) -> float:
        n = self.frequency(term)
        return math.log1p((len(self) - n + 0.5) / (n + 0.5))
