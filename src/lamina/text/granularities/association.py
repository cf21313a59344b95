"""The association graph: which memories of different sessions speak of the same, at any granularity.

MemGAS (arXiv 2505.19549), memory association, as released: a session has one node per granularity. When it is
added, each of its nodes is compared (inner product) with all nodes of *earlier* sessions, the best ``candidates``
scores are split by ``accept_set``, and the node is linked to those accepted. Nodes of the first sessions find too
few others to fit anything, and get links only from later ones.

Adding looks backwards only, so a graph built session by session is the one built at once; adding costs one product
with the nodes there are, never a rebuild. Removing a session drops its nodes and every edge that touches them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lamina.errors import InvalidInput
from lamina.store.growing import Growing
from lamina.text.granularities.mixture import accept_set

Edges = NDArray[np.int64]
Vectors = NDArray[np.float32]


class AssociationGraph:
    """Nodes in order of arrival: granularity ``g`` of the ``s``-th session is node ``s * width + g``."""

    def __init__(self, *, candidates: int = 30, first: int = 5, min_gap: float = 0.0) -> None:
        """``first`` sessions link to nothing themselves; ``min_gap`` as in ``accept_set``."""
        if candidates < 1 or first < 1:
            raise InvalidInput(f"candidates={candidates!r}, first={first!r}: both must be at least 1")
        self._candidates = candidates
        self._first = first
        self._min_gap = min_gap
        self._width = 0
        self._links: list[Edges] = []  # for each session, (m, 2): its node and that of an earlier session
        self._nodes = Growing(np.float32, row=(0,))

    def __len__(self) -> int:
        return len(self._links)

    @property
    def nodes(self) -> Vectors:
        """float32 (sessions * width, dimension)."""
        return np.asarray(self._nodes.array)

    @property
    def edges(self) -> Edges:
        """int64 (m, 2): the later node, the earlier node."""
        return np.concatenate(self._links) if self._links else np.empty((0, 2), np.int64)

    def add(self, vectors: Vectors) -> None:
        """Append a session by its nodes' vectors (width, dimension). Raises ``InvalidInput`` for another shape."""
        if not len(self):
            self._width = len(vectors)
            self._nodes = Growing(np.float32, row=(vectors.shape[1],))
        elif vectors.shape != (self._width, self.nodes.shape[1]):
            raise InvalidInput(
                f"vectors of shape {vectors.shape} do not fit the graph's ({self._width}, {self.nodes.shape[1]}): "
                "use one encoder for all sessions"
            )
        self._links.append(self._link(vectors))
        self._nodes.extend(vectors)

    def remove(self, place: int) -> None:
        """Drop the session at ``place``, its edges and its vectors; the others keep their order."""
        start, stop = place * self._width, (place + 1) * self._width
        kept = np.delete(self.nodes, np.s_[start:stop], axis=0)
        self._nodes = Growing(np.float32, row=(kept.shape[1],))
        self._nodes.extend(kept)
        del self._links[place]
        for at, links in enumerate(self._links):
            links = links[((links < start) | (links >= stop)).all(axis=1)]
            self._links[at] = np.where(links >= stop, links - self._width, links)

    def _link(self, vectors: Vectors) -> Edges:
        there = len(self._nodes)
        if len(self) < self._first:
            return np.empty((0, 2), np.int64)
        found = []
        for node, scores in enumerate(vectors @ self.nodes.T, start=there):
            best = np.argsort(-scores, kind="stable")[: self._candidates]
            taken = best[accept_set(scores[best], min_gap=self._min_gap)]
            found.append(np.column_stack([np.full(len(taken), node), taken]))
        return np.concatenate(found).astype(np.int64)
