"""NestedRhythm: one clock that says when memories are logged, merged, summarised and trained into weights.

"A brain basis of dynamical intelligence for AI and computational neuroscience" (Monaco, Rajan, Hwang, arXiv
2105.07284) argues that nested oscillations organise how a hierarchical memory is read and updated. It is a
perspective paper without an algorithm; this clock is an engineering reading of it and claims nothing about brains.
Its relatives in engineering are log-structured merge compaction and generational garbage collection.

Time is counted in events. Level ``l`` has the period ``P_l = base * ratio ** l``; because periods divide each other, a
slow tick always falls on the trough of all faster ones. Due levels run upward inside one transaction of a
``Journal``, so level ``l + 1`` reads what level ``l`` wrote an instant ago. The state of the clock is saved in the same
transaction: a process that dies continues from the last trough as if nothing had happened.

What is unusual: an action is a *generator* of work units. Between two slices ``between`` is called, which serves
waiting reads; when the budget of a level, or the cap of one trough, is spent, the generator waits. After a restart it
is made anew from the same tick with ``done`` units behind it. So an action must be a function of its tick and the log.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from lamina.errors import InvalidInput
from lamina.kernel.rhythms.ticks import KEPT, Action, Journal, Level, NoJournal, Tick

__all__ = ["NestedRhythm", "Tick"]

_LOG = logging.getLogger(__name__)
_OVERRUN = 10  # a slice this many times too long is reported
_EXACT = 1e-9  # rounding of granted work
_STRIKES = 3  # such slices in a row: the level is disabled


class NestedRhythm:
    """The consolidation clock. Not thread-safe: one ingesting thread drives it; readers never touch it.

    ``base`` events a sequence, ``ratio`` between periods, ``levels`` of them. ``coupling`` (kappa) in [0, 1): how much
    the work of a level follows the phase of the level above. ``slice_ms`` is what a slice should take at most, ``cap``
    the work units one trough may spend above level 0 (what is left waits for the next troughs; default: unlimited).
    ``between`` runs between slices, ``trace`` is given one mapping a finished or cut tick (n, level, work, ms).
    """

    def __init__(
        self,
        base: int = 8,
        ratio: int = 4,
        levels: int = 4,
        coupling: float = 0.5,
        idle_ms: float = 200.0,
        slice_ms: float = 5.0,
        seed: int = 0,
        *,
        cap: float = math.inf,
        journal: Journal | None = None,
        between: Callable[[], None] = lambda: None,
        trace: Callable[[Mapping[str, Any]], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        for name, value, least in (("base", base, 1), ("ratio", ratio, 2), ("levels", levels, 1)):
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise InvalidInput(f"{name}={value!r}: pass a whole number from {least}")
        if not 0 <= coupling < 1:
            raise InvalidInput(f"coupling={coupling!r}: pass a number from 0 to below 1, or work would be negative")
        self.periods: tuple[int, ...] = tuple(base * ratio**level for level in range(levels))
        self.coupling, self.idle_ms, self.slice_ms, self.seed, self.cap = coupling, idle_ms, slice_ms, seed, cap
        self.n = 0
        self._levels: dict[int, Level] = {}
        self._tables: dict[str, int] = {}
        self._items: list[Any] = []
        self._journal: Journal = journal if journal is not None else NoJournal()
        self._between, self._trace, self._clock = between, trace, clock

    # -- setting up ------------------------------------------------------------------------------

    def register(self, level: int, action: Action, budget: float, tables: Sequence[str] = ()) -> None:
        """Give ``level`` its action, its mean budget (work units a tick) and the ``tables`` that only it writes.

        Levels are registered from 0 up. Raises ``InvalidInput`` for a level out of order, a budget that is not
        positive, or a table that another action claims.
        """
        if level != len(self._levels) or level >= len(self.periods):
            raise InvalidInput(f"level={level!r}: register levels 0 to {len(self.periods) - 1} in order, each once")
        if not (budget > 0 and math.isfinite(budget)):
            raise InvalidInput(f"budget={budget!r} of level {level}: pass a positive number of work units")
        for table in tables:
            if table in self._tables:
                raise InvalidInput(
                    f"table {table!r} is written by level {self._tables[table]} already: give it one writer"
                )
            self._tables[table] = level
        self._levels[level] = Level(action, budget)

    def enable(self, level: int, on: bool) -> None:
        """Let ``level`` work, or hold it: what it has not consumed waits until it may work again."""
        self._levels[level].disabled, self._levels[level].strikes = not on, 0

    def phase(self, level: int) -> float:
        """``2 pi (n mod P) / P``, in [0, 2 pi); 0 is the trough."""
        period = self.periods[level]
        return 2 * math.pi * (self.n % period) / period

    # -- events ----------------------------------------------------------------------------------

    def observe(self, item: Any, n: int | None = None) -> list[Tick]:
        """Take in one event; the ticks it caused. Durable when the tick of level 0 after it has returned.

        A producer that numbers its events passes ``n``: one that was seen, or a gap, raises ``InvalidInput``. After
        an error in an action the clock stands where it stood before the call, and the call may be repeated.
        """
        if n is not None and n != self.n + 1:
            raise InvalidInput(f"n={n!r}: event {self.n + 1} comes next; send every event once, in order")
        self.n += 1
        self._items.append(item)
        due = self.due(self.n)
        if not due:
            return []
        try:
            return self._cascade(due)
        except BaseException:
            self.n -= 1
            self._items = self._items[:-1]
            raise

    def due(self, n: int) -> tuple[int, ...]:
        """Levels whose trough is at ``n``: always a prefix 0, 1, ..."""
        return tuple(level for level in self._levels if n % self.periods[level] == 0)

    def grant(self, level: int) -> float:
        """Work units of a tick now: ``A0 (1 + kappa cos(phase of the level above))``; plain ``A0`` at the top."""
        mean = self._levels[level].budget
        if level + 1 == len(self.periods):
            return mean
        return mean * (1 + self.coupling * math.cos(self.phase(level + 1)))

    def idle(self, quiet_ms: float) -> int:
        """A ripple: after ``quiet_ms`` without a foreground request, do now what the next troughs would do.

        Only work that was granted and cut by the cap is done, so what is written does not depend on wall time.
        Returns the work units done.
        """
        if quiet_ms < self.idle_ms or not any(map(self._unfinished, self._levels)):
            return 0
        before = sum(level.work for level in self._levels.values())
        self._cascade((), cap=math.inf)
        return sum(level.work for level in self._levels.values()) - before

    def overdue(self) -> tuple[int, ...]:
        """Levels that slept through a trough of theirs while they were held."""
        return tuple(
            level
            for level, state in self._levels.items()
            if level and self.n // self.periods[level] > state.watermark // self.periods[level]
        )

    def catch_up(self) -> list[Tick]:
        """Run the levels that are ``overdue``, upward as ever, each once however many troughs it missed."""
        return self._cascade(self.overdue(), cap=math.inf)

    def drain(self) -> list[Tick]:
        """Make durable and consolidate everything seen so far, whatever the budgets; for shutting down.

        The ticks fall early, so versions after a drain differ from those of a stream that was never drained.
        """
        return self._cascade(tuple(self._levels), cap=math.inf, limitless=True)

    # -- state -----------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Where the clock stands, as JSON values. Items after the last tick of level 0 are not part of it."""
        return {"n": self.n, "periods": list(self.periods), "levels": [lv.state() for lv in self._levels.values()]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from ``state``; the producer repeats events after ``n``. Raises ``InvalidInput``: other periods."""
        if tuple(state["periods"]) != self.periods or len(state["levels"]) != len(self._levels):
            raise InvalidInput(
                f"the saved clock has periods {state['periods']}, this one {list(self.periods)}: "
                "open it with the settings it was saved with"
            )
        self.n, self._items = int(state["n"]), []
        for level, saved in zip(self._levels.values(), state["levels"], strict=True):
            for name in KEPT:
                setattr(level, name, saved[name])
            opened = saved["open"]
            level.steps = None
            level.open = None if opened is None else Tick(**(opened | {"due": tuple(opened["due"]), "sequence": ()}))

    def watermark(self, level: int) -> int:
        """The last event that ``level`` has consumed."""
        return self._levels[level].watermark

    def status(self) -> list[dict[str, Any]]:
        """For people: period, phase, watermark, backlog, mean input lag, forced and disabled of every level."""
        return [
            {
                "level": number,
                "period": self.periods[number],
                "phase": self.phase(number),
                "watermark": level.watermark,
                "backlog": self.n - level.watermark,
                "mean_lag": level.lag / level.ticks if level.ticks else 0.0,
                **{name: getattr(level, name) for name in ("work", "ticks", "forced", "carry", "disabled")},
            }
            for number, level in self._levels.items()
        ]

    # -- the cascade -----------------------------------------------------------------------------

    def _cascade(self, due: tuple[int, ...], cap: float | None = None, limitless: bool = False) -> list[Tick]:
        """Run due levels, with the state of the clock in one transaction; after an error the clock stands as before."""
        before, items = self.state_dict(), self._items
        try:
            with self._journal.transaction():
                ticks = self._upward(due, self.cap if cap is None else cap, limitless)
                self._journal.save(self.state_dict())
        except BaseException:
            self.load_state_dict(before)
            self._items = items
            raise
        return ticks

    def _upward(self, due: tuple[int, ...], left: float, limitless: bool) -> list[Tick]:
        """Level 0, then leftovers, then the due levels upward; work above level 0 within ``left`` units."""
        ticks: list[Tick] = []
        if 0 in due:
            ticks.append(self._begin(0, due))
            self._work(0, math.inf)
            self._items = []
        for level in filter(self._unfinished, self._levels):
            left -= self._work(level, left)
        for level, state in self._levels.items():
            late = level not in due and self._late(level)
            if level and not state.disabled and (level in due or late):
                state.forced += late
                ticks.append(self._begin(level, due, limitless))
                left -= self._work(level, left)
                if state.open is None and state.watermark < ticks[-1].input:  # that was left from the last tick
                    self._open(level, ticks[-1])
                    left -= self._work(level, left)
            state.carry = 0.0 if limitless else state.carry
        return ticks

    def _unfinished(self, level: int) -> bool:
        """Whether the cap, and not its own budget, made the level wait."""
        state = self._levels[level]
        return state.open is not None and state.carry > 0 and not state.disabled

    def _late(self, level: int) -> bool:
        """Backpressure: more than two periods of events wait, and no granted work is under way."""
        return self.n - self._levels[level].watermark > 2 * self.periods[level] and not self._unfinished(level)

    def _begin(self, number: int, due: tuple[int, ...], limitless: bool = False) -> Tick:
        """Grant the budget of a tick. One that is still open goes on with it, before new work."""
        level = self._levels[number]
        limit = 2 * level.budget
        level.carry = math.inf if limitless else max(-limit, min(limit, level.carry)) + self.grant(number)
        reached = self.n if number == 0 else self._levels[number - 1].watermark
        items = tuple(self._items) if number == 0 else ()
        tick = Tick(self.n, number, due, level.carry, items, level.watermark, reached)
        level.ticks += 1
        level.lag += self.n - reached
        if level.open is None:
            self._open(number, tick)
        return tick

    def _open(self, number: int, tick: Tick) -> None:
        level = self._levels[number]
        level.open = replace(tick, since=level.watermark)
        level.steps = level.action(level.open)

    def _work(self, number: int, allowed: float) -> float:
        """Run the open tick of a level within ``allowed`` and its budget; the work units done. Level 0 always ends."""
        level, spent, begun = self._levels[number], 0.0, self._clock()
        # A budget spent to the last unit may still see that there was no more to do, or the tick would stay open.
        while level.open is not None and not level.disabled:
            if number and (level.carry < -_EXACT or spent >= allowed):
                break
            if level.steps is None:  # after a restart
                level.steps = level.action(level.open)
            cost = self._slice(level, number)
            if cost is None:
                level.watermark = level.open.input
                level.open, level.steps = None, None
            else:
                spent += cost
                level.carry -= cost
                self._between()
        if self._trace is not None:
            ms = (self._clock() - begun) * 1e3
            self._trace({"n": self.n, "level": number, "work": spent, "ms": ms, "open": level.open is not None})
        return spent

    def _slice(self, level: Level, number: int) -> int | None:
        """One slice: its cost, or ``None`` at the end of the tick."""
        assert level.steps is not None and level.open is not None
        begun = self._clock()
        cost = next(level.steps, None)
        took = (self._clock() - begun) * 1e3
        if took > _OVERRUN * self.slice_ms:
            level.strikes += 1
            _LOG.warning("level %d: a slice took %.0f ms, %g are allowed", number, took, self.slice_ms)
            level.disabled = number > 0 and level.strikes >= _STRIKES
        elif cost is not None:
            level.strikes = 0
        if cost is not None:
            level.open = replace(level.open, done=level.open.done + cost)
            level.work += cost
        return cost
