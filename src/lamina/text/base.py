"""What plugs into ``Memory``: extractors, updaters and retrievers, and the values they pass on.

The path of a message: ``Turn`` -> ``Extractor`` -> ``Fact``s -> ``Updater`` -> ``Operation``s -> store, and then
``Connector``: what is built on top of what was written (links, notes, graph edges, summaries).
The path of a question: text -> ``Retriever`` -> ``Hit``s. A ``Pipeline`` names one of each.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, tzinfo
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from lamina.cube.cube import Claim, MemCube, Scope
from lamina.store.base import Store, Transaction


@dataclass(frozen=True, slots=True)
class Turn:
    """One message as it was said. ``at`` is timezone-aware UTC; ``ordinal`` counts from 0 in its session.

    ``named`` says that the message carried a name: a person spoke, whatever the role. ``zone`` is the zone the
    message was stamped in, for "yesterday".
    """

    text: str
    speaker: str
    role: str
    at: datetime
    session: str
    ordinal: int
    named: bool = False
    zone: tzinfo = UTC


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """A statement that stands on its own: third person, dates resolved, with its quote in the turn.

    ``start``/``end`` delimit the quote in the turn's text; ``valid_from``/``valid_to`` are the interval
    in which it holds or happens (half-open), ``None`` where the text does not say. ``extractor`` names what found
    this fact where that was not the pipeline's extractor itself ("rules(fallback)").
    """

    text: str
    start: int
    end: int
    semantic_type: str
    claim: Claim
    valid_from: datetime | None = None
    valid_to: datetime | None = None
    entities: tuple[str, ...] = ()
    keywords: tuple[str, ...] = ()
    extractor: str | None = None


@dataclass(frozen=True, slots=True)
class Operation:
    """What to do with a fact. ``reason`` is a sentence for people: which rule fired, on what.

    ``add`` stores it; ``noop`` counts it as said again (``target``); ``supersede`` closes ``target`` and
    stores the fact as its successor; ``close`` ends ``target`` and stores nothing in its place;
    ``augment`` writes the fact as the next version of ``target``; ``late`` stores it already closed,
    because ``target`` is newer in the world; ``skip`` stores nothing (the turn it is from is kept all the same).
    """

    kind: Literal["add", "noop", "supersede", "close", "augment", "late", "skip"]
    fact: Fact
    reason: str
    target: MemCube | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one turn or fact: the mem0 event, the memory it concerns, and why."""

    event: str  # ADD, UPDATE, DELETE, NONE
    cube: MemCube
    reason: str
    previous: MemCube | None = None


@dataclass(frozen=True, slots=True)
class Hit:
    """One search result: the best memory of a turn, the turn itself, the score and what it is made of."""

    cube: MemCube
    score: float
    parts: Mapping[str, float]
    source: MemCube | None = None  # the verbatim turn; None for a memory stored without one
    superseded_by: str | None = None
    facts: tuple[MemCube, ...] = field(default=())  # other memories of the same turn that matched
    matched: Mapping[str, float] | None = None  # the most that any open memory of the turn has of each part

    @property
    def cosine(self) -> float:
        """How similar in meaning, the turns around it included: the part ``dense``."""
        return self.parts.get("dense", 0.0)

    @property
    def lexical(self) -> float:
        """How much in common by words, relative to the best memory found: the part ``lexical``."""
        return self.parts.get("lexical", 0.0)

    def most(self, part: str) -> float:
        """A part of whichever open memory of the turn has most of it."""
        return (self.parts if self.matched is None else self.matched).get(part, 0.0)


class Extractor(Protocol):
    name: str

    def extract(self, turn: Turn, context: Sequence[Turn] = ()) -> list[Fact]:
        """Facts stated in ``turn`` alone; ``context`` (earlier turns) only helps to resolve references."""


class Updater(Protocol):
    name: str

    def slots_to_compare(self, claim: Claim) -> tuple[str | None, ...]:
        """Which slots' open facts ``decide`` wants to see in ``same_subject``; ``None`` in it means all."""

    def decide(
        self,
        fact: Fact,
        observed: datetime,
        same_subject: Sequence[MemCube],
        nearest: Sequence[tuple[MemCube, float]],
    ) -> Operation:
        """Compare a fact with open memories: all of its subject, and the nearest by cosine (with it)."""


class Retriever(Protocol):
    name: str

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
        """The ``k`` best turns or memories; ``allow`` holds the keys a filter let through."""


Connect = Callable[[Transaction, Sequence[Outcome]], None]


class Connector(Protocol):
    """Builds on what is being written: links between turns, notes about them, a graph of what facts say."""

    name: str

    def prepare(self, scope: Scope, turns: Sequence[MemCube], vectors: NDArray[np.float32]) -> Connect:
        """Called once per scope and write, *before* the transaction: models run here, so that no lock is held.

        ``turns`` are the verbatim turns about to be stored, in order, ``vectors`` (n, d) theirs. The function
        returned is called inside the transaction, after turns and facts were written, with the outcomes of this
        scope (turns first in each session, then their facts). A turn of the same call is no row of any index
        yet: whoever links turns keeps track of those itself. Whatever it writes lands with the turns, or not at all.
        """

    def mend(self, scope: Scope) -> None:
        """Called after a memory of ``scope`` was corrected, deleted, restored or forgotten: build anew what went
        with it and can be had from what is left."""


@dataclass(frozen=True, slots=True)
class Pipeline:
    """How ``Memory`` builds and reads text memory. ``lamina.text.pipelines`` lists the published ones by name."""

    extractor: Extractor
    updater: Updater
    retriever: Retriever
    connectors: tuple[Connector, ...] = ()
