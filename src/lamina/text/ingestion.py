"""The write path: turns are kept verbatim, facts are taken from them, and each fact meets what is known.

One transaction per call: turns, facts, closed predecessors, links, vectors and log entries land together or
not at all. Models run *before* the transaction, so that no lock is held while a network or a GPU works.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamina.cube.cube import Header, MemCube, Provenance, Scope, Trust, Utterance
from lamina.cube.payload import TextPayload
from lamina.llm.base import Embedder
from lamina.store.base import Store, Write
from lamina.store.index import IndexCache
from lamina.text.base import Connect, Fact, Outcome, Pipeline, Turn
from lamina.text.decisions import Decisions, Pending, actor

_TRUST: dict[str, Trust] = {"assistant": "assistant", "tool": "tool"}


@dataclass(frozen=True, slots=True)
class Batch:
    """Turns of one scope that are written together, with what the caller attached to them."""

    scope: Scope
    turns: Sequence[Turn]
    metadata: Mapping[str, Any] = field(default_factory=dict)
    expires: datetime | None = None
    infer: bool = True
    context: Sequence[Turn] = ()


@dataclass(frozen=True, slots=True)
class _Prepared:
    """What a batch will write: its turns as memories, and the facts found, each with its turn."""

    turns: list[MemCube]
    facts: list[tuple[Fact, MemCube]]


class Ingestion:
    """Writes batches of turns. Stateless but for the index cache; safe to share between threads."""

    def __init__(self, store: Store, embedder: Embedder, pipeline: Pipeline, indexes: IndexCache) -> None:
        self._store = store
        self._embedder = embedder
        self._extractor = pipeline.extractor
        self._updater = pipeline.updater
        self._connectors = pipeline.connectors
        self._indexes = indexes

    def write(self, batches: Sequence[Batch]) -> list[list[Outcome]]:
        """Store every batch in one transaction; outcomes per batch, turns before their facts."""
        prepared = [self._prepare(batch) for batch in batches]
        texts = [cube.text for each in prepared for cube in each.turns]
        texts += [fact.text for each in prepared for fact, _ in each.facts]
        vectors = self._embedder.encode(texts) if texts else np.empty((0, self._embedder.dimension), np.float32)
        turn_count = sum(len(each.turns) for each in prepared)
        of_turns, of_facts = iter(vectors[:turn_count]), iter(vectors[turn_count:])
        connects = self._connects(batches, prepared, vectors)
        outcomes: list[list[Outcome]] = []
        with self._store.transaction() as tx:
            decisions = {batch.scope: Decisions(tx, self._store, self._updater, batch.scope) for batch in batches}
            for batch, each in zip(batches, prepared, strict=True):
                tx.insert([Write(cube, next(of_turns), actor=actor(cube)) for cube in each.turns])
                pending = [Pending(fact, turn, next(of_facts), self._extractor.name) for fact, turn in each.facts]
                kept = [Outcome("ADD", cube, "kept verbatim") for cube in each.turns]
                index = self._indexes.get(self._store, batch.scope) if pending else None
                outcomes.append(kept + (decisions[batch.scope].apply(pending, index) if index is not None else []))
            for scope, connect in connects:
                written = (row for batch, row in zip(batches, outcomes, strict=True) if batch.scope == scope)
                connect(tx, [outcome for row in written for outcome in row])
        return outcomes

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
        turns = [_turn_cube(turn, batch) for turn in batch.turns]
        facts: list[tuple[Fact, MemCube]] = []
        if batch.infer:
            heard = [*batch.context]
            for turn, cube in zip(batch.turns, turns, strict=True):
                distinct = {fact.text.casefold(): fact for fact in self._extractor.extract(turn, heard)}
                facts.extend((fact, cube) for fact in distinct.values())
                heard.append(turn)
        return _Prepared(turns, facts)


def _turn_cube(turn: Turn, batch: Batch) -> MemCube:
    header = Header(
        semantic_type="turn",
        scope=batch.scope,
        created=turn.at,
        recorded=turn.at,
        expires=batch.expires,
        provenance=Provenance(),
        utterance=Utterance(turn.session, turn.ordinal, turn.speaker, turn.role),
        trust=_TRUST.get(turn.role, "user"),
        metadata=batch.metadata,
    )
    return MemCube(header, TextPayload(turn.text))
