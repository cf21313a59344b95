"""Carries out what the updater decides about each fact, inside the transaction that stores it.

An ``Updater`` is pure: it compares a fact with what is known and says what to do. This file finds what is
known (open facts with the slots the updater asks for, and the nearest by cosine, including those this very
call has written) and turns each ``Operation`` into writes with lineage, sources and a log entry.

A decision made ahead of the transaction (by a model) stands if what it aims at is as it was, and if this call has
not written the like itself. What a less trusted source says ends and rewrites nothing that a more trusted one said:
both stay. A doubtful fact is decided on by nobody: it is stored where no search finds it, tagged ``quarantined`` with
the reason, for a person to look at; the same one again is counted, not stored twice.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

import numpy as np

from lamina.cube.cube import Header, Lineage, MemCube, Provenance, Scope, Source, State
from lamina.cube.payload import TextPayload
from lamina.store.base import Edge, Store, Transaction, Vector, Write
from lamina.store.growing import Growing
from lamina.store.index import ScopeIndex
from lamina.text.base import Fact, Operation, Outcome, Updater
from lamina.text.candidates import NEAREST, POOL, TRUST, Candidate, find_nearest

_MENTION = 0.05  # importance gained each time something is said again; ours
_FIRST, _LAST = 1, 8  # turns a memory that was said often names; the others its older versions name
QUARANTINED = "quarantined"
_DOUBTS = uuid.UUID("b1f5c7a2-52b0-4c53-9f4e-2f7b8a3a9a10")  # ids of doubtful facts: one each scope and wording

# What the log says of each operation. The log outlives what is forgotten, so it quotes nothing anybody said.
_RULES = {
    "add": "new",
    "noop": "said again",
    "augment": "said again with more detail",
    "supersede": "another value",
    "close": "ended",
    "late": "older than what is known",
    "skip": "not worth keeping",
}


class Decisions:
    """The decisions of one call in one scope: it sees what is stored and what it has written itself."""

    def __init__(self, tx: Transaction, store: Store, updater: Updater, scope: Scope) -> None:
        self._tx = tx
        self._store = store
        self._updater = updater
        self._scope = scope
        self._recent = _Recent()
        self._closed: set[str] = set()

    def apply(self, candidates: Sequence[Candidate], index: ScopeIndex) -> list[Outcome]:
        """Decide and write each fact, in order. ``index`` is that of the scope, without this call's facts."""
        find_nearest([item for item in candidates if item.draft.doubt is None], self._store, index, self._scope)
        return [self._decide(item) if item.draft.doubt is None else self._quarantine(item) for item in candidates]

    def _decide(self, item: Candidate) -> Outcome:
        claim = item.fact.claim
        slots = self._updater.slots_to_compare(claim)
        known = {cube.id: cube for slot in slots for cube in self._tx.claims(self._scope, claim.subject, slot)}
        observed = item.turn.header.recorded
        operation = self._updater.decide(item.fact, observed, list(known.values()), self._nearest(item))
        if item.proposal is not None and self._stands(item.proposal, operation):
            operation = item.proposal
        operation = _within_trust(operation, item)
        item.fact = operation.fact  # "switched from tea to coffee" is filed where tea was
        outcome = self._carry_out(operation, item)
        self._link(outcome, item)
        return outcome

    def _stands(self, proposal: Operation, ruled: Operation) -> bool:
        """Whether a decision made ahead still fits: nobody said the same meanwhile, its target is as it was."""
        if ruled.kind == "noop" or (ruled.target is not None and self._recent.holds(ruled.target.id)):
            return False
        target = proposal.target
        if target is None:
            return True
        current = self._tx.newest(target.id)
        return (
            current is not None
            and current.header.version == target.header.version
            and current.header.superseded is None
            and target.id not in self._closed
        )

    def _link(self, outcome: Outcome, item: Candidate) -> None:
        """Edges to the memories a fact belongs to, those that are still there."""
        if not item.draft.links or outcome.event not in ("ADD", "UPDATE"):
            return
        ends = [id for id in item.draft.links if id != outcome.cube.id and self._is_ours(self._tx.newest(id))]
        at, by = item.turn.header.recorded, item.turn.id
        self._tx.connect(
            [Edge(source=outcome.cube.id, target=id, relation="linked", evidence=by, recorded=at) for id in ends]
        )

    def _is_ours(self, cube: MemCube | None) -> bool:
        return cube is not None and cube.header.scope == self._scope and cube.header.superseded is None

    def _nearest(self, item: Candidate) -> list[tuple[MemCube, float]]:
        """Open facts of the same subject, most similar first: stored ones in their newest version, and recent."""
        subject = item.fact.claim.subject.casefold()
        near = {cube.id: (cube, score) for cube, score in item.nearest if _subject(cube) == subject}
        near |= {cube.id: (cube, score) for cube, score in self._recent.near(subject, item.vector)}
        still_open = [pair for id, pair in near.items() if id not in self._closed]
        return sorted(still_open, key=lambda pair: (-pair[1], pair[0].id))[:NEAREST]

    # -- one operation each ----------------------------------------------------------------------

    def _carry_out(self, op: Operation, item: Candidate) -> Outcome:
        if op.kind == "skip":
            return Outcome("NONE", item.turn, op.reason)
        if op.kind == "noop":
            return self._mention(op, item)
        if op.kind == "augment":
            return self._augment(op, item)
        if op.kind == "late":
            return self._late(op, item)
        cube = self._fact_cube(item)
        self._insert(cube, op, item)
        if op.kind == "add" or op.target is None:
            return Outcome("ADD", cube, op.reason)
        self._end(op.target, by=cube, op=op)
        if op.kind == "supersede":
            return Outcome("UPDATE", cube, op.reason, previous=op.target)
        return Outcome("DELETE", op.target, op.reason, previous=op.target)  # an ending; the news itself is kept

    def _mention(self, op: Operation, item: Candidate) -> Outcome:
        """Said again. The version names its first and last turns and no more, or what is often said would grow without
        end; forgetting reaches the others through the versions before, which name them."""
        old = self._current(op)
        header = replace(
            old.header,
            version=old.header.version + 1,
            provenance=replace(old.header.provenance, sources=_bounded(old.header.provenance.sources, item.sources)),
            trust=max(old.header.trust, item.trust, key=TRUST.index),
            importance=min(1.0, old.header.importance + _MENTION),
            expires=_later(old.header.expires, item.turn.header.expires),
            sensitivity=_either(old, item.turn),
            metadata={**old.header.metadata, **item.turn.header.metadata},
        )
        self._revise(old, MemCube(header, old.payload), self._recent.vector(old.id), op, item)
        return Outcome("NONE", MemCube(header, old.payload), op.reason)

    def _augment(self, op: Operation, item: Candidate) -> Outcome:
        old, new = self._current(op), self._fact_cube(item)
        sources = _bounded(old.header.provenance.sources, new.header.provenance.sources)
        header = replace(
            new.header,
            id=old.id,
            version=old.header.version + 1,
            created=old.header.created,
            provenance=replace(new.header.provenance, sources=sources),
            sensitivity=_either(old, new),
            lineage=Lineage(((old.id, old.header.version),), "augment"),
        )
        fuller = MemCube(header, new.payload)
        self._revise(old, fuller, item.vector, op, item)
        return Outcome("UPDATE", fuller, op.reason, previous=old)

    def _quarantine(self, item: Candidate) -> Outcome:
        """Kept out of every search; its id is made from its wording, so that a guess repeated is one memory."""
        cube, reason = self._fact_cube(item), f"{QUARANTINED}: {item.draft.doubt}"
        wording = " ".join(item.fact.text.casefold().split())
        scope = (self._scope.tenant, self._scope.user, self._scope.agent, self._scope.run)
        id = str(uuid.uuid5(_DOUBTS, repr((scope, wording))))
        known = self._tx.newest(id)
        if known is not None:
            again = Operation("noop", item.fact, reason, known)
            return self._mention(again, item) if known.header.superseded is None else Outcome("NONE", known, reason)
        header = replace(cube.header, id=id, state=State.ARCHIVED, tags=(QUARANTINED, item.draft.doubt or ""))
        held = MemCube(header, cube.payload)
        self._tx.insert([Write(held, item.vector, actor=actor(item.turn), reason=QUARANTINED)])
        return Outcome("NONE", held, reason)

    def _late(self, op: Operation, item: Candidate) -> Outcome:
        """News from the past: stored as already closed by what is known since."""
        assert op.target is not None
        cube = self._fact_cube(item)
        newer = op.target.header
        header = replace(cube.header, superseded=newer.recorded, superseded_by=op.target.id, valid_to=_since(op.target))
        late = MemCube(header, cube.payload)
        self._tx.insert([Write(late, item.vector, actor=actor(item.turn), reason=_rule(op))])
        return Outcome("ADD", late, op.reason)

    def _current(self, op: Operation) -> MemCube:
        assert op.target is not None
        return self._tx.newest(op.target.id) or op.target

    def _insert(self, cube: MemCube, op: Operation, item: Candidate) -> None:
        self._tx.insert([Write(cube, item.vector, actor=actor(item.turn), reason=_rule(op))])
        self._recent.put(cube, item.vector)

    def _revise(self, old: MemCube, new: MemCube, vector: Vector | None, op: Operation, item: Candidate) -> None:
        kept = self._store.vector(old.id) if vector is None else vector
        write = Write(new, kept, actor=actor(item.turn), action=op.kind, reason=_rule(op))
        self._tx.revise(write, expect=old.header.version)
        self._recent.put(new, item.vector if kept is None else kept)

    def _end(self, target: MemCube, *, by: MemCube, op: Operation) -> None:
        at, until = by.header.recorded, _since(by)
        self._tx.close(target.id, at=at, by=by.id, valid_to=until, action=op.kind, actor="rules", reason=_rule(op))
        self._closed.add(target.id)

    def _fact_cube(self, item: Candidate) -> MemCube:
        """The fact as a new memory: owner, metadata, expiry and sensitivity are those of its turn."""
        fact, turn = item.fact, item.turn.header
        header = Header(
            semantic_type=_lasting_type(fact, turn.recorded),
            scope=turn.scope,
            created=turn.recorded,
            recorded=turn.recorded,
            expires=turn.expires,
            valid_from=fact.valid_from,
            valid_to=fact.valid_to,
            provenance=Provenance(
                item.sources,
                extractor=fact.extractor or item.extractor,
                model=item.draft.model,
                prompt_hash=item.draft.prompt_hash,
            ),
            lineage=Lineage(tuple((cube.id, cube.header.version) for cube in item.cited), "extract"),
            claim=fact.claim,
            trust=item.trust,
            entities=fact.entities,
            keywords=fact.keywords,
            sensitivity=turn.sensitivity,
            metadata=turn.metadata,
        )
        return MemCube(header, TextPayload(fact.text))


