"""What the consolidation clock is compared with: the same actions and budgets under other schedules.

``UnsyncedPolicy`` takes away the nesting (same periods, random offsets), ``PeriodicPolicy`` the hierarchy (one period
for all levels), ``EagerPolicy`` the clock itself: every tier is written through on every event. ``Unsliced`` takes away
the slices: reads wait until an event is worked off, as they do where consolidation is a plain call. The long-run mean
of granted work is the same for all, in units of each action.
"""

from __future__ import annotations

import random
from typing import Any

from lamina.errors import InvalidInput
from lamina.kernel.rhythm import NestedRhythm, Tick


class UnsyncedPolicy(NestedRhythm):
    """The periods of ``NestedRhythm``, each level with a phase offset drawn from ``seed``: slow ticks fall anywhere."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        rng = random.Random(self.seed)
        self.offsets = tuple(rng.randrange(period) for period in self.periods)

    def due(self, n: int) -> tuple[int, ...]:
        return tuple(level for level in self._levels if (n - self.offsets[level]) % self.periods[level] == 0)


class PeriodicPolicy(NestedRhythm):
    """Every level every ``period`` events; the budget of a tick is what the level would get in that time."""

    def __init__(self, period: int, *args: Any, **settings: Any) -> None:
        if isinstance(period, bool) or not isinstance(period, int) or period < 1:
            raise InvalidInput(f"period={period!r}: pass a whole number from 1")
        super().__init__(*args, **settings)
        self.period = period

    def due(self, n: int) -> tuple[int, ...]:
        return tuple(self._levels) if n % self.period == 0 else ()

    def grant(self, level: int) -> float:
        return self._levels[level].budget * self.period / self.periods[level]


class EagerPolicy(PeriodicPolicy):
    """Write-through: every level on every event, in one transaction. That is kinder than one a tier, which would wait
    for the disk four times an event."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(1, *args, **settings)


class Unsliced(NestedRhythm):
    """Reads are served between events only."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self._served, self._between = self._between, lambda: None

    def observe(self, item: Any, n: int | None = None) -> list[Tick]:
        ticks = super().observe(item, n)
        self._served()
        return ticks


class UnslicedEager(Unsliced, EagerPolicy):
    """Both: what memory systems do that consolidate at every message."""
