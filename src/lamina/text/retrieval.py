"""Hybrid search: which memories answer a question, by meaning, by words, by who spoke and by when.

The score of a memory is the sum of the parts that ``lamina.text.signals`` computes, so it can be read and explained.

A turn and the facts taken from it are one group with one place in the ranking, that of the turn; the hit shows
its best open member. If the fact that matches best was superseded, its turn comes after the turn of its
successor, which is given the score that takes (``succession``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from lamina.cube.cube import MemCube, Scope
from lamina.errors import NotFound
from lamina.llm.base import Embedder
from lamina.store.base import Store
from lamina.store.index import IndexCache, ScopeIndex
from lamina.store.table import FACT, NEVER, NODE, TURN, micros
from lamina.text.base import Hit
from lamina.text.query import Query, parse_query
from lamina.text.signals import Signals

Rows = NDArray[np.int64]
Scores = NDArray[np.float64]
Mask = NDArray[np.bool_]

_POOL = 100  # rows each finder proposes, or 4 k
_OWN_WORDS = 0.5  # share of a turn's lexical score that its fact must have to stand for it
_MARGIN = 1e-6  # by which a successor is placed before what it superseded
_FACTS = 5  # other facts of the turn that a hit carries


@dataclass(frozen=True, slots=True)
class _Ranked:
    """One group's place: rows of the index, turned into keys while its lock is held."""

    best: int
    source: int | None
    facts: tuple[int, ...]
    parts: dict[str, float]
    matched: dict[str, float]
    superseded_by: int | None = None