class _Recent:
    """Facts this call has written, by subject: the index of the scope cannot see them yet."""

    def __init__(self) -> None:
        self._cubes: dict[str, MemCube] = {}
        self._ids: dict[str, list[str]] = {}  # subject -> ids, in the order of its matrix
        self._vectors: dict[str, Growing] = {}
        self._place: dict[str, tuple[str, int]] = {}

    def put(self, cube: MemCube, vector: Vector) -> None:
        subject = _subject(cube)
        if cube.id not in self._place:
            matrix = self._vectors.setdefault(subject, Growing(np.float32, row=(len(vector),)))
            self._place[cube.id] = subject, len(matrix)
            self._ids.setdefault(subject, []).append(cube.id)
            matrix.extend(vector[None, :])
        subject, row = self._place[cube.id]
        self._vectors[subject].array[row] = vector
        self._cubes[cube.id] = cube

    def holds(self, id: str) -> bool:
        return id in self._place

    def vector(self, id: str) -> Vector | None:
        if id not in self._place:
            return None
        subject, row = self._place[id]
        return np.asarray(self._vectors[subject].array[row])

    def near(self, subject: str, vector: Vector) -> list[tuple[MemCube, float]]:
        if subject not in self._vectors:
            return []
        similarity = self._vectors[subject].array @ vector
        best = np.argsort(-similarity, kind="stable")[:POOL]
        return [(self._cubes[self._ids[subject][row]], float(similarity[row])) for row in best.tolist()]


