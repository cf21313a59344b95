"""What a reader of whole conversations hands over, and what a decider that asks a model is asked.

``Extractor`` and ``Updater`` (``lamina.text.base``) work turn by turn and without waiting. A model reads several
turns at once, cites the ones a fact rests on, may be unreachable, and must never be waited for inside a
transaction; the two protocols here say so, and ``Draft`` carries what it said until it is stored.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol, runtime_checkable

from lamina.cube.cube import Claim, MemCube, Scope
from lamina.text.base import Fact, Operation, Turn


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A fact on its way to the store.

    ``cites`` are positions in ``[*context, *turns]`` of what it rests on, the turn it is filed under last (the span
    of ``fact`` lies in that one). ``links`` are ids of memories it belongs to; ``doubt`` says why it must not
    become active, if anything does.
    """

    fact: Fact
    cites: tuple[int, ...]
    links: tuple[str, ...] = ()
    model: str | None = None
    prompt_hash: str | None = None
    doubt: str | None = None


@dataclass(frozen=True, slots=True)
class Reading:
    """Facts of the first ``count`` of the turns that were given."""

    count: int
    drafts: tuple[Draft, ...]


@runtime_checkable
class ConversationExtractor(Protocol):
    """An extractor that asks a model about several turns at once."""

    name: str

    def read(self, scope: Scope, turns: Sequence[Turn], context: Sequence[Turn] = ()) -> Reading:
        """Facts of as many turns, from the first, as one question takes (at least one). ``context`` was said before.

        Raises ``LLMUnavailable``; an answer that is no answer is the extractor's own to deal with.
        """


@runtime_checkable
class AheadUpdater(Protocol):
    """An updater that decides ahead: it asks a model before the transaction, on what is committed by then.

    Inside the transaction a decision stands if its target is still open and at the same version; else ``decide``,
    which asks nobody, decides again.
    """

    name: str

    def slots_to_compare(self, claim: Claim) -> tuple[str | None, ...]: ...

    def decide(
        self,
        fact: Fact,
        observed: datetime,
        same_subject: Sequence[MemCube],
        nearest: Sequence[tuple[MemCube, float]],
    ) -> Operation: ...

    def decide_ahead(
        self, facts: Sequence[tuple[Fact, datetime]], nearest: Sequence[Sequence[MemCube]]
    ) -> list[Operation | None]:
        """For each fact, told at its time, and the open memories nearest to it: what to do, ``None`` for no opinion."""


@dataclass(slots=True)
class Counts:
    """What became of questions and answers since the start of the process."""

    asked: int = 0  # questions put to the model
    valid: int = 0  # answers in the asked form
    fallback: int = 0  # turns read (or facts decided) by rules because the answer was none
    repaired: int = 0  # facts kept after a wrong citation or id was taken off
    quarantined: int = 0  # facts set aside: ungrounded, or out of place
    unknown_ids: int = 0  # turns and memories named that were never shown
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def add(self, **counts: int) -> None:
        with self._lock:
            for name, n in counts.items():
                setattr(self, name, getattr(self, name) + n)
