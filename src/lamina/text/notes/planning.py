"""What one write adds to the notes of a scope, worked out before its transaction: notes, their changes, links.

Models run here. ``Plan.write`` is what is left for the transaction; it looks again at what others may have changed
meanwhile, and leaves out a change of a note that is no longer the version it was made from.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from lamina.cube.cube import Header, Lineage, MemCube, Provenance, Scope, Source
from lamina.cube.payload import TextPayload
from lamina.llm.base import Embedder
from lamina.store.base import Store, Transaction, Write
from lamina.store.index import ScopeIndex
from lamina.store.table import hashed
from lamina.text.notes.construction import Draft, Vector, enriched_text, in_context, with_enrichment
from lamina.text.notes.evolution import Change, evolved
from lamina.text.notes.linking import Link, prune_links, write_links
from lamina.text.notes.register import NOTE
from lamina.text.transient import Transient

_NEXT_TO = [1, 2]  # columns of ``Neighbours``: the turn before, the turn after
CONTEXT = "context"  # the operation of a version whose vector takes in the turn that came after


@dataclass(slots=True)
class NoteState:
    """A note as it will be: its newest version, the mixture its vector starts from, the versions to write."""

    cube: MemCube
    base: Vector
    versions: list[MemCube] = field(default_factory=list)
    vectors: list[Vector] = field(default_factory=list)

    def become(self, cube: MemCube) -> None:
        self.cube = cube
        self.versions.append(cube)

    def write(self, tx: Transaction) -> None:
        for cube, vector in zip(self.versions, self.vectors, strict=True):
            operation = cube.header.lineage.operation
            entry = Write(cube, vector, actor="notes", action=operation, reason="a-mem")
            if cube.header.version == 1:
                tx.insert([entry])
                continue
            now = tx.newest(cube.id)
            if now is None or now.header.superseded is not None or now.header.version != cube.header.version - 1:
                return  # forgotten, closed or changed since it was read
            tx.revise(entry, expect=now.header.version)


@dataclass(slots=True)
class Plan:
    """Notes by the id of their turn, links, and words whose links end."""

    turns: Mapping[str, MemCube]
    notes: dict[str, NoteState] = field(default_factory=dict)
    links: list[Link] = field(default_factory=list)
    outdated: dict[str, list[str]] = field(default_factory=dict)

    def evolve(self, turn: str, change: Change, extractor: str) -> None:
        """The next version of the note about ``turn``, which is among ``notes``."""
        state = self.notes[turn]
        state.become(evolved(state.cube, change, extractor))

    def embed(self, embedder: Embedder) -> None:
        """Vectors of all versions, in one call."""
        texts = [enriched_text(cube) for state in self.notes.values() for cube in state.versions]
        rows = iter(Transient(embedder).encode(texts) if texts else ())
        for state in self.notes.values():
            state.vectors = [with_enrichment(state.base, next(rows)) for _ in state.versions]

    def write(self, tx: Transaction) -> None:
        for state in self.notes.values():
            state.write(tx)
        if self.turns:
            prune_links(tx, self.outdated, max(turn.header.recorded for turn in self.turns.values()))
            write_links(tx, self.links, self.turns)


@dataclass(slots=True)
class Sessions:
    """Turns of one call and, of each session, the two stored before them: who follows whom."""

    turns: dict[str, MemCube]
    vectors: dict[str, Vector]
    before: dict[str, str]
    after: dict[str, str]

    @classmethod
    def around(cls, scope: Scope, turns: Sequence[MemCube], vectors: NDArray[np.float32], store: Store) -> Sessions:
        found = cls({}, {}, {}, {})
        chains: dict[str, list[MemCube]] = {}
        for turn, vector in zip(turns, vectors, strict=True):
            found._add(turn, vector)
            if turn.header.utterance is not None:
                chains.setdefault(turn.header.utterance.session, []).append(turn)
        for session, chain in chains.items():
            chain.sort(key=_ordinal)
            if _ordinal(chain[0]) > 0:
                where = {"session": session, "semantic_type": "turn", "ordinal": {"lt": _ordinal(chain[0])}}
                stored = [c for c in store.query(scope, where, limit=2).cubes if c.header.scope == scope]
                for cube in stored:
                    vector = store.vector(cube.id)
                    if vector is not None:
                        found._add(cube, vector)
                        chain.insert(0, cube)
                chain.sort(key=_ordinal)
            for one, other in itertools.pairwise(chain):
                found.before[other.id], found.after[one.id] = one.id, other.id
        return found

    def _add(self, turn: MemCube, vector: Vector) -> None:
        self.turns[turn.id], self.vectors[turn.id] = turn, vector

    def mixed(self, turn: str) -> tuple[Vector, tuple[MemCube, ...]]:
        """The vector of a turn in its context, and the neighbours in it: those that live as long as the turn."""
        expires = self.turns[turn].header.expires
        near = [self.turns[id] if id else None for id in (self.before.get(turn), self.after.get(turn))]
        used = [cube if cube is not None and cube.header.expires == expires else None for cube in near]
        vectors = [self.vectors[cube.id] if cube is not None else None for cube in used]
        return in_context(self.vectors[turn], *vectors), tuple(cube for cube in used if cube is not None)


def new_note(turn: MemCube, draft: Draft, made_from: Sequence[MemCube]) -> MemCube:
    """Version 1 of the note about ``turn``; what its context and vector rest on too is in its lineage."""
    said = turn.header
    header = Header(
        semantic_type=NOTE,
        scope=said.scope,
        created=said.recorded,
        recorded=said.recorded,
        expires=said.expires,
        provenance=Provenance((Source(turn.id, 0, len(turn.text)),), extractor=draft.extractor),
        lineage=Lineage(tuple((cube.id, cube.header.version) for cube in (turn, *made_from)), NOTE),
        trust=said.trust,
        tags=draft.tags,
        keywords=draft.keywords,
        metadata=said.metadata,
    )
    return MemCube(header, TextPayload(draft.context))


def followed(note: MemCube, next_turn: MemCube) -> MemCube:
    """The next version of a note after ``next_turn`` came: only its vector changes."""
    lineage = note.header.lineage
    made_from = tuple(dict.fromkeys((*lineage.derived_from, (next_turn.id, next_turn.header.version))))
    recorded = max(note.header.recorded, next_turn.header.recorded)
    header = replace(
        note.header, version=note.header.version + 1, recorded=recorded, lineage=Lineage(made_from, CONTEXT)
    )
    return MemCube(header, note.payload)


def _ordinal(turn: MemCube) -> int:
    return turn.header.utterance.ordinal if turn.header.utterance is not None else 0


def stored_sessions(turn: MemCube, index: ScopeIndex, store: Store) -> Sessions:
    """A stored turn and its neighbours in the session."""
    found = Sessions({}, {}, {}, {})
    with index.lock:
        row = index.table.newest(hashed(turn.id))
        near = index.neighbours.array[row][_NEXT_TO].tolist() if row is not None else []
        keys = [int(index.table["key"][at]) for at in near if at >= 0]
        sides = [side for side, at in zip((found.before, found.after), near, strict=False) if at >= 0]
    cubes = [turn, *store.load(keys)]
    for cube in cubes:
        vector = store.vector(cube.id)
        if vector is not None:
            found._add(cube, vector)
    for side, cube in zip(sides, cubes[1:], strict=True):
        if cube.id in found.turns:
            side[turn.id] = cube.id
    return found
