"""The sessions of a scope, remembered as the store has them: written, corrected, deleted, forgotten.

A session is the open turns of one name in one scope, in order; sessions are in order of their first turn. What
``MemGAS`` makes of a session depends on it and on earlier ones only. So a change keeps everything before the first
session that differs, and adds the rest again: the result is that of a store that had never held anything else.

Turns bring the vectors they were stored with; only session, summary and keywords are encoded. Those texts are no
memories of the store, so nobody could ask the embedder to forget them: it is told to right after encoding. Their
vectors are kept here, by a digest of the text (``SessionVectors``), so that what comes after an early change is fitted
again, not encoded again. They go, all of them, as soon as the index has lost anything for good.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from datetime import datetime
from hashlib import blake2b
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from lamina.cube.cube import MemCube
from lamina.llm.base import Embedder
from lamina.store.base import Store
from lamina.store.index import ScopeIndex
from lamina.store.table import TURN, Table
from lamina.text.granularities.session import Session
from lamina.text.granularity import MemGAS, Recipe

Rows = NDArray[np.int64]

_KEPT = 16_384  # texts: sessions, summaries and keywords of some 5,000 sessions, 25 MB


class SessionVectors:
    """An ``Embedder`` that keeps the vectors of up to ``limit`` texts, least recently used first to go, but no text.

    ``lock`` is held by whoever follows with it: what was forgotten is let go of after any search that still saw it.
    """

    def __init__(self, embedder: Embedder, limit: int = _KEPT) -> None:
        self.name = embedder.name
        self.lock = threading.RLock()
        self._embedder = embedder
        self._limit = limit
        self._vectors: OrderedDict[bytes, NDArray[np.float32]] = OrderedDict()
        self._losses: tuple[Table, int] | None = None  # the index's table, and how many of its rows were forgotten

    @property
    def dimension(self) -> int:
        return self._embedder.dimension

    def __len__(self) -> int:
        return len(self._vectors)

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        digests = [blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest() for text in texts]
        found = {digest: self._vectors.pop(digest) for digest in dict.fromkeys(digests) if digest in self._vectors}
        missing = {digest: text for digest, text in zip(digests, texts, strict=True) if digest not in found}
        if missing:
            fresh = list(missing.values())
            found |= dict(zip(missing, np.array(self._embedder.encode(fresh), np.float32), strict=True))
            self._embedder.forget(fresh)
        self._vectors |= found
        while len(self._vectors) > self._limit:
            self._vectors.popitem(last=False)
        return np.stack([found[digest] for digest in digests])

    def forget(self, texts: Iterable[str]) -> None:
        """Drop everything: a session that held one of ``texts`` is not known by it."""
        self._vectors.clear()
        self._embedder.forget(texts)

    def drop_forgotten(self, index: ScopeIndex) -> None:
        """Drop everything if ``index`` has lost a memory since the last call. Hold the index's lock."""
        losses = (index.table, index.graves)
        if self._losses is None or losses[0] is not self._losses[0] or losses[1] != self._losses[1]:
            self._vectors.clear()
            self._losses = losses


class FollowedSessions:
    """A ``MemGAS`` that follows one index. Thread-safe: one search or update at a time of all that share vectors."""

    def __init__(self, vectors: SessionVectors, recipe: Recipe | None = None) -> None:
        self._vectors = vectors
        self._memory = MemGAS(vectors, recipe)
        self._seen: list[bytes] = []  # keys of the turns of each session, in order
        self._change = 0  # of the index, when it was last compared with
        self._lock = vectors.lock

    def __len__(self) -> int:
        return len(self._seen)

    def scores(
        self, query: str, vector: NDArray[np.float32], index: ScopeIndex, store: Store, as_of: datetime | None
    ) -> dict[str, float]:
        """Score of each session (``session_name``) that was visible at ``as_of``, best first.

        Raises ``NotFound`` if some of it was forgotten meanwhile: sync the index and ask again.
        """
        with self._lock:
            self._follow(index, store, as_of)
            return {hit.id: hit.score for hit in self._memory.search(query, max(len(self), 1), vector=vector)}

    def drop_forgotten(self, index: ScopeIndex) -> None:
        """Let go of every session from the first on that holds a turn ``index`` no longer has."""
        with self._lock, index.lock:
            if index.change == self._change:
                return
            self._change = index.change
            self._vectors.drop_forgotten(index)
            gone = (place for place, keys in enumerate(self._seen) if not _all_alive(index, keys))
            self._truncate(next(gone, len(self)))

    def _follow(self, index: ScopeIndex, store: Store, as_of: datetime | None) -> None:
        with index.lock:
            self._vectors.drop_forgotten(index)
            groups = _sessions(index, as_of)
            keys = [index.table["key"][rows].tobytes() for rows in groups]
            pairs = enumerate(zip(keys, self._seen, strict=False))
            same = next((place for place, (new, old) in pairs if new != old), min(len(keys), len(self)))
            turns = _vectors(index, groups[same:])
        self._truncate(same)
        fresh = [np.frombuffer(key, np.int64).tolist() for key in keys[same:]]
        cubes = iter(store.load([key for some in fresh for key in some]))
        said = [list(islice(cubes, len(some))) for some in fresh]
        self._memory.extend(
            [
                Session(session_name(some[0]), tuple(map(_utterance, some)), turns=rows)
                for some, rows in zip(said, turns, strict=True)
            ]
        )
        self._seen += keys[same:]

    def _truncate(self, size: int) -> None:
        self._memory.truncate(size)
        del self._seen[size:]


def session_name(turn: MemCube) -> str:
    """What a turn's session is called: names of sessions are told apart by the exact scope they are in."""
    scope, said = turn.header.scope, turn.header.utterance
    return repr((scope.tenant, scope.user, scope.agent, scope.run, said.session if said else None))


def _sessions(index: ScopeIndex, as_of: datetime | None) -> list[Rows]:
    """Rows of the visible turns, session by session. Hold the index's lock."""
    table = index.table
    rows = np.flatnonzero(index.visible(as_of) & (table["kind"] == TURN))
    rows = rows[np.lexsort((table["key"][rows], table["ordinal"][rows], table["session"][rows]))]
    starts = np.flatnonzero(np.diff(table["session"][rows])) + 1
    groups = [group for group in np.split(rows, starts) if len(group)]
    return sorted(groups, key=lambda group: (int(table["recorded"][group].min()), int(table["key"][group].min())))


def _vectors(index: ScopeIndex, groups: Sequence[Rows]) -> list[NDArray[np.float32] | None]:
    """Of each group of rows, its vectors (n, d), which are their similarities to each axis; none if there are none."""
    if not index.vectors.dimension or not groups:
        return [None] * len(groups)
    axes = np.eye(index.vectors.dimension, dtype=np.float32)
    found = np.asarray(index.vectors.similarities(axes, np.concatenate(groups)))
    return list(np.split(found, np.cumsum([len(rows) for rows in groups])[:-1]))


def _all_alive(index: ScopeIndex, keys: bytes) -> bool:
    rows = [index.table.row_of(key) for key in np.frombuffer(keys, np.int64).tolist()]
    return all(row is not None and bool(index.table["alive"][row]) for row in rows)


def _utterance(cube: MemCube) -> str:
    said = cube.header.utterance
    return f"[{said.speaker}]: {cube.text}" if said else cube.text
