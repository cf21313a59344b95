"""The write path: turns are kept verbatim, facts are taken from them, and each fact meets what is known.

One transaction per call: turns, facts, closed predecessors, vectors and log entries land together or not
at all. Models run *before* the transaction, so that no lock is held while a network or a GPU works.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import numpy as np

from lamina.cube.cube import Claim, Header, Lineage, MemCube, Provenance, Scope, Source, Trust, Utterance
from lamina.cube.payload import TextPayload
from lamina.llm.base import Embedder
from lamina.store.base import Store, Transaction, Vector, Write
from lamina.store.index import IndexCache
from lamina.text.base import Extractor, Fact, Operation, Turn, Updater

NEAREST = 10  # memories a new fact is compared with (Mem0, arXiv 2504.19413, section 2.1: s = 10)
_POOL = 40  # nearest facts of any subject, from which those of the same subject are taken


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one turn or fact: the mem0 event, the memory it concerns, and why."""

    event: str  # ADD, UPDATE, DELETE, NONE
    cube: MemCube
    reason: str
    previous: MemCube | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """Turns of one scope that are written together, with what the caller attached to them."""

    scope: Scope
    turns: Sequence[Turn]
    metadata: Mapping[str, Any] = field(default_factory=dict)
    expires: datetime | None = None
    infer: bool = True
    context: Sequence[Turn] = ()


@dataclass(slots=True)
class _Pending:
    """A fact waiting for its decision."""

    fact: Fact
    turn: MemCube
    vector: Vector
    nearest: list[tuple[MemCube, float]] = field(default_factory=list)


class Ingestion:
    """Writes batches of turns. Stateless but for the index cache; safe to share between threads."""

    def __init__(
        self, store: Store, embedder: Embedder, extractor: Extractor, updater: Updater, indexes: IndexCache
    ) -> None:
        self._store = store
        self._embedder = embedder
        self._extractor = extractor
        self._updater = updater
        self._indexes = indexes

    def write(self, batches: Sequence[Batch]) -> list[list[Outcome]]:
        """Store every batch in one transaction; outcomes per batch, turns before their facts."""
        prepared = [self._prepare(batch) for batch in batches]
        texts = [cube.text for turns, facts in prepared for cube in turns]
        texts += [fact.text for _, facts in prepared for fact, _ in facts]
        vectors = self._embedder.encode(texts) if texts else np.empty((0, self._embedder.dimension), np.float32)
        turn_count = sum(len(turns) for turns, _ in prepared)
        turn_vectors, fact_vectors = iter(vectors[:turn_count]), iter(vectors[turn_count:])
        outcomes: list[list[Outcome]] = []
        with self._store.transaction() as tx:
            for batch, (turns, facts) in zip(batches, prepared, strict=True):
                tx.insert([Write(cube, next(turn_vectors), actor=_actor(cube)) for cube in turns])
                pending = [_Pending(fact, turn, next(fact_vectors)) for fact, turn in facts]
                done = [Outcome("ADD", cube, "kept verbatim") for cube in turns]
                outcomes.append(done + _Decisions(self, tx, batch).apply(pending))
        return outcomes

    def _prepare(self, batch: Batch) -> tuple[list[MemCube], list[tuple[Fact, MemCube]]]:
        turns = [_turn_cube(turn, batch) for turn in batch.turns]
        if not batch.infer:
            return turns, []
        facts: list[tuple[Fact, MemCube]] = []
        heard = [*batch.context]
        for turn, cube in zip(batch.turns, turns, strict=True):
            facts.extend((fact, cube) for fact in self._extractor.extract(turn, heard))
            heard.append(turn)
        return turns, facts


