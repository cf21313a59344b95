"""Upkeep: the consolidation clock at work in MemOS. When to note, move, sweep and teach, counted in events.

An event is a row that people and programs write to the store's log: a memory written or changed, a call of the model.
Whoever writes counts on (``follow``), and works on level 0 alone: answers stay fast. The slower levels are held until
nobody asks for a while (``ripple``) or they are more than two periods late, and then run upward, each reading what the
one below did an instant ago; ``drain`` runs them all at once. After complementary learning systems (McClelland et al.,
1995) and ``lamina.kernel.rhythm``; its engineering relatives are LSM compaction and generational garbage collection.

What is unusual: the clock has no count of its own to lose. It is a function of the log and of its last saved state, a
row of that same log; after a kill the rows behind it are counted again. Actions commit by themselves, slice by slice,
and look at what *is*, not at what was noted, so that an interrupted one is simply done again and finds less to do.
One process at a time works, by a lock that dies with it (of a file, or of the server that holds the store); the others
go on counting from what it saved.
"""

from __future__ import annotations

import fcntl
import json
import logging
import math
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from lamina.cube.cube import MemCube, Scope
from lamina.errors import InvalidInput, LaminaError, NotFound, StoreUnavailable
from lamina.kernel import lifecycle
from lamina.kernel.rhythm import NestedRhythm, Tick
from lamina.kernel.rhythms.upkeep_log import TICK, UpkeepLog
from lamina.kernel.tiering.decisions import Decision, Tier
from lamina.kernel.tiering.residents import is_current
from lamina.memory import Memory

if TYPE_CHECKING:
    from lamina.kernel.tiering.tiers import Tiers

LEVELS = (
    "notes what was found and where it stands",
    "moves memories between text and caches",
    "closes what expired, archives what is idle, brings indexes up to date",
    "teaches adapters what has settled, where allowed",
)
_TEACH = 3
_BUDGETS = (64, 16, 64, 4)  # mean work units a tick: ids noted, moves, owners swept, groups taught

logger = logging.getLogger("lamina.kernel")


class Turns(Protocol):
    """What a store that many hosts share offers instead of a file: ``PostgresStore.turn``."""

    def __call__(self, name: str, *, wait: bool) -> AbstractContextManager[bool]: ...


