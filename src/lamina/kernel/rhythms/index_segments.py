"""A vector index in immutable segments: writers build new ones, readers search a tuple that never changes.

The log-structured merge idea (O'Neil et al., 1996) over ``VectorIndex``: a small segment a sequence, merged into
larger ones by slower levels. Segments are derived from the store, which is the only truth.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lamina.store.base import Vector
from lamina.store.vectors import VectorIndex


@dataclass(frozen=True, slots=True)
class Segment:
    """Memories with their vectors: ``vectors`` (m, d) float32 of unit norm."""

    ids: tuple[str, ...]
    vectors: NDArray[np.float32]
    index: VectorIndex

    @classmethod
    def of(cls, ids: Sequence[str], vectors: NDArray[np.float32]) -> Segment:
        index = VectorIndex()
        index.extend(list(vectors))
        return cls(tuple(ids), vectors, index)


@dataclass(frozen=True, slots=True)
class Segments:
    """A version of the index. Every method returns a new version; publishing one is a pointer swap."""

    parts: tuple[Segment, ...] = ()

    def __len__(self) -> int:
        return sum(len(part.ids) for part in self.parts)

    def added(self, ids: Sequence[str], vectors: Sequence[Vector]) -> Segments:
        return Segments((*self.parts, Segment.of(ids, np.stack(vectors)))) if ids else self

    def merged(self, least: int) -> Segments:
        """The trailing segments of fewer than ``least`` memories as one; older, larger ones are not rewritten."""
        start = len(self.parts)
        while start and len(self.parts[start - 1].ids) < least:
            start -= 1
        small = self.parts[start:]
        if len(small) < 2:
            return self
        ids = [id for part in small for id in part.ids]
        return Segments((*self.parts[:start], Segment.of(ids, np.concatenate([part.vectors for part in small]))))

    def search(self, query: Vector, k: int) -> list[tuple[str, float]]:
        """The ``k`` nearest memories with their cosines, best first."""
        found: list[tuple[float, str]] = []
        for part in self.parts:
            rows, cosines = part.index.search(query, k)
            found += [(-float(cosine), part.ids[row]) for row, cosine in zip(rows.tolist(), cosines, strict=True)]
        return [(id, -negative) for negative, id in sorted(found)[:k]]
