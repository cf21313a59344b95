"""The association graph: which memories of different sessions speak of the same, at any granularity.

MemGAS (arXiv 2505.19549), memory association, as released: a session has one node per granularity. When it is
added, each of its nodes is compared (inner product) with all nodes of *earlier* sessions, the best ``candidates``
scores are split by ``mixture.accept_set``, and the node is linked to those accepted. Nodes of the first sessions find
too few others to fit anything, and get links only from later ones.

Adding looks backwards only, so a graph built session by session is the one built at once; adding costs one product
with the nodes there are, never a rebuild. Removing a session drops its nodes and every edge that touches them; links
between others stay as they were fitted, though without it some would have been fitted to other candidates. Only
``truncate`` leaves the graph that there would be had the sessions never come.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lamina.errors import InvalidInput
from lamina.store.growing import Growing
from lamina.text.granularities.mixture import accept_sets

Edges = NDArray[np.int64]
Vectors = NDArray[np.float32]


class AssociationGraph:
    """Nodes in order of arrival: granularity ``g`` of the ``s``-th session is node ``s * width + g``."""

    def __init__(self, *, candidates: int = 30, first: int = 5, min_gap: float = 0.0) -> None:
        """``first`` sessions link to nothing themselves; ``min_gap`` as in ``mixture.accept_set``."""
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
        self.extend(np.asarray(vectors)[None])

    def extend(self, vectors: Vectors) -> None:
        """Append sessions (n, width, dimension) in order: ``add`` of each, with the mixtures fitted side by side."""
        if not len(self):
            self._width = vectors.shape[1]
            self._nodes = Growing(np.float32, row=(vectors.shape[2],))
        elif vectors.shape[1:] != (self._width, self.nodes.shape[1]):
            raise InvalidInput(
                f"vectors of shape {vectors.shape[1:]} do not fit the graph's ({self._width}, {self.nodes.shape[1]}): "
                "use one encoder for all sessions"
            )
        there = len(self)
        self._nodes.extend(vectors.reshape(-1, vectors.shape[2]))
        self._links += self._linked(range(there, there + len(vectors)))

    def truncate(self, size: int) -> None:
        """Keep the first ``size`` sessions: the graph as it was before the others came."""
        kept = self.nodes[: size * self._width].copy()
        self._nodes = Growing(np.float32, row=(kept.shape[1],))
        self._nodes.extend(kept)
        del self._links[size:]

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

    def _linked(self, places: range) -> list[Edges]:
        """The edges of each session of ``places`` to earlier ones."""
        found: list[Edges] = [np.empty((0, 2), np.int64) for _ in places]
        of_size: dict[int, list[tuple[int, Edges, Vectors]]] = {}  # by number of candidates: place, these, scores
        for place in places[max(0, self._first - places.start) :]:
            start = place * self._width
            scores = self.nodes[start : start + self._width] @ self.nodes[:start].T
            best = np.argsort(-scores, axis=1, kind="stable")[:, : self._candidates]
            of_size.setdefault(best.shape[1], []).append((place, best, np.take_along_axis(scores, best, axis=1)))
        for some in of_size.values():
            masks = accept_sets(np.concatenate([scores for _, _, scores in some]), min_gap=self._min_gap)
            for (place, best, _), taken in zip(some, np.split(masks, len(some)), strict=True):
                node, at = np.nonzero(taken)
                found[place - places.start] = np.column_stack([place * self._width + node, best[node, at]])
        return found