class Upkeep:
    """The clock of one memory. Thread-safe.

    ``policy`` makes the moves that the use of memories asks for and says which (none where no model was loaded);
    ``tiers`` gives the forms, loading the model. What was neither written nor used for ``archive_after`` is archived,
    at the earliest that long after uses began to be noted. ``clock`` gives nanoseconds since 1970. ``trace`` may be
    set: it is given one mapping (n, level, work, ms) for each tick that was worked on.
    """

    def __init__(
        self,
        memory: Memory,
        *,
        policy: Callable[[], list[Decision]],
        tiers: Callable[[], Tiers],
        archive_after: timedelta = lifecycle.ARCHIVE_AFTER,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self.archive_after = archive_after
        self.trace: Callable[[Mapping[str, Any]], None] = lambda _: None
        self.log = UpkeepLog(memory.store, memory.settings.tenant)
        self._memory, self._store, self._tenant = memory, memory.store, memory.settings.tenant
        self._policy, self._tiers, self._now = policy, tiers, clock
        path = getattr(memory.store, "path", None)
        self._file: Path | None = path and path.with_name(f"{path.name}.rhythm")
        self._turns: Turns | None = getattr(memory.store, "turn", None)
        self._turn = threading.Lock()
        self._found: dict[str, None] = {}  # since the last tick of level 0
        self._noted: list[str] = []  # taken from there, and not yet written
        self._asked = -math.inf  # when, in seconds of the monotonic clock
        self._saved: Mapping[str, Any] | None = None  # the row last written or read
        self._unsaved = False
        self._seq = -1  # rows counted; -1: the clock was not read yet
        self._rhythm = NestedRhythm(
            slice_ms=math.inf, journal=self, trace=lambda row: self.trace(row)
        )  # a slice may be a lesson of minutes: nobody waits for it
        actions = (self._note, self._move, self._sweep, self._teach)
        for level, (action, budget) in enumerate(zip(actions, _BUDGETS, strict=True)):
            self._rhythm.register(level, action, budget)
        self._hold()

    # -- what MemOS calls ------------------------------------------------------------------------

    def found(self, cubes: Iterable[MemCube]) -> None:
        """These memories were asked for."""
        self._asked = time.monotonic()
        self._found.update(dict.fromkeys(cube.id for cube in cubes))

    def follow(self) -> None:
        """Count what was written since the last time. Never waits and never raises: what is not counted now, because
        another process works or the disk is full, is counted later."""
        self._asked = time.monotonic()
        try:
            with self._taking_turns(wait=False) as mine:
                if mine:
                    self._count()
                    self._save()
        except LaminaError as error:
            logger.warning("the clock of upkeep stands still: %s", error)

    def ripple(self, *, consolidate: bool = False) -> None:
        """If nobody asked for a while, or work is late, do what is due; in a lull also what the policy says now."""
        quiet_ms = (time.monotonic() - self._asked) * 1e3
        lull = quiet_ms >= self._rhythm.idle_ms
        with self._taking_turns(wait=False) as mine:
            if not mine:
                return
            self._count()
            if lull or self._late():
                with self._working(consolidate):
                    self._rhythm.catch_up()
            if lull:
                self._take()
            self._save()
            if lull:
                self._policy()

    def drain(self, *, consolidate: bool = False) -> None:
        """Do all that is due and all that waits, now; waits for its turn."""
        with self._taking_turns(wait=True):
            self._count()
            with self._working(consolidate):
                self._rhythm.drain()
            self._save()

    def status(self) -> list[dict[str, Any]]:
        """Every level: period, phase, watermark, how many events it lags behind, the budget it carries, what it did and
        does; ``mean_lag`` is how old its input was on average. Nothing is written."""
        if self._turn.acquire(blocking=False):  # else a level is at work: say how far it has come
            try:
                self._count()
            finally:
                self._turn.release()
        rows = self._rhythm.status()
        kept = ("level", "period", "phase", "watermark", "carry", "work", "ticks", "mean_lag")
        return [
            {name: row[name] for name in kept} | {"lag": row["backlog"], "does": LEVELS[row["level"]]} for row in rows
        ]

    @property
    def n(self) -> int:
        """Events counted so far."""
        return self._rhythm.n

    def close(self) -> None:
        """Note what was found since the last tick."""
        if self._found:
            self._take()
            self.follow()

    # -- the journal of the clock ----------------------------------------------------------------

    def transaction(self) -> AbstractContextManager[None]:
        """Every slice commits by itself, in the order of the levels."""
        return nullcontext()

    def save(self, state: Mapping[str, Any]) -> None:  # noqa: ARG002 - read when it is written
        """To be written once, at the end of a turn, however many ticks it had."""
        self._unsaved = True

    def _save(self) -> None:
        if not (self._unsaved or self._noted):
            return
        noted, state = list(self._noted), self._rhythm.state_dict()
        row = {"at": self._now(), "seq": self._seq, "state": state, "touched": sorted(set(noted))}
        self.log.write(TICK, row)
        self._saved, self._unsaved = json.loads(json.dumps(row)), False
        del self._noted[: len(noted)]

    def _count(self) -> None:
        """Observe the events behind the last one, from the newest state that any process saved."""
        if self._seq < 0:
            self._adopt(self.log.newest_tick())
        rows = self.log.after(self._seq)
        newest = next((row.details for row in reversed(rows) if self.log.is_tick(row)), self._saved)
        if newest != self._saved:  # another process was here
            self._adopt(newest)
            rows = self.log.after(self._seq)
        for row in rows:
            self._seq = row.seq
            if not self.log.is_tick(row):
                self._rhythm.observe(row.seq)

    def _adopt(self, row: Mapping[str, Any] | None) -> None:
        """Continue from a saved state; a new clock begins so far back that every level is due once."""
        if row is None:
            self._seq = max(0, self.log.head() - 2 * self._rhythm.periods[-1])
            return
        self._rhythm.load_state_dict(row["state"])
        self._hold()
        self._saved, self._seq = row, row["seq"]

    def _late(self) -> bool:
        return any(row["backlog"] > 2 * row["period"] for row in self._rhythm.status()[:_TEACH])

    @contextmanager
    def _working(self, teach: bool) -> Iterator[None]:
        """The slower levels work within the block: the last, which takes minutes, only where the caller says so."""
        for level in range(1, _TEACH + teach):
            self._rhythm.enable(level, True)
        try:
            yield
        finally:
            self._hold()

    def _hold(self) -> None:
        for level in range(1, _TEACH + 1):
            self._rhythm.enable(level, False)

    @contextmanager
    def _taking_turns(self, *, wait: bool) -> Iterator[bool]:
        """Whether the clock is ours until the end of the block: no other thread or process has it."""
        if not self._turn.acquire(blocking=wait):
            yield False
            return
        try:
            if self._turns is not None:
                with self._turns(f"upkeep of {self._tenant}", wait=wait) as mine:
                    yield mine
                return
            if self._file is None:
                yield True
                return
            with _opened(self._file) as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
                except BlockingIOError:
                    yield False
                    return
                yield True
        finally:
            self._turn.release()

    # -- the levels ------------------------------------------------------------------------------

    def _note(self, tick: Tick) -> Iterator[int]:  # noqa: ARG002 - an action
        """0: what was found is written with the state of the clock, in one row."""
        yield self._take()

    def _take(self) -> int:
        taken = 0
        while self._found:  # others go on adding
            self._noted.append(self._found.popitem()[0])
            taken += 1
        return taken

    def _move(self, tick: Tick) -> Iterator[int]:  # noqa: ARG002
        """1: promotions, demotions, and bundles made anew."""
        yield sum(one.target is not Tier.PARAMETER for one in self._policy())

    def _sweep(self, tick: Tick) -> Iterator[int]:
        """2: owner after owner; then the indexes in use, and tensors that a crash left without a memory."""
        at = datetime.fromtimestamp(self._now() / 1e9, UTC)
        uses, began = self.log.last_uses(), self.log.began() or at

        def last_use(cube: MemCube) -> datetime:
            used = uses.get(cube.id)
            return began if used is None else max(began, datetime.fromtimestamp(used / 1e9, UTC))

        for owner in self._owners()[tick.done :]:
            done = lifecycle.sweep(self._store, owner, at, archive_after=self.archive_after, last_use=last_use)
            changed = (self._store.get(id) for id in (*done.expired, *done.archived))
            for cube in {cube.header.scope: cube for cube in changed if cube is not None}.values():
                self._memory.mend(cube)
            yield 1
        for scope in self._memory.indexes.scopes(self._store):
            self._memory.indexes.get(self._store, scope)
            yield 0
        if (collect := getattr(self._store, "collect_blobs", None)) is not None:
            collect()

    def _owners(self) -> list[Scope]:
        """Users one by one; memories of nobody are found only by looking at all."""
        users = {scope.user for scope, _ in self._store.scopes(self._tenant)}
        if None in users:
            return [Scope(self._tenant)]
        return [Scope(self._tenant, user) for user in sorted(filter(None, users))]

    def _teach(self, tick: Tick) -> Iterator[int]:  # noqa: ARG002
        """3: one group of one scope after the other."""
        tiers = self._tiers()
        for scope in self.log.callers():
            tiers.bundle(scope)  # with it comes what earlier processes know of its use
        now = self._now() / 1e9
        wanted = [
            one
            for one in self._policy()
            if one.target is Tier.PARAMETER
            and is_current(one.version, self._store.get(one.cube), now, "parameter", read=self._store.get)
        ]
        for name in dict.fromkeys(one.bundle for one in wanted):
            try:
                tiers.consolidate([one for one in wanted if one.bundle == name])
            except (NotFound, InvalidInput) as error:  # a memory changed or was forgotten meanwhile
                logger.warning("a lesson was broken off: %s", error)
            yield 1


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        file = path.open("ab")
    except OSError as error:
        raise StoreUnavailable(
            f"{path}: {error.strerror or error}. Grant write access to the database's folder"
        ) from error
    with file:
        yield file
