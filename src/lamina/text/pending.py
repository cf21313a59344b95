"""Turns that wait for a model, and what becomes of them when it answers: a retry queue that is the store itself.

A turn that is to be read by a model is stored first, tagged ``pending``, and stays findable by its words. Reading
it takes the tag off and writes its facts in ONE transaction, which checks that the turn is still at the version
that was read. So whatever happens in between (the model is away, the process is killed, another process reads
the same turn), no turn is lost and no fact is written twice: the worst case is a question asked again.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from lamina.cube.cube import MemCube, Scope
from lamina.errors import LLMError, LLMUnavailable
from lamina.llm.base import Embedder
from lamina.store.base import Store, Transaction, Vector, Write
from lamina.store.index import IndexCache
from lamina.text.base import Outcome, Pipeline, Turn
from lamina.text.candidates import Candidate, decide_ahead
from lamina.text.decisions import Decisions, actor
from lamina.text.extraction import RulesExtractor
from lamina.text.prompted.conversation import CONTEXT
from lamina.text.prompted.draft import AheadUpdater, ConversationExtractor, Draft, Reading
from lamina.text.prompted.extraction import FALLBACK
from lamina.text.prompted.reading import read
from lamina.text.prompted.restoring import PENDING, as_turn, attempts, done, is_waiting, postponed

_PAGE = 500
_GIVE_UP = 3  # sessions in a row that the model does not answer: it is away, and not just upset by one of them
_UNREADABLE = (ValueError, OverflowError)  # of an answer or a turn: numbers and dates that are none
_LOG = logging.getLogger(__name__)


@dataclass(slots=True)
class Completed:
    """What came of reading: ids of turns that are read, outcomes of their facts, and what stopped it."""

    read: set[str] = field(default_factory=set)
    outcomes: list[Outcome] = field(default_factory=list)
    problem: str | None = None


class PendingQueue:
    """Reads waiting turns of a store with a pipeline. Stateless: any process may take up what another left."""

    def __init__(self, store: Store, embedder: Embedder, pipeline: Pipeline, indexes: IndexCache) -> None:
        self._store = store
        self._embedder = embedder
        self._pipeline = pipeline
        self._indexes = indexes

    def retry(self, tenant: str) -> dict[str, int]:
        """Read all waiting turns of ``tenant``, each session in its order, until the model is found to be away.

        ``{"extracted": turns read by this call, "waiting": turns that still wait}``. A pipeline without a model reads
        none: they were promised to one. A session that failed is tried again after those that failed less often.
        """
        extracted = unanswered = 0
        asks = isinstance(self._pipeline.extractor, ConversationExtractor)
        for scope, cubes in self._sessions(tenant) if asks else []:
            try:
                completed = self.complete(scope, cubes)
            except LLMError as error:  # it answers, and not as asked: this session waits, the others need not
                _LOG.warning("%s", error)
                completed = self._left(cubes, str(error))
            extracted += len(completed.read)
            unanswered = unanswered + 1 if completed.problem is not None else 0
            if completed.problem is not None:
                self._postpone(next(cube for cube in cubes if cube.id not in completed.read))
            if unanswered == _GIVE_UP:
                break
        return {"extracted": extracted, "waiting": sum(1 for _ in self._waiting(tenant))}

    def complete(self, scope: Scope, cubes: Sequence[MemCube]) -> Completed:
        """Read ``cubes``, waiting turns of one session in order. Does not raise when the model is away."""
        completed = Completed()
        before = self._before(scope, cubes[0]) if cubes else []
        at = 0
        while at < len(cubes):
            heard = [*before, *cubes[:at]][-CONTEXT:]
            turns, context = [as_turn(cube) for cube in cubes[at:]], [as_turn(cube) for cube in heard]
            try:
                reading = self._read(scope, turns, context)
                now = cubes[at : at + reading.count]
                completed.outcomes += self._finish(scope, heard, now, reading.drafts, completed.read)
            except (LLMUnavailable, *_UNREADABLE) as error:
                _LOG.warning("%d turns wait for the model: %s", len(cubes) - at, error)
                completed.problem = str(error)
                break
            at += reading.count
        return completed

    def _read(self, scope: Scope, turns: Sequence[Turn], context: Sequence[Turn]) -> Reading:
        """As the pipeline reads. What upsets its reader is no reason to wait: the first turn is left to the rules."""
        try:
            return read(self._pipeline.extractor, scope, turns, context)
        except _UNREADABLE as error:
            _LOG.warning("rules take over: %s", error)
        try:
            drafts = read(RulesExtractor(), scope, turns[:1], context).drafts
        except _UNREADABLE as error:
            _LOG.warning("a turn is kept without facts: %s", error)
            drafts = ()
        return Reading(1, tuple(replace(each, fact=replace(each.fact, extractor=FALLBACK)) for each in drafts))

    def _left(self, cubes: Sequence[MemCube], problem: str) -> Completed:
        """What had been read of a session before ``problem`` came up: the turns that wait no longer."""
        newest = (self._store.get(cube.id) for cube in cubes)
        return Completed({cube.id for cube in newest if cube is not None and not is_waiting(cube)}, [], problem)

    def _postpone(self, first: MemCube) -> None:
        """Count that the session beginning with ``first`` could not be read, unless somebody else is at it."""
        with self._store.transaction() as tx:
            current = tx.newest(first.id)
            if current is not None and current.header.version == first.header.version:
                late = postponed(current)
                write = Write(late, self._store.vector(first.id), actor="retry", action="wait", reason="no answer")
                tx.revise(write, expect=current.header.version)

    # -- finding them ----------------------------------------------------------------------------

    def _waiting(self, tenant: str) -> Iterator[MemCube]:
        """Waiting turns, in the order they were said."""
        cursor: str | None = None
        while True:
            page = self._store.query(
                Scope(tenant=tenant), {"tags": {"contains": PENDING}, "semantic_type": "turn"},
                limit=_PAGE, cursor=cursor, newest_first=False,
            )  # fmt: skip
            yield from (cube for cube in page.cubes if is_waiting(cube) and cube.header.utterance is not None)
            if (cursor := page.cursor) is None:
                return

    def _sessions(self, tenant: str) -> list[tuple[Scope, list[MemCube]]]:
        """Waiting turns by scope and session; sessions that failed least come first, then by their first turn; turns
        by their place."""
        groups: dict[tuple[Scope, str], list[MemCube]] = {}
        for cube in self._waiting(tenant):
            groups.setdefault((cube.header.scope, as_turn(cube).session), []).append(cube)
        sessions = [
            (scope, sorted(cubes, key=lambda cube: (cube.header.recorded, as_turn(cube).ordinal)))
            for (scope, _), cubes in groups.items()
        ]
        return sorted(sessions, key=lambda session: max(map(attempts, session[1])))

    def _before(self, scope: Scope, first: MemCube) -> list[MemCube]:
        """The turns of its session that were said before ``first``, oldest first."""
        turn = as_turn(first)
        where = {"semantic_type": "turn", "session": turn.session, "ordinal": {"lt": turn.ordinal}}
        page = self._store.query(scope, where, limit=2 * CONTEXT)
        earlier = [cube for cube in page.cubes if cube.header.scope == scope]
        return sorted(earlier, key=lambda cube: as_turn(cube).ordinal)[-CONTEXT:]

    # -- storing what was read -------------------------------------------------------------------

    def _finish(
        self,
        scope: Scope,
        heard: Sequence[MemCube],
        now: Sequence[MemCube],
        drafts: Sequence[Draft],
        finished: set[str],
    ) -> list[Outcome]:
        """Facts in, tags off, in one transaction; ids of the turns done go into ``finished``."""
        vectors = self._embedder.encode([*(cube.text for cube in now), *(draft.fact.text for draft in drafts)])
        cited = [*heard, *now]
        name = self._pipeline.extractor.name
        candidates = [
            Candidate(draft, tuple(cited[place] for place in draft.cites), vector, name)
            for draft, vector in zip(drafts, vectors[len(now) :], strict=True)
        ]
        index = self._indexes.get(self._store, scope)
        if isinstance(self._pipeline.updater, AheadUpdater):
            decide_ahead(candidates, self._pipeline.updater, self._store, index, scope)
        connects = [each.prepare(scope, now, vectors[: len(now)]) for each in self._pipeline.connectors]
        with self._store.transaction() as tx:
            turns = self._claim(tx, now, list(vectors[: len(now)]))
            found = (_of_newest(tx, item) for item in candidates if item.turn.id in turns)
            mine = [item for item in found if item is not None]
            # Synced again under the write lock: what another process has just written is compared with.
            index = self._indexes.get(self._store, scope)
            outcomes = Decisions(tx, self._store, self._pipeline.updater, scope).apply(mine, index)
            kept = [Outcome("ADD", cube, "read") for cube in turns.values()]
            for connect in connects if turns else []:
                connect(tx, [*kept, *outcomes])
        finished.update(turns)
        return outcomes

    def _claim(self, tx: Transaction, cubes: Sequence[MemCube], vectors: Sequence[Vector]) -> dict[str, MemCube]:
        """Take the tag off the turns that are as they were read; those, by id. The others are done, or taken back."""
        mine: dict[str, MemCube] = {}
        for cube, vector in zip(cubes, vectors, strict=True):
            current = tx.newest(cube.id)
            if (
                current is None
                or current.header.superseded is not None
                or current.header.version != cube.header.version
            ):
                continue
            read = done(current)
            tx.revise(
                Write(read, vector, actor=actor(cube), action="extract", reason="read"), expect=cube.header.version
            )
            mine[cube.id] = read
        return mine


def _of_newest(tx: Transaction, item: Candidate) -> Candidate | None:
    """With the cited turns as they are now; ``None`` if one was forgotten or taken back while the model wrote."""
    newest = [tx.newest(cube.id) for cube in item.cited]
    there = tuple(cube for cube in newest if cube is not None and cube.header.superseded is None)
    if len(there) < len(newest):
        return None
    return replace(item, cited=there)
