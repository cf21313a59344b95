"""BM25 over the texts of one scope, with each text read in the window of its neighbours.

Okapi BM25 (Robertson and Zaragoza, "The Probabilistic Relevance Framework", 2009) with
``idf = ln(1 + (N - n + 0.5) / (n + 0.5))``, which is never negative. Statistics are those of the scope alone,
never of other tenants. Own code for two reasons: SQLite's FTS5 floors the idf of common words and counts
all tenants' rows; and a turn of a dialogue is only understood with the turns around it, so a row's term
frequency is ``tf' = tf + sum_d w_d tf(neighbour d)``, its length likewise. The window is formed at query time:
the next turn changes no stored posting.

Storage: term ids and counts per text (forward), and inverted runs over ranges of texts that are merged as
they age, like a log-structured tree (O'Neil et al., 1996): appending is cheap, and a query reads few runs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamina.store.growing import Growing

Rows = NDArray[np.int64]
Scores = NDArray[np.float64]

K1, B = 1.2, 0.75  # the customary values; neither is tuned
CONTEXT = (0.25, 0.5, 0.5, 0.25)  # weight of the turns at -2, -1, +1, +2
_OPPOSITE = (3, 2, 1, 0)  # whose neighbour at -2 am I? That of the row at my +2
_RUN = 2_048  # texts that are scanned before they become a run
_BUDGET = 20_000  # postings that may propose rows; more frequent terms only score them


@dataclass(frozen=True, slots=True)
class _Run:
    """Postings of the texts ``[start, stop)``: those of ``terms[i]`` lie at ``offsets[i]:offsets[i + 1]``."""

    start: int
    stop: int
    terms: NDArray[np.int32]
    offsets: NDArray[np.int64]
    rows: NDArray[np.int32]
    counts: NDArray[np.float32]

    def slice(self, term: int) -> slice:
        place = int(np.searchsorted(self.terms, term))
        if place == len(self.terms) or self.terms[place] != term:
            return slice(0, 0)
        return slice(int(self.offsets[place]), int(self.offsets[place + 1]))


class LexicalIndex:
    """Texts by row number, from 0 in order of arrival. Not locked: ``ScopeIndex`` does that.

    ``neighbours`` in calls is int32 ``(rows, 4)``: the rows at -2, -1, +1, +2 in the same session, -1 for none.
    """

    def __init__(self) -> None:
        self._vocabulary: dict[str, int] = {}
        self._terms = Growing(np.int32)
        self._counts = Growing(np.float32)
        self._starts = Growing.over(np.zeros(1, np.int64))
        self._length = Growing(np.float64)
        self._window = Growing(np.float64)
        self._frequency = Growing(np.int64)  # texts that hold a term
        self._runs: list[_Run] = []
        self._live = 0
        self._window_total = 0.0

    def __len__(self) -> int:
        return len(self._length)

    def extend(self, texts: Iterable[Sequence[str]]) -> None:
        """Append texts, each given as its index terms; ``refresh`` must follow."""
        ids: list[int] = []
        counts: list[int] = []
        lengths: list[int] = []
        ends: list[int] = []
        base = len(self._terms)
        for text in texts:
            for term, count in Counter(text).items():
                ids.append(self._vocabulary.setdefault(term, len(self._vocabulary)))
                counts.append(count)
            lengths.append(len(text))
            ends.append(base + len(ids))
        self._frequency.extend(np.zeros(len(self._vocabulary) - len(self._frequency), np.int64))
        np.add.at(self._frequency.array, np.asarray(ids, np.int64), 1)
        self._terms.extend(ids)
        self._counts.extend(counts)
        self._starts.extend(ends)
        self._length.extend(lengths)
        self._window.extend(np.zeros(len(lengths)))
        self._live += len(lengths)
        self._fold_tail()

    def refresh(self, rows: Rows, neighbours: NDArray[np.int32]) -> None:
        """Recompute the window lengths of ``rows``: new ones, and those whose neighbours changed."""
        length = np.append(self._length.array, 0.0)  # the neighbour -1 has no length
        window = self._length.array[rows] + length[neighbours[rows]] @ np.asarray(CONTEXT)
        self._window_total += float(window.sum() - self._window.array[rows].sum())
        self._window.array[rows] = window

    def erase(self, row: int) -> None:
        """Take a text out of all statistics and postings; ``refresh`` of its neighbours must follow."""
        place = slice(int(self._starts.array[row]), int(self._starts.array[row + 1]))
        ids = self._terms.array[place]
        self._frequency.array[ids] -= 1
        for run in self._runs:
            if run.start <= row < run.stop:
                for term in ids.tolist():
                    part = run.slice(term)
                    run.counts[part][np.searchsorted(run.rows[part], row)] = 0.0
        self._counts.array[place] = 0.0
        self._window_total -= float(self._window.array[row])
        self._length.array[row] = self._window.array[row] = 0.0
        self._live -= 1

    def known(self, terms: Iterable[str]) -> list[int]:
        """Ids of the distinct ``terms`` that occur in the scope, rarest first."""
        ids = {self._vocabulary[term] for term in terms if term in self._vocabulary}
        present = [term for term in ids if self._frequency.array[term] > 0]
        return sorted(present, key=lambda term: (int(self._frequency.array[term]), term))

    def find(self, ids: Sequence[int], k: int, neighbours: NDArray[np.int32], allowed: NDArray[np.bool_]) -> Rows:
        """Up to ``k`` allowed rows of the highest score, in no order.

        Exact while the terms have no more than 20 000 postings together; beyond that the rarest terms choose.
        """
        total = np.zeros(len(self))
        frequency = np.zeros(len(self))
        spent = 0
        for term, idf in zip(ids, self._idf(ids).tolist(), strict=True):
            spent += int(self._frequency.array[term])
            if spent > _BUDGET and spent > self._frequency.array[term]:
                break
            touched = self._spread(term, frequency, neighbours)
            total[touched] = total[touched] + idf * self._saturate(frequency[touched], touched)  # repeats agree
            frequency[touched] = 0.0
        rows = np.flatnonzero(total)
        rows = rows[allowed[rows]]
        return rows if len(rows) <= k else rows[np.argpartition(-total[rows], k - 1)[:k]]

    def score(self, ids: Sequence[int], rows: Rows, neighbours: NDArray[np.int32]) -> Scores:
        """BM25 of ``rows`` over their windows, all terms counted."""
        if not len(ids) or not len(rows):
            return np.zeros(len(rows))
        slots = np.concatenate([rows[:, None], neighbours[rows]], axis=1)
        texts, place = np.unique(slots, return_inverse=True)
        table = self._frequencies(ids, texts)[place.reshape(slots.shape)]  # (rows, 5, terms)
        window = np.einsum("rst,s->rt", table, np.asarray((1.0, *CONTEXT)))
        return np.asarray(self._saturate(window, rows[:, None]) @ self._idf(ids))

    def _idf(self, ids: Sequence[int]) -> Scores:
        n = self._frequency.array[np.asarray(ids, np.int64)]
        return np.asarray(np.log1p((self._live - n + 0.5) / (n + 0.5)))

    def _saturate(self, frequency: Scores, rows: Rows) -> Scores:
        mean = self._window_total / max(self._live, 1) or 1.0
        return np.asarray(frequency * (K1 + 1) / (frequency + K1 * (1 - B + B * self._window.array[rows] / mean)))

    def _spread(self, term: int, frequency: Scores, neighbours: NDArray[np.int32]) -> Rows:
        """Add the windowed counts of a term into ``frequency``; the rows touched (with repeats).

        A row is the neighbour at distance d of one row at most, so each indexed addition has no repeats.
        """
        rows, counts = self._postings(term)
        frequency[rows] += counts
        touched = [rows]
        for distance, weight in enumerate(CONTEXT):
            target = neighbours[rows, _OPPOSITE[distance]]
            there = target >= 0
            target = target[there]
            frequency[target] += weight * counts[there]
            touched.append(target)
        return np.concatenate(touched)

    def _postings(self, term: int) -> tuple[Rows, NDArray[np.float32]]:
        parts = [(run, run.slice(term)) for run in self._runs]
        begin = self._runs[-1].stop if self._runs else 0
        first = int(self._starts.array[begin])
        tail = np.flatnonzero(self._terms.array[first:] == term) + first
        tail_rows = np.searchsorted(self._starts.array, tail, side="right") - 1
        return (
            np.concatenate([*(run.rows[part] for run, part in parts), tail_rows]).astype(np.int64),
            np.concatenate([*(run.counts[part] for run, part in parts), self._counts.array[tail]]),
        )

    def _frequencies(self, ids: Sequence[int], texts: Rows) -> Scores:
        """Counts of each term in each text ``(texts, terms)``; the text -1 is empty."""
        column = np.full(len(self._vocabulary), -1)
        column[np.asarray(ids, np.int64)] = np.arange(len(ids))
        real = np.maximum(texts, 0)
        begin = self._starts.array[real]
        size = np.where(texts < 0, 0, self._starts.array[real + 1] - begin)
        owner = np.repeat(np.arange(len(texts)), size)
        place = np.arange(len(owner)) - np.repeat(np.cumsum(size) - size, size) + np.repeat(begin, size)
        columns = column[self._terms.array[place]]
        hit = columns >= 0
        table = np.zeros((len(texts), len(ids)))
        table[owner[hit], columns[hit]] = self._counts.array[place[hit]]
        return table

    def _fold_tail(self) -> None:
        """Turn the unsorted tail into a run, and merge runs while the last is at least half its elder."""
        start = self._runs[-1].stop if self._runs else 0
        if len(self) - start < _RUN:
            return
        while self._runs and self._runs[-1].stop - self._runs[-1].start <= 2 * (len(self) - start):
            start = self._runs.pop().start
        self._runs.append(self._run(start, len(self)))

    def _run(self, start: int, stop: int) -> _Run:
        begin, end = int(self._starts.array[start]), int(self._starts.array[stop])
        ids = self._terms.array[begin:end]
        order = np.argsort(ids, kind="stable")
        sizes = np.diff(self._starts.array[start : stop + 1])
        rows = np.repeat(np.arange(start, stop, dtype=np.int32), sizes)[order]
        terms, offsets = np.unique(ids[order], return_index=True)
        return _Run(start, stop, terms, np.append(offsets, end - begin), rows, self._counts.array[begin:end][order])

    # -- snapshots -------------------------------------------------------------------------------

    def save(self, folder: Path) -> None:
        """Write the vocabulary and the arrays, postings merged into one run, into ``folder``."""
        run = self._run(0, len(self))
        words = "\n".join(self._vocabulary)
        (folder / "vocabulary.txt").write_text(words, encoding="utf-8")
        arrays = {
            "terms": self._terms.array,
            "counts": self._counts.array,
            "starts": self._starts.array,
            "length": self._length.array,
            "window": self._window.array,
            "frequency": self._frequency.array,
            "run_terms": run.terms,
            "run_offsets": run.offsets,
            "run_rows": run.rows,
            "run_counts": run.counts,
        }
        for name, array in arrays.items():
            np.save(folder / f"lexical_{name}.npy", array, allow_pickle=False)

    @classmethod
    def load(cls, folder: Path) -> LexicalIndex:
        """What ``save`` wrote, memory-mapped (copy on write). Raises ``OSError`` or ``ValueError``."""

        def read(name: str) -> NDArray[Any]:
            return np.asarray(np.load(folder / f"lexical_{name}.npy", mmap_mode="c", allow_pickle=False))

        index = cls()
        words = (folder / "vocabulary.txt").read_text(encoding="utf-8")
        index._vocabulary = {word: place for place, word in enumerate(words.split("\n") if words else [])}
        for name in ("terms", "counts", "starts", "length", "window", "frequency"):
            setattr(index, f"_{name}", Growing.over(read(name)))
        if len(index._frequency) != len(index._vocabulary):
            raise ValueError("the vocabulary and its statistics differ in size")
        index._runs = [_Run(0, len(index), *(read(f"run_{n}") for n in ("terms", "offsets", "rows", "counts")))]
        index._live = len(index)
        index._window_total = float(index._window.array.sum())
        return index