class HybridRetriever:
    """The default ``Retriever``. Stateless but for the index cache; safe to share between threads.

    With an ``embedder``, a question that names a speaker is encoded once more without the name (see
    ``lamina.text.query``); without one, ``search`` compares with the vector it is given.
    """

    name = "hybrid"

    def __init__(self, indexes: IndexCache, embedder: Embedder | None = None) -> None:
        self._indexes = indexes
        self._embedder = embedder

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

        ``reference`` is what "last week" in the query refers to; default: ``as_of``, else the newest memory.
        """
        while True:
            index = self._indexes.get(store, scope)
            asked = self._parse(query, index, reference or as_of)
            nameless = self._nameless(query, asked, vector)
            with index.lock:
                ranked = _Search(index, asked, vector, nameless, k, allow, as_of).run()
            try:
                return _hits(ranked, store)
            except NotFound:  # forgotten since: the index learns it at the next turn of this loop
                continue

    def _parse(self, query: str, index: ScopeIndex, reference: datetime | None) -> Query:
        with index.lock:
            newest = int(index.table["recorded"].max(initial=0))
            speakers = dict(index.table.speakers)
        anchor = reference or datetime.fromtimestamp(newest // 1_000_000, UTC)
        return parse_query(query, speakers, anchor)

    def _nameless(self, query: str, asked: Query, vector: NDArray[np.float32]) -> NDArray[np.float32]:
        if self._embedder is None or asked.text == query:
            return vector
        return np.asarray(self._embedder.encode([asked.text])[0])


class _Search:
    """One ranking over one index, under its lock."""

    def __init__(
        self,
        index: ScopeIndex,
        query: Query,
        vector: NDArray[np.float32],
        nameless: NDArray[np.float32],
        k: int,
        allow: NDArray[np.int64] | None,
        as_of: datetime | None,
    ) -> None:
        self._index = index
        self._vector = vector  # for facts and notes, which name whom they are about
        self._nameless = nameless  # for turns
        self._k = k
        self._at = None if as_of is None else micros(as_of)
        self._visible = index.visible(as_of, allow) & (index.table["kind"] != NODE)
        self._words = index.words.known(query.terms)
        self._signals = Signals(index, query, vector, nameless, self._visible)

    def run(self) -> list[_Ranked]:
        rows = self._candidates()
        if not len(rows):
            return []
        parts = self._signals.of(rows)
        total = np.asarray(sum(parts.values()))
        order = np.lexsort((self._index.table["key"][rows], -total))
        rows, total, parts = rows[order], total[order], {name: part[order] for name, part in parts.items()}
        shown, ranked = self._places(rows)
        scores = {group: float(total[place]) for group, place in ranked.items()}
        stale = self._stale(rows, parts["lexical"])
        lifted = self._lift(scores, stale)
        for group, heir in lifted.items():  # what holds now is what is shown
            shown[group] = int(np.flatnonzero(rows == heir)[0])
        ranking = sorted(scores, key=lambda group: (-scores[group], ranked[group]))[: self._k]
        members = self._members(rows, ranking)
        found = []
        for group in ranking:
            place = ranked[group]
            values = {name: float(part[place]) for name, part in parts.items() if part[place]}
            if group in lifted:
                values["succession"] = scores[group] - float(total[place])
            matched = self._most(rows, members[group], parts)
            found.append(self._ranked(int(rows[shown[group]]), members[group], values, matched, stale.get(group)))
        return found

    def _most(self, rows: Rows, members: list[int], parts: Mapping[str, Scores]) -> dict[str, float]:
        """The most that any open member has of each part: the group is ranked by its turn, but what is asked for may
        stand in a fact alone (the name of whoever said "I")."""
        places = np.flatnonzero(np.isin(rows, members) & self._visible[rows])
        return {name: float(part[places].max(initial=0.0)) for name, part in parts.items()}

    def _places(self, rows: Rows) -> tuple[dict[int, int], dict[int, int]]:
        """For each group the place in ``rows`` (sorted, the best first) of its best open member, and of what ranks it.

        That is the turn itself where it is open. Facts of a turn say again what it says, in sentences that name
        their subject and so resemble any question about it: ranked by them, turns without facts fall behind.
        """
        table = self._index.table
        seen = np.flatnonzero(self._visible[rows])
        groups, first = np.unique(table["group"][rows[seen]], return_index=True)
        shown = dict(zip(groups.tolist(), seen[first].tolist(), strict=True))
        turns = seen[table["kind"][rows[seen]] == TURN]
        said = dict(zip(table["group"][rows[turns]].tolist(), turns.tolist(), strict=True))
        return shown, shown | said

    def _members(self, rows: Rows, groups: list[int]) -> dict[int, list[int]]:
        """Rows of each group in ``groups``, in the order of ``rows``."""
        members: dict[int, list[int]] = {group: [] for group in groups}
        group = self._index.table["group"][rows]
        wanted = np.isin(group, groups)
        for name, row in zip(group[wanted].tolist(), rows[wanted].tolist(), strict=True):
            members[name].append(row)
        return members

    def _candidates(self) -> Rows:
        """All members of the groups that either finder proposes, or that succeed a fact of such a group."""
        index, pool = self._index, max(_POOL, 4 * self._k)
        near, _ = index.vectors.search(self._nameless, pool, self._visible)
        if self._vector is not self._nameless:
            named, _ = index.vectors.search(self._vector, pool, self._visible & (index.table["kind"] != TURN))
            near = np.concatenate([near, named])
        around = index.neighbours.array[near].ravel().astype(np.int64)
        worded = index.words.find(self._words, pool, index.neighbours.array, self._visible)
        rows = np.concatenate([near, around[around >= 0], worded])
        rows = self._index.table.members(rows[self._visible[rows]])
        if len(rows):
            table = index.table
            ended = rows[self._ended(rows) & (table["kind"][rows] == FACT)]
            heirs = [heir for row in ended.tolist() if (heir := self._heir(row)) is not None]
            rows = table.members(np.concatenate([rows, np.asarray(heirs, np.int64)]))
        return np.asarray(rows[index.table["alive"][rows]])

    def _ended(self, rows: Rows) -> Mask:
        """Which rows had been superseded by the time that is asked about."""
        table = self._index.table
        named = table["successor"][rows] != 0
        return np.asarray(named if self._at is None else named & (table["superseded"][rows] <= self._at))

    def _heir(self, row: int) -> int | None:
        """The fact at the end of a chain of successors, as far as it was known at the time, if it was open then."""
        table, seen = self._index.table, set[int]()
        while self._ended(np.asarray([row]))[0] and (after := int(table["successor"][row])) not in seen:
            seen.add(after)
            heir = self._version(after)
            if heir is None:
                return None
            row = heir
        end = int(table["superseded"][row])
        return row if table["alive"][row] and (end == NEVER if self._at is None else end > self._at) else None

    def _version(self, identity: int) -> int | None:
        """The row of a memory's newest version at the time that is asked about."""
        table = self._index.table
        newest = table.newest(identity)
        if newest is None or self._at is None:
            return newest
        rows = table.members(np.asarray([newest]))
        rows = rows[(table["identity"][rows] == identity) & (table["recorded"][rows] <= self._at)]
        return int(rows[table["version"][rows].argmax()]) if len(rows) else None

    def _stale(self, rows: Rows, lexical: Scores) -> dict[int, int]:
        """Groups whose best matching fact was superseded, each with the row of the fact that holds now.

        ``rows`` are sorted, the best first. A turn that was found by words of which its fact has not half was found
        for something else it says: "one cat, and she does the work of three" is no stale answer about work.
        """
        table = self._index.table
        after = self._ended(rows)
        facts = rows[(table["kind"][rows] == FACT) & (self._visible[rows] | after)]
        if not after.any():
            return {}
        groups, first = np.unique(table["group"][facts], return_index=True)
        words = dict(zip(rows.tolist(), lexical.tolist(), strict=True))
        said = {int(table["group"][row]): words[row] for row in rows.tolist() if table["kind"][row] == TURN}
        stale = {}
        for group, row in zip(groups.tolist(), facts[first].tolist(), strict=True):
            heir = self._heir(row) if words[row] >= _OWN_WORDS * said.get(group, 0.0) else None
            if heir is not None and heir != row and table["group"][heir] != group:
                stale[group] = heir
        return stale

    def _lift(self, scores: dict[int, float], stale: Mapping[int, int]) -> dict[int, int]:
        """Raise groups of successors just above what they superseded, in ``scores``; these, each with the successor."""
        group_of = self._index.table["group"]
        lifted: dict[int, int] = {}
        for group in sorted((g for g in stale if g in scores), key=lambda g: -scores[g]):
            heir = int(group_of[stale[group]])
            if self._visible[stale[group]] and heir in scores and scores[heir] <= scores[group]:
                scores[heir] = scores[group] + _MARGIN
                lifted[heir] = stale[group]
        return lifted

    def _ranked(
        self, best: int, members: list[int], parts: dict[str, float], matched: dict[str, float], heir: int | None
    ) -> _Ranked:
        table = self._index.table
        key, kind = table["key"], table["kind"]
        facts = [row for row in members if row != best and kind[row] == FACT and self._visible[row]]
        # A retired turn (its fact was corrected or deleted) is no source: its wording would come back with it.
        turns = [row for row in members if kind[row] == TURN and self._visible[row]]
        source = max(turns, key=lambda row: int(table["version"][row]), default=None)
        return _Ranked(
            best=int(key[best]),
            source=None if source is None else int(key[source]),
            facts=tuple(int(key[row]) for row in facts[:_FACTS]),
            parts=parts,
            matched=matched,
            superseded_by=None if heir is None else int(key[heir]),
        )


def _hits(ranked: list[_Ranked], store: Store) -> list[Hit]:
    """Load what the ranking names. Raises ``NotFound`` if some of it was forgotten meanwhile."""
    keys = list(dict.fromkeys(key for place in ranked for key in _keys(place)))
    cubes: dict[int, MemCube] = dict(zip(keys, store.load(keys), strict=True))
    return [
        Hit(
            cube=cubes[place.best],
            score=sum(place.parts.values()),
            parts=place.parts,
            matched=place.matched,
            source=None if place.source is None else cubes[place.source],
            superseded_by=None if place.superseded_by is None else cubes[place.superseded_by].id,
            facts=tuple(cubes[key] for key in place.facts),
        )
        for place in ranked
    ]


def _keys(place: _Ranked) -> Iterator[int]:
    yield place.best
    yield from place.facts
    if place.source is not None:
        yield place.source
    if place.superseded_by is not None:
        yield place.superseded_by
