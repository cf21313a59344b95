"""The one object that the steps of a pipeline share: what was asked, what was found, and what is to be written.

MemOS, arXiv 2507.03724, section 4.2 (operation chains over a shared context, transactional). Unusual: no transaction
is open while steps run. A step *stages* its writes here; when all have run, they land in one transaction. So a step may
take its time (a model, an embedder) while no lock is held, a failing step has nothing to undo, and what somebody else
changed meanwhile is seen as a ``Conflict``, because every write names the version it follows.

Reads through ``newest`` see what this run has staged; searches see the store as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Protocol

import numpy as np

from lamina.cube.cube import MemCube, Provenance, Scope, State, new_id, now
from lamina.errors import Conflict, FrozenCube, InvalidInput, NotFound, NotPermitted
from lamina.kernel.governance import Principal, check, require
from lamina.kernel.reading.calls import MemoryCall
from lamina.kernel.reading.reader import MemReader
from lamina.llm.base import Embedder
from lamina.store.base import Event, Filter, Store, Transaction, Vector, Write
from lamina.text.base import Hit, Turn


class Searcher(Protocol):
    """What retrieval asks: ``lamina.memory.Memory``, or anything with its ``hits``."""

    def hits(
        self,
        query: str,
        scope: Scope,
        *,
        top_k: int = 20,
        where: Filter | None = None,
        threshold: float = 0.1,
        reference: datetime | None = None,
    ) -> list[Hit]: ...


@dataclass(frozen=True, slots=True)
class Staged:
    """A write that waits for the end of the run. ``expect`` is the version it follows, ``None`` for a new memory;
    ``run`` takes the place of ``cube`` for whatever else is to happen in the transaction."""

    step: int
    cube: MemCube | None = None
    expect: int | None = None
    action: str = "add"
    reason: str = ""
    run: Callable[[Transaction], None] | None = None


@dataclass(slots=True, kw_only=True)
class PipelineContext:
    """What a run works with and leaves behind.

    ``principal`` acts (default: the owner that ``scope`` names), in its own tenant (``NotPermitted`` for another's);
    every read and write is checked for them. ``text`` is
    the message, ``call`` what it asks (read by the step ``read``, or given). ``hits``, ``prompt``, ``events`` are what
    steps found; ``values`` is for steps of your own. ``origin`` is stamped on everything that is written.
    """

    store: Store
    embedder: Embedder
    searcher: Searcher
    scope: Scope
    text: str = ""
    call: MemoryCall | None = None
    principal: Principal | None = None
    reader: MemReader = field(default_factory=MemReader)
    history: Sequence[Turn] = ()
    at: datetime = field(default_factory=now)
    hits: list[Hit] = field(default_factory=list)
    prompt: str = ""
    events: list[Event] = field(default_factory=list)
    origin: Provenance | None = None
    values: dict[str, Any] = field(default_factory=dict)
    run_id: str = field(default_factory=new_id)
    step: int = 0
    staged: list[Staged] = field(default_factory=list)
    _written: dict[str, MemCube] = field(default_factory=dict)
    _closed: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        if self.actor.tenant != self.scope.tenant:
            raise NotPermitted(f"{self.actor.name}, tenant {self.actor.tenant!r}, may run nothing in {self.scope}")

    @property
    def actor(self) -> Principal:
        return self.principal or Principal(self.scope.tenant, self.scope.user, self.scope.agent)

    @property
    def question(self) -> str:
        """The words of the call, or of the message. Raises ``InvalidInput`` where there are neither."""
        words = self.call.text if self.call is not None else self.text
        if not words.strip():
            raise InvalidInput("the context holds no text and no call: pass PipelineContext(text=...) or (call=...)")
        return words

    def newest(self, id: str) -> MemCube:
        """The newest version as this run sees it. Raises ``NotFound``; what the principal may not read is not there."""
        cube = self._written.get(id) or self.store.get(id)
        if cube is None or not covers(self.scope, cube.header.scope) or not check(self.actor, "read", cube):
            raise NotFound(f"there is no memory {id!r:.80} in {self.scope}: list what there is")
        return cube

    def is_gone(self, id: str) -> bool:
        """Whether this run takes the memory out of use: closed, or in a state that is not searched."""
        cube = self._written.get(id)
        return id in self._closed or (cube is not None and cube.header.state in (State.ARCHIVED, State.MERGED))

    def is_new(self, id: str) -> bool:
        """Whether this run has staged a version of it."""
        return id in self._written

    def insert(self, cube: MemCube, *, reason: str = "") -> None:
        """Stage a new memory of this scope. Raises ``InvalidInput``, ``NotPermitted``."""
        if not covers(self.scope, cube.header.scope):
            raise InvalidInput(f"the new memory belongs to {cube.header.scope}, the run to {self.scope}")
        require(self.actor, "write", cube)
        self._stage(Staged(self.step, cube, reason=reason))

    def revise(self, cube: MemCube, *, action: str, reason: str = "") -> None:
        """Stage the next version of a memory: ``cube`` is the one after ``newest``. Raises ``Conflict``,
        ``FrozenCube``, ``NotPermitted``."""
        old = self._changeable(cube.id)
        if cube.header.version != old.header.version + 1:
            raise Conflict(
                f"memory {cube.id} is at version {old.header.version}: version {cube.header.version} cannot follow it;"
                " read it again and repeat the change"
            )
        self._stage(Staged(self.step, cube, old.header.version, action, reason))

    def close(self, id: str, *, reason: str, by: str | None = None) -> None:
        """Stage the end of a memory, which ``by`` replaces; it stays in history. Raises as ``revise`` does."""
        self._changeable(id)
        at, actor, told = self.at, self.actor.name, {"run": self.run_id}
        action = "retract" if by is None else "supersede"
        self.write(lambda tx: tx.close(id, at=at, by=by, action=action, actor=actor, reason=reason, details=told))
        self._closed.add(id)

    def write(self, run: Callable[[Transaction], None]) -> None:
        """Stage anything else that is to happen in the run's transaction, in its place in the order."""
        self.staged.append(Staged(self.step, run=run))

    def vectors(self) -> list[Vector | None]:
        """The vector of each staged write, in order: that of the store where the text is as it was, else a new one."""
        texts: dict[str, None] = {}
        kept: dict[int, Vector | None] = {}
        for number, staged in enumerate(self.staged):
            if staged.cube is None or staged.cube.header.kind != "text":
                continue
            stored = self.store.get(staged.cube.id)
            if stored is not None and stored.payload == staged.cube.payload:
                kept[number] = self.store.vector(staged.cube.id)
            else:
                texts[staged.cube.text] = None
        rows = dict(zip(texts, self.embedder.encode(list(texts)), strict=True)) if texts else {}
        return [
            kept[number]
            if number in kept
            else None
            if one.cube is None or one.cube.header.kind != "text"
            else np.asarray(rows[one.cube.text])
            for number, one in enumerate(self.staged)
        ]

    def apply(self, staged: Staged, vector: Vector | None, tx: Transaction, step: str) -> None:
        """Carry out one staged write."""
        if staged.run is not None:
            staged.run(tx)
            return
        assert staged.cube is not None
        details: Mapping[str, Any] = {"run": self.run_id, "step": step}
        write = Write(self._stamped(staged.cube), vector, self.actor.name, staged.action, staged.reason, details)
        if staged.expect is None:
            tx.insert([write])
        else:
            tx.revise(write, expect=staged.expect)

    def clear(self) -> None:
        """Drop what is staged."""
        self.staged.clear()
        self._written.clear()
        self._closed.clear()

    def _changeable(self, id: str) -> MemCube:
        cube = self.newest(id)
        if cube.header.state is State.FROZEN:
            raise FrozenCube(f"memory {id} is frozen: unfreeze it before it is changed")
        require(self.actor, "write", cube)
        if cube.header.superseded is not None or id in self._closed:
            raise Conflict(f"memory {id} was closed: restore it first, or add what holds now")
        return cube

    def _stage(self, staged: Staged) -> None:
        assert staged.cube is not None
        self.staged.append(staged)
        self._written[staged.cube.id] = staged.cube

    def _stamped(self, cube: MemCube) -> MemCube:
        if self.origin is None:
            return cube
        made = replace(self.origin, sources=cube.header.provenance.sources)
        return MemCube(replace(cube.header, provenance=made), cube.payload)


def covers(outer: Scope, inner: Scope) -> bool:
    """Whether a memory of ``inner`` is one of ``outer``: the same tenant, and every id that ``outer`` names."""
    pairs = ((inner.user, outer.user), (inner.agent, outer.agent), (inner.run, outer.run))
    return inner.tenant == outer.tenant and all(wanted is None or wanted == has for has, wanted in pairs)


def positive(name: str, value: int | None) -> None:
    """Raise ``InvalidInput`` unless ``value`` is ``None`` or a whole number from 1."""
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
        raise InvalidInput(f"{name}={value!r:.60}: pass a whole number from 1")