class _Decisions:
    """Applies the updater to the facts of one batch, in order, inside its transaction."""

    def __init__(self, ingestion: Ingestion, tx: Transaction, batch: Batch) -> None:
        self._i = ingestion
        self._tx = tx
        self._batch = batch
        self._open: dict[str, MemCube] = {}  # facts this batch added or revised, newest version
        self._vectors: dict[str, Vector] = {}
        self._closed: set[str] = set()

    def apply(self, pending: Sequence[_Pending]) -> list[Outcome]:
        if not pending:
            return []
        self._find_stored_neighbours(pending)
        return [self._decide(item) for item in pending]

    def _find_stored_neighbours(self, pending: Sequence[_Pending]) -> None:
        """One matrix product for all facts of the batch against the stored facts of the scope."""
        index = self._i._indexes.get(self._i._store, self._batch.scope)
        found = index.nearest_facts(np.stack([item.vector for item in pending]), _POOL)
        keys = sorted({key for row in found for key, _ in row})
        by_key = dict(zip(keys, self._i._store.load(keys), strict=True))
        for item, row in zip(pending, found, strict=True):
            item.nearest = [(by_key[key], score) for key, score in row]

    def _decide(self, item: _Pending) -> Outcome:
        fact, observed = item.fact, item.turn.header.recorded
        operation = self._i._updater.decide(fact, observed, self._same_subject(fact.claim), self._nearest(item))
        item.fact = operation.fact  # "switched from tea to coffee" is filed where tea was
        return self._carry_out(operation, item)

    def _same_subject(self, claim: Claim) -> list[MemCube]:
        slots = self._i._updater.slots_to_compare(claim)
        found = [cube for slot in slots for cube in self._tx.claims(self._batch.scope, claim.subject, slot)]
        return list({cube.id: cube for cube in found}.values())

    def _nearest(self, item: _Pending) -> list[tuple[MemCube, float]]:
        subject = item.fact.claim.subject.casefold()
        near = [(self._open.get(c.id, c), s) for c, s in item.nearest if c.id not in self._closed]
        known = {c.id for c, _ in near}
        near += [(c, float(self._vectors[i] @ item.vector)) for i, c in self._open.items() if i not in known]
        near = [(c, s) for c, s in near if c.header.claim and c.header.claim.subject.casefold() == subject]
        return sorted(near, key=lambda pair: (-pair[1], pair[0].id))[:NEAREST]

    def _carry_out(self, op: Operation, item: _Pending) -> Outcome:
        if op.kind == "noop":
            return self._mention(op, item)
        if op.kind == "augment":
            return self._augment(op, item)
        cube = self._fact_cube(item)
        if op.kind == "close":
            return self._close(op, item, cube)
        target = op.target
        if op.kind == "late" and target is not None:
            header = replace(
                cube.header, superseded=target.header.recorded, superseded_by=target.id, valid_to=_since(target)
            )
            cube = replace(cube, header=header)
        self._tx.insert([Write(cube, item.vector, actor=_actor(item.turn), reason=_rule(op))])
        if op.kind == "late":
            return Outcome("ADD", cube, op.reason)
        if op.kind == "supersede" and target is not None:
            self._end(target, by=cube, action="supersede", reason=_rule(op))
            self._remember(cube, item.vector)
            return Outcome("UPDATE", cube, op.reason, previous=target)
        self._remember(cube, item.vector)
        return Outcome("ADD", cube, op.reason)

    def _mention(self, op: Operation, item: _Pending) -> Outcome:
        """Said again: the memory keeps every turn it rests on, so that forgetting reaches them all."""
        assert op.target is not None
        old = self._tx.newest(op.target.id) or op.target
        sources = (*old.header.provenance.sources, _source(item))
        header = replace(
            old.header,
            version=old.header.version + 1,
            provenance=replace(old.header.provenance, sources=sources),
            importance=min(1.0, old.header.importance + 0.05),
        )
        return self._revise(op, item, old, MemCube(header, old.payload), "NONE", self._vector_of(old))

    def _augment(self, op: Operation, item: _Pending) -> Outcome:
        assert op.target is not None
        old = self._tx.newest(op.target.id) or op.target
        new = self._fact_cube(item)
        header = replace(
            new.header,
            id=old.id,
            version=old.header.version + 1,
            created=old.header.created,
            provenance=replace(
                new.header.provenance, sources=(*old.header.provenance.sources, *new.header.provenance.sources)
            ),
            lineage=Lineage(((old.id, old.header.version),), "augment"),
        )
        return self._revise(op, item, old, MemCube(header, new.payload), "UPDATE", item.vector)

    def _revise(
        self, op: Operation, item: _Pending, old: MemCube, new: MemCube, event: str, vector: Vector | None
    ) -> Outcome:
        write = Write(new, vector, actor=_actor(item.turn), action=op.kind, reason=_rule(op))
        self._tx.revise(write, expect=old.header.version)
        self._remember(new, item.vector if vector is None else vector)
        return Outcome(event, new, op.reason, previous=old if event == "UPDATE" else None)

    def _vector_of(self, cube: MemCube) -> Vector | None:
        return self._vectors[cube.id] if cube.id in self._vectors else self._i._store.vector(cube.id)

    def _close(self, op: Operation, item: _Pending, notice: MemCube) -> Outcome:
        """An end without a new value ("I quit my job"): the old fact closes, the news itself is kept."""
        assert op.target is not None
        self._tx.insert([Write(notice, item.vector, actor=_actor(item.turn), reason=_rule(op))])
        self._end(op.target, by=notice, action="close", reason=_rule(op))
        self._remember(notice, item.vector)
        return Outcome("DELETE", op.target, op.reason, previous=op.target)

    def _end(self, target: MemCube, *, by: MemCube, action: str, reason: str) -> None:
        self._tx.close(
            target.id, at=by.header.recorded, by=by.id, valid_to=_since(by), action=action, actor="rules", reason=reason
        )
        self._closed.add(target.id)
        self._open.pop(target.id, None)

    def _remember(self, cube: MemCube, vector: Vector) -> None:
        self._open[cube.id] = cube
        self._vectors[cube.id] = vector

    def _fact_cube(self, item: _Pending) -> MemCube:
        fact, turn = item.fact, item.turn
        header = Header(
            semantic_type=_lasting_type(fact, turn.header.recorded),
            scope=self._batch.scope,
            recorded=turn.header.recorded,
            expires=self._batch.expires,
            valid_from=fact.valid_from,
            valid_to=fact.valid_to,
            provenance=Provenance((_source(item),), extractor=self._i._extractor.name),
            lineage=Lineage(((turn.id, turn.header.version),), "extract"),
            claim=fact.claim,
            trust=turn.header.trust,
            entities=fact.entities,
            keywords=fact.keywords,
            metadata=self._batch.metadata,
        )
        return MemCube(header, TextPayload(fact.text))


