"""The four actions of the consolidation clock over Lamina's own stores, and the journal that makes them durable.

Level 0 appends a sequence to the log (turn cubes, durable, in the hot index). Level 1 extracts and deduplicates facts,
links the turns of a sequence and merges index segments. Level 2 merges what is known of a subject into its summary.
Level 3 trains a ``Learner`` from the log and from replay, and writes a new version of its parameter cube, unless a
probe set says that it got worse. After complementary learning systems (McClelland et al., 1995) and the clock of
``lamina.kernel.rhythm``.

What is unusual: ids and times of everything written follow from the log alone, and each action from its tick, so the
same events give the same versions bit for bit, whether or not the process died on the way. The state of the clock is a
cube too, in a tenant of its own where no search sees it; ``read_clock`` reads it from any process.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from lamina.cube.cube import Claim, Header, Lineage, MemCube, Scope
from lamina.cube.payload import Payload, TextPayload
from lamina.errors import InvalidInput
from lamina.kernel.rhythm import NestedRhythm, Tick
from lamina.kernel.rhythms.index_segments import Segments
from lamina.kernel.rhythms.parameter_consolidation import ParameterConsolidation
from lamina.store.base import Edge, Store, Transaction, Vector, Write

_ROWS = 2  # events of level 1 in a slice
_SCAN = 16  # reads in a slice
_HALF_LIFE = 4096  # events after which the importance of an untouched summary has halved
ACTOR = "rhythm"


@dataclass(frozen=True, slots=True)
class Observation:
    """An event: what was said, when, and its vector (unit norm)."""

    text: str
    at: datetime
    vector: Vector


def read_clock(store: Store, scope: Scope, name: str = "stream") -> dict[str, Any] | None:
    """The saved state of the clock of a stream (``NestedRhythm.state_dict``), ``None`` if there is none."""
    cube = store.get(_id(scope, name, "clock"))
    return None if cube is None else json.loads(cube.text)


def _id(scope: Scope, name: str, *parts: str) -> str:
    """An id that follows from what it names, so that a repeated run writes the same."""
    whole = json.dumps([scope.tenant, scope.user, scope.agent, scope.run, name, *parts])
    return hashlib.sha256(whole.encode()).hexdigest()[:32]


class Tiers:
    """Log, facts, summaries and parameters of one stream in ``scope`` of ``store``; the ``Journal`` of its clock.

    ``extract`` says what facts a turn states, each with subject, slot and value. ``search`` reads the last committed
    version and may be called at any time, also from other threads. Memories of others in the scope are left alone.
    """

    def __init__(
        self,
        store: Store,
        scope: Scope,
        extract: Callable[[MemCube], Sequence[Claim]],
        parameters: ParameterConsolidation,
        *,
        name: str = "stream",
    ) -> None:
        self._store, self._scope, self._name = store, scope, name
        self._extract, self.parameters = extract, parameters
        self._tx: Transaction | None = None
        self.published = self._draft = Segments()
        self._rebuild()

    def attach(self, rhythm: NestedRhythm, budgets: Sequence[float] = (8, 80, 64, 160)) -> None:
        """Register the four actions and, if the store holds a clock of this stream, continue from it.

        ``budgets`` are work units a tick: turns, turns read for facts, summaries written, gradient steps.
        """
        actions = (self.append, self.merge, self.summarise, self.train)
        tables = (("turn",), ("fact", "edges"), ("summary",), ("parameter",))
        for level, (action, budget, owned) in enumerate(zip(actions, budgets, tables, strict=True)):
            rhythm.register(level, action, budget, owned)
        saved = read_clock(self._store, self._scope, self._name)
        if saved is not None:
            rhythm.load_state_dict(saved)

    def search(self, vector: Vector, k: int = 10) -> list[MemCube]:
        """The nearest turns of the last committed version, best first, forgotten ones left out."""
        found = [self._store.get(id) for id, _ in self.published.search(vector, k)]
        return [cube for cube in found if cube is not None]

    # -- the journal -----------------------------------------------------------------------------

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All tiers together or not at all; readers see the new version by one pointer swap after the commit."""
        try:
            with self._store.transaction() as tx:
                self._tx = tx
                yield
        except BaseException:
            self._draft = self.published
            self.parameters.reset()
            raise
        finally:
            self._tx = None
        self.published = self._draft

    def save(self, state: Mapping[str, Any]) -> None:
        """A new version of the clock's cube, in a tenant of its own."""
        turn = self.turn(state["n"])
        at = datetime.fromtimestamp(0, UTC) if turn is None else turn.header.recorded
        scope = replace(self._scope, tenant=f"{self._scope.tenant}:rhythm")
        header = Header(id=self.identity("clock"), scope=scope, semantic_type="procedure", created=at, recorded=at)
        self.put(header, TextPayload(json.dumps(state, sort_keys=True)))

    # -- level 0: the log ------------------------------------------------------------------------

    def append(self, tick: Tick) -> Iterator[int]:
        """The sequence as turn cubes, into the hot index."""
        writes = []
        first = tick.since + 1
        for place, item in enumerate(tick.sequence):
            header = Header(
                id=self._turn_id(first + place),
                scope=self._scope,
                semantic_type="turn",
                created=item.at,
                recorded=item.at,
                metadata={"n": first + place, "sequence": first},
            )
            writes.append(Write(MemCube(header, TextPayload(item.text)), item.vector, actor=ACTOR))
        if writes:
            self._open.insert(writes)
            self._draft = self._draft.added([w.cube.id for w in writes], [item.vector for item in tick.sequence])
            yield len(writes)

    # -- level 1: facts --------------------------------------------------------------------------

    def merge(self, tick: Tick) -> Iterator[int]:
        """Facts of the turns since the last tick: a new one is written, a known one dropped, a changed one revised."""
        for start in range(tick.since + tick.done + 1, tick.input + 1, _ROWS):
            numbers = range(start, min(start + _ROWS, tick.input + 1))
            for n in numbers:
                turn = self.turn(n)
                if turn is not None:
                    self._link(turn, n)
                    for claim in self._extract(turn):
                        self._state(turn, claim)
            yield len(numbers)
        self._draft = self._draft.merged(128)
        yield 0
        self._draft = self._draft.merged(2048)

    def _link(self, turn: MemCube, n: int) -> None:
        """The edge from the turn before, if both are of one sequence."""
        before = self.turn(n - 1) if n > turn.header.metadata["sequence"] else None
        if before is not None:
            edge = Edge(source=before.id, target=turn.id, relation="next", recorded=turn.header.recorded)
            self._open.connect([edge])

    def _state(self, turn: MemCube, claim: Claim) -> None:
        id = self.identity("fact", claim.subject, claim.slot or "")
        known = self._open.newest(id)
        if known is not None and known.header.claim is not None and known.header.claim.value == claim.value:
            return
        header = Header(
            id=id,
            scope=self._scope,
            created=turn.header.recorded if known is None else known.header.created,
            recorded=turn.header.recorded,
            claim=claim,
            lineage=Lineage(((turn.id, turn.header.version),), "extract"),
        )
        self.put(header, TextPayload(turn.text), known)

    # -- level 2: summaries ----------------------------------------------------------------------

    def summarise(self, tick: Tick) -> Iterator[int]:
        """The summaries of subjects that were spoken of, each with its newest values; importance decays when read."""
        heard: dict[str, list[tuple[MemCube, Claim]]] = {}
        for n in range(tick.since + 1, tick.input + 1):
            turn = self.turn(n)
            if turn is not None:
                for claim in self._extract(turn):
                    heard.setdefault(claim.subject, []).append((turn, claim))
            if n % _SCAN == 0:
                yield 0
        for subject in sorted(heard)[tick.done :]:
            self._summarise(subject, heard[subject], tick.input)
            yield 1

    def _summarise(self, subject: str, heard: Sequence[tuple[MemCube, Claim]], n: int) -> None:
        id = self.identity("summary", subject)
        known = self._open.newest(id)
        lines = {} if known is None else dict(line.split(": ", 1) for line in known.text.splitlines())
        lines |= {str(claim.slot): str(claim.value) for _, claim in heard}
        last = heard[-1][0].header.recorded
        old, since = (0.25, n) if known is None else (known.header.importance, known.header.metadata["n"])
        header = Header(
            id=id,
            scope=self._scope,
            semantic_type="summary",
            created=last if known is None else known.header.created,
            recorded=last,
            importance=min(1.0, 0.25 + old * 2 ** ((since - n) / _HALF_LIFE)),
            lineage=Lineage(tuple((turn.id, turn.header.version) for turn, _ in heard), "summarise"),
            metadata={"n": n},
        )
        text = "\n".join(f"{slot}: {value}" for slot, value in sorted(lines.items()))
        self.put(header, TextPayload(text), known)

    # -- level 3: parameters ---------------------------------------------------------------------

    def train(self, tick: Tick) -> Iterator[int]:
        """Gradient steps on new and replayed sequences; see ``ParameterConsolidation``."""
        return self.parameters.train(tick, self)

    # -- what all levels use ---------------------------------------------------------------------

    @property
    def _open(self) -> Transaction:
        if self._tx is None:
            raise InvalidInput("actions run inside the clock's transaction: drive them with NestedRhythm.observe")
        return self._tx

    def identity(self, *parts: str) -> str:
        """The id of what ``parts`` name in this stream."""
        return _id(self._scope, self._name, *parts)

    @property
    def scope(self) -> Scope:
        return self._scope

    def newest(self, id: str) -> MemCube | None:
        """The newest version as the open transaction sees it."""
        return self._open.newest(id)

    def _turn_id(self, n: int) -> str:
        return self.identity("turn", str(n))

    def turn(self, n: int) -> MemCube | None:
        """Event ``n`` of the log; ``None`` if it was forgotten."""
        return self._open.newest(self._turn_id(n))

    def put(self, header: Header, payload: Payload, known: MemCube | None = None) -> None:
        """The next version of a cube, or its first."""
        known = known if known is not None else self._open.newest(header.id)
        if known is None:
            self._open.insert([Write(MemCube(header, payload), actor=ACTOR)])
            return
        version = known.header.version
        cube = MemCube(replace(header, version=version + 1, created=known.header.created), payload)
        self._open.revise(Write(cube, actor=ACTOR, action="update"), expect=version)

    def _rebuild(self) -> None:
        """The hot index from the stored turns."""
        ids, vectors = [], []
        for change in self._store.changes(self._scope):
            if change.cube is not None and change.vector is not None and "sequence" in change.cube.header.metadata:
                ids.append(change.cube.id)
                vectors.append(change.vector)
        self.published = self._draft = Segments().added(ids, vectors)
