"""The write path: turns are kept verbatim, facts are taken from them, and each fact meets what is known.

With rules, a call is one transaction: turns, facts, closed predecessors, links, vectors and log entries land
together or not at all. With a model that reads conversations, turns land first, tagged as waiting, and what is
drawn from them follows (``lamina.text.pending``): a model may be slow, wrong or away, and nothing said is lost by
that. Models run *outside* transactions, so that no lock is held while a network or a GPU works.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamina.cube.cube import Header, MemCube, Provenance, Scope, Trust, Utterance, new_id
from lamina.cube.payload import TextPayload
from lamina.llm.base import Embedder
from lamina.store.base import Store, Write
from lamina.store.index import IndexCache
from lamina.text.base import Connect, Outcome, Pipeline, Turn
from lamina.text.candidates import Candidate, decide_ahead
from lamina.text.decisions import Decisions, actor
from lamina.text.pending import PendingQueue
from lamina.text.prompted.draft import AheadUpdater, ConversationExtractor, Draft
from lamina.text.prompted.instructions import is_person
from lamina.text.prompted.reading import read
from lamina.text.prompted.restoring import waiting

_TRUST: dict[str, Trust] = {"assistant": "assistant", "tool": "tool"}
KEPT = "kept verbatim"
_KEYS = uuid.UUID("6e0f9d2c-5b1a-4c58-9c53-2f3a7b0d4e11")  # the name space of ids that follow from a key


@dataclass(frozen=True, slots=True)
class Batch:
    """Turns of one scope that are written together, with what the caller attached to them.

    ``key``: an idempotency key (``lamina.text.repeats``), from which the ids of the turns follow. ``sensitivity``: the
    kinds of what was taken out of the turns before they came here.
    """

    scope: Scope
    turns: Sequence[Turn]
    metadata: Mapping[str, Any] = field(default_factory=dict)
    expires: datetime | None = None
    infer: bool = True
    context: Sequence[Turn] = ()
    key: str | None = None
    sensitivity: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Prepared:
    """What a batch will write: its turns as memories, and the facts found in them."""

    turns: list[MemCube]
    drafts: list[tuple[Draft, MemCube]]


class Ingestion:
    """Writes batches of turns. Stateless but for the index cache; safe to share between threads."""

    def __init__(self, store: Store, embedder: Embedder, pipeline: Pipeline, indexes: IndexCache) -> None:
        self.pending = PendingQueue(store, embedder, pipeline, indexes)
        self._store = store
        self._embedder = embedder
        self._extractor = pipeline.extractor
        self._updater = pipeline.updater
        self._connectors = pipeline.connectors
        self._indexes = indexes

    def write(self, batches: Sequence[Batch]) -> list[list[Outcome]]:
        """Store every batch, all or none; outcomes per batch, turns before their facts.

        A turn whose facts wait for a model that cannot be reached says so in its ``reason``; ``pending.retry``
        takes it up again.
        """
        if isinstance(self._extractor, ConversationExtractor):
            return self._write_first(batches)
        prepared = [self._prepare(batch) for batch in batches]
        texts = [cube.text for each in prepared for cube in each.turns]
        texts += [draft.fact.text for each in prepared for draft, _ in each.drafts]
        vectors = self._encode(texts)
        turn_count = sum(len(each.turns) for each in prepared)
        of_turns, of_facts = iter(vectors[:turn_count]), iter(vectors[turn_count:])
        candidates = [
            [Candidate(draft, (cube,), next(of_facts), self._extractor.name) for draft, cube in each.drafts]
            for each in prepared
        ]
        self._look_ahead(batches, candidates)
        connects = self._connects(batches, prepared, vectors)
        outcomes: list[list[Outcome]] = []
        with self._store.transaction() as tx:
            decisions = {batch.scope: Decisions(tx, self._store, self._updater, batch.scope) for batch in batches}
            for batch, each, found in zip(batches, prepared, candidates, strict=True):
                tx.insert([Write(cube, next(of_turns), actor=actor(cube)) for cube in each.turns])
                kept = [Outcome("ADD", cube, KEPT) for cube in each.turns]
                index = self._indexes.get(self._store, batch.scope) if found else None
                outcomes.append(kept + (decisions[batch.scope].apply(found, index) if index is not None else []))
            for scope, connect in connects:
                written = (row for batch, row in zip(batches, outcomes, strict=True) if batch.scope == scope)
                connect(tx, [outcome for row in written for outcome in row])
        return outcomes

    def _write_first(self, batches: Sequence[Batch]) -> list[list[Outcome]]:
        """Every turn in one transaction, waiting; then what the model says, pair by pair."""
        kept = [[_turn_cube(place, turn, batch) for place, turn in enumerate(batch.turns)] for batch in batches]
        kept = [
            [waiting(cube, turn) for cube, turn in zip(cubes, batch.turns, strict=True)] if batch.infer else cubes
            for batch, cubes in zip(batches, kept, strict=True)
        ]
        vectors = iter(self._encode([cube.text for cubes in kept for cube in cubes]))
        with self._store.transaction() as tx:
            tx.insert([Write(cube, next(vectors), actor=actor(cube)) for cubes in kept for cube in cubes])
        outcomes: list[list[Outcome]] = []
        silent: str | None = None  # once it cannot be reached, the rest of the call does not wait for it too
        for batch, cubes in zip(batches, kept, strict=True):
            done = self.pending.complete(batch.scope, cubes if batch.infer and silent is None else [])
            silent = silent or done.problem
            left = f"{KEPT}; its extraction waits for the model: {silent}" if batch.infer and silent else KEPT
            turns = [Outcome("ADD", cube, KEPT if cube.id in done.read else left) for cube in cubes]
            outcomes.append(turns + done.outcomes)
        return outcomes

    def _encode(self, texts: list[str]) -> NDArray[np.float32]:
        return self._embedder.encode(texts) if texts else np.empty((0, self._embedder.dimension), np.float32)

    def _look_ahead(self, batches: Sequence[Batch], candidates: Sequence[Sequence[Candidate]]) -> None:
        if isinstance(self._updater, AheadUpdater):
            for batch, found in zip(batches, candidates, strict=True):
                index = self._indexes.get(self._store, batch.scope)
                decide_ahead(found, self._updater, self._store, index, batch.scope)

    def _connects(
        self, batches: Sequence[Batch], prepared: Sequence[_Prepared], vectors: NDArray[np.float32]
    ) -> list[tuple[Scope, Connect]]:
        """What each connector has to do, by scope: asked once a scope, with all of its turns that are inferred from."""
        turns: dict[Scope, list[MemCube]] = {}
        rows: dict[Scope, list[int]] = {}
        row = 0
        for batch, each in zip(batches, prepared, strict=True):
            if batch.infer:
                turns.setdefault(batch.scope, []).extend(each.turns)
                rows.setdefault(batch.scope, []).extend(range(row, row + len(each.turns)))
            row += len(each.turns)
        return [
            (scope, connector.prepare(scope, turns[scope], vectors[rows[scope]]))
            for scope in turns
            for connector in self._connectors
            if turns[scope]
        ]

    def _prepare(self, batch: Batch) -> _Prepared:
        turns = [_turn_cube(place, turn, batch) for place, turn in enumerate(batch.turns)]
        if not batch.infer:
            return _Prepared(turns, [])
        reading = read(self._extractor, batch.scope, batch.turns, batch.context)
        first = len(batch.context)
        return _Prepared(turns, [(draft, turns[draft.cites[-1] - first]) for draft in reading.drafts])


def turn_id(batch: Batch, place: int) -> str:
    """The id of the turn at ``place`` in ``batch``: that of its key, or a new one."""
    if batch.key is None:
        return new_id()
    return str(uuid.uuid5(_KEYS, json.dumps([asdict(batch.scope), batch.key, place])))


def _turn_cube(place: int, turn: Turn, batch: Batch) -> MemCube:
    header = Header(
        id=turn_id(batch, place),
        semantic_type="turn",
        scope=batch.scope,
        created=turn.at,
        recorded=turn.at,
        expires=batch.expires,
        provenance=Provenance(),
        utterance=Utterance(turn.session, turn.ordinal, turn.speaker, turn.role),
        trust="user" if is_person(turn) else _TRUST.get(turn.role, "user"),
        sensitivity=batch.sensitivity,
        metadata=batch.metadata,
    )
    return MemCube(header, TextPayload(turn.text))
