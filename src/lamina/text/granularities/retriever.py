"""Sessions first, then what was said in them: MemGAS as the ``Retriever`` of ``Memory(pipeline="memgas")``.

``HybridRetriever`` proposes turns with their facts and scores them; MemGAS scores the sessions they are from, and each
hit gets one more part:

* ``memgas``  its session's score relative to the best session's, times 1/10; 0 for sessions below the average.

So a turn that says little by itself is raised by the session it belongs to, and one that merely sounds right is
doubted. What was superseded stays behind what replaced it. A filter (``allow``) chooses among turns, not among the
words of a session. The sessions of a scope live as long as its index does, and follow it
(``granularities.following``): whoever drops indexes, as forgetting does, drops them too.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from lamina.cube.cube import Scope
from lamina.errors import NotFound
from lamina.llm.base import Embedder
from lamina.store.base import Store
from lamina.store.index import IndexCache, ScopeIndex
from lamina.text.base import Hit
from lamina.text.granularities.following import FollowedSessions, SessionVectors, session_name
from lamina.text.granularity import Recipe
from lamina.text.retrieval import HybridRetriever

SESSION = 0.1  # chosen with the recipe's numbers: a hint, as turns are ranked well already; 1/4 does harm
_POOL = 100  # turns whose order the sessions may change, or 4 k
_MARGIN = 1e-6  # by which a successor is placed before what it superseded


@dataclass(frozen=True, slots=True)
class _Followed:
    """Sessions as they are now, and as they were when last asked about the past."""

    now: FollowedSessions
    past: FollowedSessions


class GranularityRetriever:
    """A ``Retriever``. Safe to share between threads; searches of one scope take turns."""

    name = "memgas"

    def __init__(self, indexes: IndexCache, embedder: Embedder, recipe: Recipe | None = None) -> None:
        self._indexes = indexes
        self._embedder = embedder
        self._recipe = recipe
        self._hybrid = HybridRetriever(indexes, embedder)
        self._lock = threading.Lock()
        self._followed: WeakKeyDictionary[ScopeIndex, _Followed] = WeakKeyDictionary()

    def search(
        self,
        query: str,
        vector: NDArray[np.float32],
        store: Store,
        scope: Scope,
        *,
        k: int,
        allow: NDArray[np.int64] | None = None,
        as_of: datetime | None = None,
        reference: datetime | None = None,
    ) -> list[Hit]:
        """The ``k`` best groups, fewer only if fewer are visible. See ``Retriever.search``.

        The first search after a change fits every session from the first that changed on, and encodes of these what
        it has not encoded before: a summary, keywords and the text of what is new.
        """
        pool = max(_POOL, 4 * k)
        sessions = self._session_scores(query, vector, store, scope, as_of)
        hits = self._hybrid.search(query, vector, store, scope, k=pool, allow=allow, as_of=as_of, reference=reference)
        scored = _in_order([_with_session(hit, sessions) for hit in hits])
        return sorted(scored, key=lambda hit: -hit.score)[:k]

    def _session_scores(
        self, query: str, vector: NDArray[np.float32], store: Store, scope: Scope, as_of: datetime | None
    ) -> dict[str, float]:
        while True:
            index = self._indexes.get(store, scope)
            followed = self._of(index)
            which, other = (followed.now, followed.past) if as_of is None else (followed.past, followed.now)
            other.drop_forgotten(index)
            try:
                return which.scores(query, vector, index, store, as_of)
            except NotFound:  # forgotten since: the index learns it at the next turn of this loop
                continue

    def _of(self, index: ScopeIndex) -> _Followed:
        with self._lock:
            if index not in self._followed:
                vectors = SessionVectors(self._embedder)
                now, past = (FollowedSessions(vectors, self._recipe) for _ in range(2))
                self._followed[index] = _Followed(now, past)
            return self._followed[index]


def _with_session(hit: Hit, sessions: Mapping[str, float]) -> Hit:
    """``hit`` with the part ``memgas``, if its turn is known and its session is above the average."""
    turn = hit.source or hit.cube
    best = next(iter(sessions.values()), 0.0)
    score = sessions.get(session_name(turn), 0.0) if turn.header.utterance else 0.0
    if score <= 0:
        return hit
    share = SESSION * score / best
    return replace(hit, score=hit.score + share, parts={**hit.parts, "memgas": share})


def _in_order(hits: list[Hit]) -> list[Hit]:
    """Raise what superseded a hit above that hit, where the sessions have turned them round."""
    place = {hit.cube.id: at for at, hit in enumerate(hits)}
    raised = list(hits)
    for old in sorted((hit for hit in hits if hit.superseded_by in place), key=lambda hit: -hit.score):
        at = place[str(old.superseded_by)]
        short = old.score + _MARGIN - raised[at].score
        if short > 0:
            parts = {**raised[at].parts, "succession": raised[at].parts.get("succession", 0.0) + short}
            raised[at] = replace(raised[at], score=raised[at].score + short, parts=parts)
    return raised
