"""Nearest vectors: exact while that is fast, a navigable small-world graph above, one contract.

Up to ``exact_rows`` vectors a query is one matrix-vector product (BLAS). Above, an HNSW graph (Malkov and
Yashunin, arXiv 1603.09320, through usearch) proposes candidates from 8-bit copies, and their similarity is
computed again from the float32 rows, so scores are exact everywhere and only membership is approximate.
8 bits rather than 16: a graph over 100 000 vectors of 384 builds 2.6 times faster and takes half the
memory, at the same recall once rescored.

The graph is built in slices as rows arrive, so that no single write pays for it; rows it does not cover
yet are scanned exactly.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from usearch.index import Index

from lamina.errors import InvalidInput
from lamina.store.base import Vector
from lamina.store.growing import Growing

Rows = NDArray[np.int64]
Mask = NDArray[np.bool_]

EXACT_ROWS = 50_000  # one core scans this many vectors of 384 in 6.6 ms
_SLICE = 1_024  # rows that a small write adds to the graph, until it has caught up: 0.2 s
_MOST_FETCHED = 4_096  # a filter that would need more candidates than this is cheaper to scan
_BLOCK = 64  # queries compared at once: bounds the memory of their similarities
_BREADTH = 128  # candidates the graph search keeps (HNSW's ef)


class VectorIndex:
    """Unit vectors by row number, from 0 in order of arrival. Not locked: ``ScopeIndex`` does that."""

    def __init__(self, *, exact_rows: int = EXACT_ROWS) -> None:
        self._matrix = Growing(np.float32, row=(0,))
        self._graph: Any = None
        self._covered = 0
        self._exact_rows = exact_rows

    def __len__(self) -> int:
        return len(self._matrix)

    @property
    def dimension(self) -> int:
        """0 until the first vector arrives."""
        return int(self._matrix.array.shape[1])

    def extend(self, vectors: Sequence[Vector | None]) -> None:
        """Append rows. A missing vector, or one of another embedder's dimension, becomes zeros: never similar."""
        if not self.dimension:
            first = next((v for v in vectors if v is not None), None)
            if first is not None:
                self._matrix = Growing.over(np.zeros((len(self), len(first)), np.float32))
        rows = np.zeros((len(vectors), self.dimension), np.float32)
        for place, vector in enumerate(vectors):
            if vector is not None and len(vector) == self.dimension:
                rows[place] = vector
        self._matrix.extend(rows)
        self._grow_graph(len(vectors))

    def replace(self, row: int, vector: Vector) -> None:
        """A row's vector computed anew; nothing happens if it is the same."""
        if np.array_equal(self._matrix.array[row], vector):
            return
        self._matrix.array[row] = vector
        if self._graph is not None and row < self._covered:
            self._graph.remove(row)
            self._graph.add(row, vector)

    def erase(self, row: int) -> None:
        """Overwrite a row with zeros, in the graph too."""
        self._matrix.array[row] = 0.0
        if self._graph is not None and row < self._covered:
            self._graph.remove(row)

    def search(self, query: Vector, k: int, allowed: Mask | None = None) -> tuple[Rows, NDArray[np.float32]]:
        """The ``k`` most similar rows among ``allowed`` (bool per row) and their cosines, best first, ties by row.

        Never fewer than ``k`` if that many are allowed. Raises ``InvalidInput`` for a vector of another dimension.
        """
        if self.dimension and np.shape(query) != (self.dimension,):
            raise InvalidInput(
                f"query vector has shape {np.shape(query)}, the index holds vectors of {self.dimension}: "
                "encode it with the embedder the memories were stored with"
            )
        if not self.dimension or k < 1:
            return np.empty(0, np.int64), np.empty(0, np.float32)
        rows = self._candidates(query, k, allowed)
        similarity = self.similarities(query, rows)
        best = np.lexsort((rows, -similarity))[:k]
        return rows[best], similarity[best]

    def search_many(self, queries: Vector, k: int, allowed: Mask) -> list[tuple[Rows, NDArray[np.float32]]]:
        """``search`` for each row of ``queries`` (m, d): one matrix product a block while the scan is exact."""
        rows = np.flatnonzero(allowed)
        if len(rows) > self._exact_rows or not self.dimension:
            return [self.search(query, k, allowed) for query in queries]
        here = np.ascontiguousarray(self._matrix.array[rows])
        found = []
        for start in range(0, len(queries), _BLOCK):
            for similarity in queries[start : start + _BLOCK] @ here.T:
                best = np.argpartition(-similarity, k)[:k] if len(rows) > k else np.arange(len(rows))
                best = best[np.lexsort((rows[best], -similarity[best]))]
                found.append((rows[best], similarity[best]))
        return found

    def similarities(self, query: Vector, rows: Rows) -> NDArray[np.float32]:
        """Exact cosines of given rows."""
        if not self.dimension:
            return np.zeros(len(rows), np.float32)
        if len(rows) == len(self):
            return np.asarray((self._matrix.array @ query)[rows])
        return np.asarray(self._matrix.array[rows] @ query)

    def _candidates(self, query: Vector, k: int, allowed: Mask | None) -> Rows:
        """A superset of the answer (exact), or near enough (graph)."""
        count = len(self) if allowed is None else int(np.count_nonzero(allowed))
        if allowed is not None and count <= max(k, self._exact_rows // 8):
            return np.flatnonzero(allowed)
        fetch = math.ceil(1.2 * k * len(self) / max(count, 1))
        if self._graph is not None and fetch <= _MOST_FETCHED:
            near = self._graph.search(query, fetch).keys.astype(np.int64)
            rows = np.concatenate([near, self._best_of_scan(query, k, self._covered, allowed)])
            rows = rows if allowed is None else rows[allowed[rows]]
            if len(rows) >= k:
                return rows
        return self._best_of_scan(query, k, 0, allowed)

    def _best_of_scan(self, query: Vector, k: int, start: int, allowed: Mask | None) -> Rows:
        """The ``k`` best allowed rows from ``start`` on by exact scan, with all that tie with the last."""
        similarity = self._matrix.array[start:] @ query
        if allowed is not None:
            similarity[~allowed[start:]] = -np.inf
        if len(similarity) > k:
            floor = np.partition(similarity, len(similarity) - k)[len(similarity) - k]
            return np.flatnonzero(similarity >= max(floor, np.float32(-2))) + start
        return np.flatnonzero(similarity > -np.inf) + start

    def _grow_graph(self, appended: int) -> None:
        if len(self) <= self._exact_rows or not self.dimension:
            return
        if self._graph is None:
            self._graph = _new_graph(self.dimension)
        stop = min(len(self), self._covered + 4 * appended + _SLICE)
        self._graph.add(np.arange(self._covered, stop), self._matrix.array[self._covered : stop])
        self._covered = stop

    # -- snapshots -------------------------------------------------------------------------------

    def save(self, folder: Path) -> None:
        """Write ``vectors.npy`` and, where there is one, ``graph.usearch`` into ``folder``."""
        np.save(folder / "vectors.npy", self._matrix.array, allow_pickle=False)
        if self._graph is not None:
            self._graph.save(str(folder / "graph.usearch"))

    @classmethod
    def load(cls, folder: Path) -> VectorIndex:
        """What ``save`` wrote, the matrix memory-mapped (copy on write). Raises ``OSError`` or ``ValueError``."""
        index = cls()
        index._matrix = Growing.over(np.load(folder / "vectors.npy", mmap_mode="c", allow_pickle=False))
        if (folder / "graph.usearch").exists():
            index._graph = _new_graph(index.dimension)
            index._graph.load(str(folder / "graph.usearch"))
            index._covered = int(index._graph.size)
        return index


def _new_graph(dimension: int) -> Any:
    return Index(ndim=dimension, metric="ip", dtype="i8", connectivity=16, expansion_add=64, expansion_search=_BREADTH)
