"""The three operations of a text memory as values: what is asked, what is answered, and who may answer.

Mem0's loop (arXiv 2504.19413), split as MemLoRA (arXiv 2512.04763) learns it: ``extract`` facts from an exchange,
``update`` what is stored by them, ``generate`` an answer from what is recalled. Teachers and students speak these
values alone, so either can stand where the other does. Memories are shown by their place in a list, never by id: a
model cannot invent a place that a range check does not find.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Literal, Protocol

Op = Literal["extract", "update", "generate"]
Event = Literal["ADD", "UPDATE", "DELETE", "NONE"]
OPS: tuple[Op, ...] = ("extract", "update", "generate")
NOT_MENTIONED = "not mentioned"
NEAREST = 5  # memories that a new fact is shown with
RECALLED = 3  # memories that an answer is read from: dated, so that each costs twice as many tokens


@dataclass(frozen=True, slots=True)
class Exchange:
    """What was just said and a little of what came before, as ``(speaker, text)`` lines, oldest first."""

    said: tuple[tuple[str, str], ...]
    context: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Revision:
    """New facts, and the stored memories most similar to them."""

    facts: tuple[str, ...]
    memories: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Remembered:
    """A recalled memory and the day it was recorded."""

    text: str
    day: date


@dataclass(frozen=True, slots=True)
class Inquiry:
    """A question, what was recalled for it, and the day it is asked on."""

    question: str
    memories: tuple[Remembered, ...]
    today: date


@dataclass(frozen=True, slots=True)
class MemoryOp:
    """What to do with one new fact. ``id`` is a place among the memories shown; ``text`` is what to store.

    ``ADD`` stores ``text``; ``UPDATE`` puts it in the place of memory ``id``; ``DELETE`` ends memory ``id``;
    ``NONE`` changes nothing, because memory ``id`` says it or (``id=None``) there is nothing to change.
    """

    event: Event
    id: int | None = None
    text: str | None = None


Request = Exchange | Revision | Inquiry
Output = tuple[str, ...] | tuple[MemoryOp, ...] | str


class MemoryTeacher(Protocol):
    """Whoever performs the operations: a large model, rules, the state behind synthetic data, or a student."""

    @property
    def name(self) -> str:
        """Goes with every trace and every expert: what a student may be said to have learnt from."""

    def extract(self, exchange: Exchange) -> Sequence[str]:
        """Facts that the exchange states, each a sentence that stands on its own; empty for chatter."""

    def update(self, revision: Revision) -> Sequence[MemoryOp]:
        """One operation a fact, in the order of the facts."""

    def generate(self, inquiry: Inquiry) -> str:
        """A short answer from the memories, or ``not mentioned``."""


def op_of(request: Request) -> Op:
    """Which operation a request asks for."""
    match request:
        case Exchange():
            return "extract"
        case Revision():
            return "update"
        case Inquiry():
            return "generate"


def answer(teacher: MemoryTeacher, request: Request) -> Output:
    """What ``teacher`` answers, as a value that can be kept."""
    match request:
        case Exchange():
            return tuple(teacher.extract(request))
        case Revision():
            return tuple(teacher.update(request))
        case Inquiry():
            return teacher.generate(request)


def execute(memories: Sequence[str], operations: Sequence[MemoryOp]) -> list[str]:
    """The list of memories after the operations; places are those of ``memories``, whatever was deleted before."""
    kept: dict[int, str] = dict(enumerate(memories))
    added: list[str] = []
    for operation in operations:
        if operation.event == "ADD" and operation.text is not None:
            added.append(operation.text)
        elif operation.event == "UPDATE" and operation.id in kept and operation.text is not None:
            kept[operation.id] = operation.text
        elif operation.event == "DELETE" and operation.id is not None:
            kept.pop(operation.id, None)
    return [*kept.values(), *added]
