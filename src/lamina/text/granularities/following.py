"""The sessions of a scope, remembered as the store has them: written, corrected, deleted, forgotten.

A session is the open turns of one name in one scope, in order; sessions are in order of their first turn. What
``MemGAS`` makes of a session depends on it and on earlier ones only. So a change keeps everything before the first
session that differs, and adds the rest again: the result is that of a store that had never held anything else.

Turns bring the vectors they were stored with; only session, summary and keywords are encoded. Those texts are no
memories of the store, so nobody could ask the embedder to forget them: it is told to right after encoding.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from lamina.cube.cube import MemCube
from lamina.llm.base import Embedder
from lamina.store.base import Store
from lamina.store.index import ScopeIndex
from lamina.store.table import TURN
from lamina.text.granularities.session import Session
from lamina.text.granularity import MemGAS, Recipe

Rows = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class _Seen:
    """A session as the index has it: keys of its turns in order, as bytes, and their vectors if it holds any."""

    keys: bytes
    turns: NDArray[np.float32] | None


class FollowedSessions:
    """A ``MemGAS`` that follows one index. Thread-safe: one search or update at a time."""

    def __init__(self, embedder: Embedder, recipe: Recipe | None = None) -> None:
        self._memory = MemGAS(_Transient(embedder), recipe)
        self._seen: list[bytes] = []
        self._change = 0  # of the index, when it was last compared with
        self._lock = threading.Lock()

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
            gone = (place for place, keys in enumerate(self._seen) if not _all_alive(index, keys))
            self._truncate(next(gone, len(self)))

    def _follow(self, index: ScopeIndex, store: Store, as_of: datetime | None) -> None:
        with index.lock:
            groups = _sessions(index, as_of)
            keys = [index.table["key"][rows].tobytes() for rows in groups]
            pairs = enumerate(zip(keys, self._seen, strict=False))
            same = next((place for place, (new, old) in pairs if new != old), min(len(keys), len(self)))
            fresh = [_Seen(key, _vectors(index, rows)) for key, rows in zip(keys[same:], groups[same:], strict=True)]
        self._truncate(same)
        for seen in fresh:
            cubes = store.load(np.frombuffer(seen.keys, np.int64).tolist())
            self._memory.add(Session(session_name(cubes[0]), tuple(map(_utterance, cubes)), turns=seen.turns))
            self._seen.append(seen.keys)

    def _truncate(self, size: int) -> None:
        for name in reversed(self._memory.ids[size:]):
            self._memory.remove(name)
        del self._seen[size:]


class _Transient:
    """An ``Embedder`` that keeps nothing of what it encodes."""

    def __init__(self, embedder: Embedder) -> None:
        self.name = embedder.name
        self._embedder = embedder

    @property
    def dimension(self) -> int:
        return self._embedder.dimension

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        vectors = self._embedder.encode(texts)
        self._embedder.forget(texts)
        return vectors

    def forget(self, texts: Iterable[str]) -> None:
        self._embedder.forget(texts)


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


def _vectors(index: ScopeIndex, rows: Rows) -> NDArray[np.float32] | None:
    """The vectors of ``rows`` (n, d), which are their similarities to each axis."""
    if not index.vectors.dimension:
        return None
    axes = np.eye(index.vectors.dimension, dtype=np.float32)
    return np.asarray(index.vectors.similarities(axes, rows))


def _all_alive(index: ScopeIndex, keys: bytes) -> bool:
    rows = [index.table.row_of(key) for key in np.frombuffer(keys, np.int64).tolist()]
    return all(row is not None and bool(index.table["alive"][row]) for row in rows)


def _utterance(cube: MemCube) -> str:
    said = cube.header.utterance
    return f"[{said.speaker}]: {cube.text}" if said else cube.text
