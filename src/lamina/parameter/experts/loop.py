"""The three operations as parts of a text pipeline: whoever performs them is its extractor, updater and answerer.

MemLoRA (arXiv 2512.04763) learns from the teacher's traces *in the pipeline* and then takes the teacher's place there.
``OperationLoop`` is that place: teacher and experts are asked in the same words for the same reasons, since both sit
in it. It reads conversations (a ``ConversationExtractor``), so turns are stored verbatim *before* anybody is asked: if
an operation fails, its turn waits in the store, with all that follows it.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Protocol

from lamina.cube.cube import Claim, MemCube, Scope
from lamina.parameter.experts.operations import (
    NEAREST,
    RECALLED,
    Exchange,
    Inquiry,
    MemoryOp,
    MemoryTeacher,
    Output,
    Remembered,
    Request,
    Revision,
    answer,
)
from lamina.parameter.experts.prompts import PROMPTS, written
from lamina.parameter.experts.serving import Attempt, OperationFailed
from lamina.store.analysis import terms
from lamina.text import candidates
from lamina.text.answering import Quote, quotes
from lamina.text.base import Fact, Hit, Operation, Turn
from lamina.text.prompted.draft import Counts, Reading
from lamina.text.prompted.statements import Shown, Statement, drafts

_AHEAD = 256  # decisions kept until their transaction asks for them
CONTEXT = 2  # earlier lines shown with an exchange
FACTS = {"semantic_type": {"ne": "turn"}}  # what is recalled: a turn's own words do not say who "I" is
_KINDS = {"ADD": "add", "UPDATE": "supersede", "DELETE": "close", "NONE": "noop"}


@dataclass(frozen=True, slots=True)
class _Ahead:
    """A decision, the memories it was made on, nearest first, and whether there were more than were looked at."""

    operation: MemoryOp
    seen: tuple[tuple[str, int], ...]
    more: bool

    def stands(self, near: Sequence[MemCube]) -> bool:
        """Whether nothing came or changed since. What is farther off than all that was seen is no news."""
        now = _versions(near)
        return now[: len(self.seen)] == self.seen and (self.more or len(now) == len(self.seen))


class Worker(Protocol):
    """Whoever performs operations."""

    @property
    def model(self) -> str:
        """What is written into the provenance of a memory."""

    def answer(self, requests: Sequence[Request]) -> Sequence[Output]:
        """One output a request, in order. Raises ``LLMError``."""


class Teaching:
    """A teacher as a ``Worker``."""

    def __init__(self, teacher: MemoryTeacher) -> None:
        self.model = teacher.name
        self._teacher = teacher

    def answer(self, requests: Sequence[Request]) -> list[Output]:
        """One by one."""
        return [answer(self._teacher, request) for request in requests]


class OperationLoop:
    """``ConversationExtractor`` and ``AheadUpdater`` of whoever works. Thread-safe if the worker is."""

    def __init__(self, name: str, worker: Worker) -> None:
        """``name`` is the extractor's, as memories record it."""
        self.name = name
        self.counts = Counts()
        self._worker = worker
        self._ahead: dict[str, _Ahead] = {}
        self._lock = threading.Lock()

    # -- as the extractor of a pipeline ------------------------------------------------------------

    def read(self, scope: Scope, turns: Sequence[Turn], context: Sequence[Turn] = ()) -> Reading:  # noqa: ARG002
        """Facts of the first turn, with the assistant's reply to it if that comes next. Raises ``LLMError``."""
        count = 2 if len(turns) > 1 and turns[0].role == "user" and turns[1].role == "assistant" else 1
        new = turns[:count]
        if all(turn.role in ("system", "tool") for turn in new):
            return Reading(count, ())
        before = context[-CONTEXT:]
        (facts,) = self._worker.answer([Exchange(_lines(new), _lines(before))])
        shown = Shown(before, new, self.name, self._worker.model, PROMPTS)
        statements = (
            Statement(text, _about(text, shown.turns), (_cite(text, new, len(before)),))
            for text in facts
            if isinstance(text, str)
        )
        # Cites count within what was shown; the queue counts from the start of all context.
        skipped = len(context) - len(before)
        found = drafts(statements, shown, self.counts)
        return Reading(count, tuple(replace(d, cites=tuple(place + skipped for place in d.cites)) for d in found))

    def extract(self, turn: Turn, context: Sequence[Turn] = ()) -> list[Fact]:
        """Facts of one turn that are grounded in it. Raises ``LLMError``."""
        return [draft.fact for draft in self.read(Scope(), [turn], context).drafts if draft.doubt is None]

    # -- as its updater ----------------------------------------------------------------------------

    def slots_to_compare(self, claim: Claim) -> tuple[str | None, ...]:  # noqa: ARG002
        """None: the worker is shown what is near, whatever its slot."""
        return ()

    def decide(
        self,
        fact: Fact,
        observed: datetime,  # noqa: ARG002
        same_subject: Sequence[MemCube],  # noqa: ARG002
        nearest: Sequence[tuple[MemCube, float]],
    ) -> Operation:
        """The decision about one fact. Raises ``LLMError``.

        What ``decide_ahead`` has just decided on the same memories is not asked again: this is called inside a
        transaction, where a model is waited for only if something changed in between.
        """
        near = [cube for cube, _ in nearest]
        with self._lock:
            known = self._ahead.pop(fact.text, None)
        if known is None or not known.stands(near):
            return _operation(self._ask([_revision(fact, near)])[0], fact, near)
        return _operation(known.operation, fact, near)

    def decide_ahead(
        self, facts: Sequence[tuple[Fact, datetime]], nearest: Sequence[Sequence[MemCube]]
    ) -> list[Operation | None]:
        """One decision a fact, all asked for together. Raises ``LLMError``; then nothing is written.

        Of ``nearest`` only memories with the subject of the fact are shown, as it is inside the transaction.
        """
        near = [
            [cube for cube in cubes if _subject(cube.header.claim) == _subject(fact.claim)]
            for (fact, _), cubes in zip(facts, nearest, strict=True)
        ]
        said = self._ask([_revision(fact, cubes) for (fact, _), cubes in zip(facts, near, strict=True)])
        with self._lock:
            for each, (fact, _), cubes, found in zip(said, facts, near, nearest, strict=True):
                self._ahead[fact.text] = _Ahead(each, _versions(cubes), len(found) >= candidates.NEAREST)
            for old in list(self._ahead)[:-_AHEAD]:
                del self._ahead[old]
        return [_operation(each, fact, cubes) for each, (fact, _), cubes in zip(said, facts, near, strict=True)]

    def unlearn(self) -> None:
        """Drop what was decided ahead: another worker may decide otherwise."""
        with self._lock:
            self._ahead.clear()

    def _ask(self, revisions: Sequence[Revision]) -> list[MemoryOp]:
        """What the worker says of the one fact of each."""
        said = []
        for revision, output in zip(revisions, self._worker.answer(revisions), strict=True):
            if not output or not isinstance(output[0], MemoryOp):
                reply = written(output) if output else "[]"
                raise OperationFailed(Attempt(revision, (reply,), None, "no operation for the fact"))
            said.append(output[0])
        return said