def _lasting_type(fact: Fact, said: datetime) -> str:
    """What was over when it was told is a happening: it stays true, whereas a state ends at its ``valid_to``."""
    over = fact.valid_to is not None and fact.valid_to <= said
    return "event" if over and fact.semantic_type == "fact" else fact.semantic_type


def _source(item: _Pending) -> Source:
    return Source(item.turn.id, item.fact.start, item.fact.end)


def _since(cube: MemCube) -> datetime:
    """From when a memory holds: what it says itself, else when it was said."""
    return cube.header.valid_from or cube.header.recorded


_RULES = {
    "add": "new",
    "noop": "said again",
    "augment": "said again with more detail",
    "supersede": "another value",
    "close": "ended",
    "late": "older than what is known",
}


def _rule(op: Operation) -> str:
    """The rule that fired, for the log: which outlives what is forgotten, so it quotes nothing anybody said."""
    slot = op.fact.claim.slot
    return f"{_RULES[op.kind]} ({slot.partition('.')[0]})" if slot and op.kind != "add" else _RULES[op.kind]


def _actor(turn: MemCube) -> str:
    return turn.header.utterance.speaker if turn.header.utterance else "user"


def _trust(role: str) -> Trust:
    return {"assistant": "assistant", "tool": "tool"}.get(role, "user")  # type: ignore[return-value]


def _turn_cube(turn: Turn, batch: Batch) -> MemCube:
    header = Header(
        semantic_type="turn",
        scope=batch.scope,
        recorded=turn.at,
        expires=batch.expires,
        provenance=Provenance(),
        utterance=Utterance(turn.session, turn.ordinal, turn.speaker, turn.role),
        trust=_trust(turn.role),
        metadata=batch.metadata,
    )
    return MemCube(header, TextPayload(turn.text))