def actor(turn: MemCube) -> str:
    """In which role it was said, for the log: a name would outlive the forgetting of its bearer."""
    return turn.header.utterance.role if turn.header.utterance else "user"


def _subject(cube: MemCube) -> str:
    return cube.header.claim.subject.casefold() if cube.header.claim else ""


def _since(cube: MemCube) -> datetime:
    """From when a memory holds: what it says itself, else when it was said."""
    return cube.header.valid_from or cube.header.recorded


def _bounded(old: tuple[Source, ...], new: tuple[Source, ...]) -> tuple[Source, ...]:
    """Sources of a memory with new ones: the first, and the last few (all of the new)."""
    both = (*old, *new)
    return both if len(both) <= _FIRST + _LAST else (*both[:_FIRST], *both[-max(_LAST, len(new)) :])


def _either(one: MemCube, other: MemCube) -> tuple[str, ...]:
    return tuple(sorted({*one.header.sensitivity, *other.header.sensitivity}))


def _within_trust(op: Operation, item: Candidate) -> Operation:
    """The operation, or an addition where it would end or rewrite what a more trusted source said."""
    harms = op.target is not None and op.kind in ("supersede", "close", "augment")
    if op.target is None or not harms or TRUST.index(item.trust) >= TRUST.index(op.target.header.trust):
        return op
    return Operation("add", item.fact, f"From a less trusted source ({item.trust}) than what it is about: both stay.")


def _later(old: datetime | None, new: datetime | None) -> datetime | None:
    """Of two expiries the later; none at all if either is for good."""
    return None if old is None or new is None else max(old, new)


def _lasting_type(fact: Fact, said: datetime) -> str:
    """What was over when it was told is a happening: it stays true, whereas a state ends at its ``valid_to``."""
    over = fact.valid_to is not None and fact.valid_to <= said
    return "event" if over and fact.semantic_type == "fact" else fact.semantic_type


def _rule(op: Operation) -> str:
    slot = op.fact.claim.slot
    return f"{_RULES[op.kind]} ({slot.partition('.')[0]})" if slot and op.kind != "add" else _RULES[op.kind]
