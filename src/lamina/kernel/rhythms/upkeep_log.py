"""What upkeep keeps in the store's log: every call of the model, and where the clock stands.

The log is append-only and shared by all processes, so it is both the stream of events that drives the clock (a memory
written or changed, a call of the model) and the place to continue from after a crash. A call is a row of its own; of
searches only the ids they found are noted, together, with the next tick. So uses survive the process: the policy
(``kernel.scheduling``) is told them again, and the sweep does not archive what is asked for daily.

What is unusual: rows outlive a ``forget``, so they hold ids and times only. Whose call it was is not written; it
follows from the memories it used, and is lost with them.
"""

from __future__ import annotations

import hashlib
import logging
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from lamina.cube.cube import Header, MemCube, Scope, now
from lamina.cube.payload import TextPayload
from lamina.errors import LaminaError
from lamina.kernel.governing import audit
from lamina.kernel.lifecycle import KERNEL
from lamina.kernel.migration import ACTOR as MOVER
from lamina.kernel.tiering.residents import bundle_name
from lamina.store.base import Event, Store, Write

ACTOR = "rhythm"
CALL, TICK = "call", "tick"
_OWN = frozenset({ACTOR, MOVER, KERNEL.name})  # who must not drive the clock: it would drive itself
_REMEMBERED = timedelta(days=14)  # half-lives of heat: what is older has cooled to nothing

logger = logging.getLogger("lamina.kernel")


@dataclass(frozen=True, slots=True)
class Call:
    """A call of the model at ``at`` (nanoseconds since 1970): the versions it ``used``, and those ``found`` besides."""

    at: int
    used: tuple[MemCube, ...]
    found: tuple[MemCube, ...]
    session: str


def counts(event: Event) -> bool:
    """Whether a row is an event of the clock: what people and programs did, not what upkeep did about it."""
    return event.action == CALL or event.actor not in _OWN


class UpkeepLog:
    """Calls and ticks of one tenant of ``store``, as rows about one cube in a tenant of its own, where no search
    looks."""

    def __init__(self, store: Store, tenant: str) -> None:
        self._store, self._tenant = store, tenant
        self.id = hashlib.sha256(f"upkeep of {tenant}".encode()).hexdigest()[:32]
        self._past: dict[str, list[Event]] | None = None
        self._last: dict[str, int] = {}
        self._folded = 0

    # -- the clock -------------------------------------------------------------------------------

    def write(self, action: str, details: Mapping[str, Any]) -> None:
        """One more row, durable when this returns."""
        header = Header(id=self.id, scope=Scope(f"{self._tenant}:rhythm"), semantic_type="procedure")
        with self._store.transaction() as tx:
            if tx.newest(self.id) is None:
                tx.insert([Write(MemCube(header, TextPayload("the clock of upkeep")), actor=ACTOR)])
            tx.note(self.id, action=action, actor=ACTOR, details=details)

    def after(self, seq: int) -> list[Event]:
        """All rows behind row ``seq`` that the clock reads: events, and ticks."""
        return [row for row in self._store.events(since=seq) if counts(row) or self.is_tick(row)]

    def is_tick(self, event: Event) -> bool:
        return event.cube == self.id and event.action == TICK

    def newest_tick(self) -> Mapping[str, Any] | None:
        """The details of the last tick, ``None`` before the first."""
        head, back = self.head(), 64
        while True:
            since = max(0, head - back)
            ticks = [row.details for row in self._store.events(cube=self.id, since=since) if row.action == TICK]
            if ticks or not since:
                return ticks[-1] if ticks else None
            back *= 8

    def head(self) -> int:
        """The number of the last row."""
        return audit.head(self._store).seq

    def began(self) -> datetime | None:
        """When uses began to be noted; nobody knows what was used before."""
        cube = self._store.get(self.id)
        return None if cube is None else cube.header.recorded

    # -- uses ------------------------------------------------------------------------------------

    def note(self, at: int, name: str, used: Sequence[MemCube], found: Sequence[MemCube], session: str) -> None:
        """A call by the owner of the bundle ``name`` (see ``bundle_name``). It is answered whether or not it can be
        noted: a full disk is only logged."""
        _, user, agent = name.split("/")
        details = {"at": at, "used": _versions(used), "found": _versions(found), "session": _digest(session)}
        named = [part for part, value in (("user", user), ("agent", agent)) if value != "*"]
        try:
            self.write(CALL, details | {"named": named})
        except LaminaError as error:
            logger.warning("a call was not noted: %s", error)

    def past(self, name: str) -> list[Call]:
        """Calls of the last two weeks with the bundle ``name``, oldest first; each is told once. What was forgotten is
        left out."""
        return [self._call(row) for row in self._calls().pop(name, [])]

    def callers(self) -> list[Scope]:
        """Whose calls of the last two weeks have not been told yet."""
        return [scope for rows in self._calls().values() if (scope := self._scope(rows[-1])) is not None]

    def last_uses(self) -> Mapping[str, int]:
        """When each memory was last used or found, nanoseconds since 1970."""
        for row in self._store.events(cube=self.id, since=self._folded):
            self._folded = row.seq
            told = row.details
            ids = told.get("touched", ()) if row.action == TICK else [id for id, _ in _pairs(told)]
            for id in ids:
                self._last[id] = max(self._last.get(id, 0), told["at"])
        return self._last

    # -- inside ----------------------------------------------------------------------------------

    def _calls(self) -> dict[str, list[Event]]:
        if self._past is None:
            self._past = {}
            start = now() - _REMEMBERED
            since = bisect_left(
                range(self.head()), start, key=lambda seq: next(iter(self._store.events(since=seq, limit=1))).at
            )
            for row in self._store.events(cube=self.id, since=since):
                if row.action == CALL and (scope := self._scope(row)) is not None:
                    self._past.setdefault(bundle_name(scope), []).append(row)
        return self._past

    def _scope(self, row: Event) -> Scope | None:
        """Whose call it was: what it named is the same in all memories it found."""
        cube = next((cube for id, _ in _pairs(row.details) if (cube := self._store.get(id)) is not None), None)
        if cube is None:
            return None
        named = {part: getattr(cube.header.scope, part) for part in row.details["named"]}
        return Scope(self._tenant, **named)

    def _call(self, row: Event) -> Call:
        told = row.details
        used, found = (tuple(self._cubes(told[part])) for part in ("used", "found"))
        return Call(told["at"], used, found, told["session"])

    def _cubes(self, pairs: Sequence[tuple[str, int]]) -> Iterator[MemCube]:
        for id, version in pairs:
            if (cube := self._store.get(id, version=version)) is not None:
                yield cube


def _versions(cubes: Sequence[MemCube]) -> list[tuple[str, int]]:
    return [(cube.id, cube.header.version) for cube in cubes]


def _pairs(details: Mapping[str, Any]) -> list[tuple[str, int]]:
    return [*details.get("used", ()), *details.get("found", ())]


def _digest(session: str) -> str:
    """Sessions are only compared; a caller may have named one after a person."""
    return session if session.startswith("day ") else hashlib.sha256(session.encode()).hexdigest()[:12]