def inquiry(question: str, hits: Sequence[Hit], *, now: datetime) -> tuple[Inquiry, list[Quote]]:
    """The request that asks ``question`` of the best ``hits`` that still hold, and the memories shown in it."""
    current = [hit for hit in hits if hit.superseded_by is None and hit.cube.header.superseded is None]
    lines = quotes(current, question=question, limit=RECALLED)
    recalled = tuple(Remembered(line.meaning or line.text, line.at.date()) for line in lines)
    return Inquiry(question, recalled, now.date()), lines


def _revision(fact: Fact, near: Sequence[MemCube]) -> Revision:
    return Revision((fact.text,), tuple(cube.text for cube in near[:NEAREST]))


def _versions(cubes: Sequence[MemCube]) -> tuple[tuple[str, int], ...]:
    return tuple((cube.id, cube.header.version) for cube in cubes)


def _subject(claim: Claim | None) -> str:
    return claim.subject.casefold() if claim else ""


def _operation(said: MemoryOp, fact: Fact, near: Sequence[MemCube]) -> Operation:
    """As the store executes it. An update keeps what it replaces in history: nothing is lost by a wrong one."""
    target = near[said.id] if said.id is not None else None
    reason = f"The update expert says {said.event}."
    if said.event == "ADD" or (said.event == "NONE" and target is None):
        return Operation("add" if said.event == "ADD" else "skip", fact, reason)
    assert target is not None  # ``read`` checked it
    kind = _KINDS[said.event]
    known = set(terms(f"{fact.text} {target.text}"))
    if said.event == "UPDATE" and said.text and set(terms(said.text)) <= known:
        fact = replace(fact, text=said.text)
    return Operation(kind, fact, reason, target)  # type: ignore[arg-type]  # one of its literals


def _lines(turns: Sequence[Turn]) -> tuple[tuple[str, str], ...]:
    return tuple((turn.speaker, " ".join(turn.text.split())) for turn in turns)


def _about(text: str, turns: Sequence[Turn]) -> str:
    """The speaker a sentence begins with, else its first word: facts begin with whom they are about."""
    named = [turn.speaker for turn in turns if text.casefold().startswith(turn.speaker.casefold())]
    return max(named, key=len, default=text.split()[0].removesuffix("'s") if text.split() else "")


def _cite(text: str, new: Sequence[Turn], before: int) -> int:
    """The number of the new turn that shares most words with ``text``, counted as ``Statement`` counts, from 1."""
    wanted = set(terms(text))
    shared = [len(wanted & set(terms(f"{turn.speaker} {turn.text}"))) for turn in new]
    return before + shared.index(max(shared)) + 1
