"""Steps that find and show: ``read``, ``retrieve``, ``augment``, ``log_query``. None of them writes.

MemOS, arXiv 2507.03724, section 4.2 (LogQuery interface) and 4.3 (structured filter first, meaning second).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import chain, zip_longest
from typing import Any, ClassVar

from lamina.errors import InvalidInput
from lamina.kernel.governance import check, narrowed
from lamina.kernel.pipelines.pipeline_context import PipelineContext, covers, positive
from lamina.store.base import Event
from lamina.text import answering
from lamina.text.base import Hit


@dataclass(frozen=True, slots=True)
class Read:
    """The message becomes the ``call``, by the context's ``MemReader``."""

    name: ClassVar[str] = "read"
    k: int = 10

    def run(self, context: PipelineContext) -> str:
        who = context.actor.name
        call = context.reader.read(
            context.text, caller=who, scope=context.scope, history=context.history, anchor=context.at, k=self.k
        )
        context.call = call
        return f"{call.intent}, by {call.reader}"


@dataclass(frozen=True, slots=True)
class Retrieve:
    """Find memories: filter first, meaning second. Leaves ``hits``, best first.

    ``query`` (default: every query of the call in turn) and ``where`` (see ``lamina.store.filters``; what the principal
    may not read never counts). The call's own time window and types come first; where they leave fewer than ``k``,
    others follow. Hits of several queries alternate. ``threshold`` as in ``Memory.search``.
    """

    name: ClassVar[str] = "retrieve"
    query: str | None = None
    k: int | None = None
    where: Mapping[str, Any] | None = None
    threshold: float = 0.1

    def __post_init__(self) -> None:
        positive("k", self.k)

    def run(self, context: PipelineContext) -> str:
        call = context.call
        own = self.query is None and call is not None
        queries = call.queries if own and call is not None else (self.query or context.question,)
        wanted = call.where if own and call is not None else None
        k = self.k or (call.k if call is not None else 10)
        base = narrowed(context.actor, self.where)
        rounds = [base] if wanted is None else [{"AND": [wanted, base]} if base else wanted, base]
        anchor = call.anchor if call is not None else context.at
        found: dict[str, Hit] = {}
        for where in rounds:
            rows = [
                context.searcher.hits(
                    query, context.scope, top_k=k, where=where, threshold=self.threshold, reference=anchor
                )
                for query in queries
            ]
            for hit in _alternating(rows):
                found.setdefault(hit.cube.id, hit)
            if len(found) >= k:
                break
        context.hits = list(found.values())[:k]
        return f"{len(context.hits)} found by {len(queries)} queries"


@dataclass(frozen=True, slots=True)
class Augment:
    """Put what was found, as this run leaves it, into ``prompt``: quoted, dated data that gives no orders."""

    name: ClassVar[str] = "augment"
    limit: int = 4

    def __post_init__(self) -> None:
        positive("limit", self.limit)

    def run(self, context: PipelineContext) -> str:
        hits = [
            Hit(context.newest(hit.cube.id), hit.score, hit.parts) if context.is_new(hit.cube.id) else hit
            for hit in context.hits
            if not context.is_gone(hit.cube.id)
        ]
        context.prompt = answering.render(hits, context.at, question=context.question, limit=self.limit)
        return f"{min(len(hits), self.limit)} memories in {len(context.prompt)} characters"


@dataclass(frozen=True, slots=True)
class LogQuery:
    """What happened: ``events``, the last ``limit`` that match, oldest first. Reads the log from its beginning.

    ``since``/``until`` (half-open, wall clock, timezone-aware), ``actor``, ``action``, ``memory`` (an id), and
    ``semantic_type``. Only of memories that are in the scope and that the principal may read: the log knows no scope,
    so what was forgotten is not shown.
    """

    name: ClassVar[str] = "log_query"
    since: datetime | None = None
    until: datetime | None = None
    actor: str | None = None
    action: str | None = None
    memory: str | None = None
    semantic_type: str | None = None
    limit: int = 100

    def __post_init__(self) -> None:
        positive("limit", self.limit)
        for name, moment in (("since", self.since), ("until", self.until)):
            if moment is not None and moment.tzinfo is None:
                raise InvalidInput(f"{name}={moment}: pass a datetime with a time zone")

    def run(self, context: PipelineContext) -> str:
        context.events = list(deque(self._events(context), maxlen=self.limit))
        return f"{len(context.events)} events"

    def _events(self, context: PipelineContext) -> Iterator[Event]:
        shown: dict[str, bool] = {}
        for event in context.store.events(cube=self.memory):
            if self._fits(event):
                if event.cube not in shown:
                    shown[event.cube] = self._may_show(context, event.cube)
                if shown[event.cube]:
                    yield event

    def _fits(self, event: Event) -> bool:
        return (
            (self.since is None or event.at >= self.since)
            and (self.until is None or event.at < self.until)
            and self.actor in (None, event.actor)
            and self.action in (None, event.action)
        )

    def _may_show(self, context: PipelineContext, id: str) -> bool:
        cube = context.store.get(id)
        return (
            cube is not None
            and covers(context.scope, cube.header.scope)
            and bool(check(context.actor, "read", cube))
            and self.semantic_type in (None, cube.header.semantic_type)
        )


def _alternating(rows: Sequence[Sequence[Hit]]) -> Iterator[Hit]:
    """The best of each, then the second of each, and so on."""
    return (hit for hit in chain.from_iterable(zip_longest(*rows)) if hit is not None)
