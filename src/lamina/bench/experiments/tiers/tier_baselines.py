"""What the scheduler is measured against: never cache, LRU, LFU, a window, a fixed set, the policy of MemOS's code.

``MemosPolicy`` follows the public MemOS code (v2): the memories of the latest call, then the older ones of a working
memory of 20, get ``importance = 0.9 rank + 0.05 min(0.05 keywords, 5) + 0.05 min(0.05 count, 2)``; what was not
seen in the latest round is dropped, but for two kept with their scores zeroed; at a fixed interval the best 20 become
one cache, replaced whole unless its composition is the same. It has no invalidation: a memory that changes is
served stale until the next refresh. The others obey mandatory invalidations, so that they differ in choice alone.

Unlike ``HeatPolicy`` these do not know that removing from a bundle prefills what stands behind. LFU counts
over all time and admits only what was used more often than what it would evict, the strongest simple form.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from lamina.kernel.tiering.decisions import MANDATORY, Budgets, CubeStats, Decision, Reason, Stats, Tier, decision

_Key = Callable[[CubeStats], tuple[float, ...]]


@dataclass(frozen=True, slots=True)
class NeverPromote:
    """Text only."""

    def decide(self, stats: Stats, budgets: Budgets, now: int) -> list[Decision]:  # noqa: ARG002
        """Nothing, but for what was cached by someone else and became invalid."""
        return _obey(stats, now)


@dataclass(frozen=True, slots=True)
class LRUPolicy:
    """Every memory that is used is cached; the least recently used make room."""

    def decide(self, stats: Stats, budgets: Budgets, now: int) -> list[Decision]:
        """All of the latest call in, and out what was used longest ago."""
        place = {id: i for i, id in enumerate(stats.last_call)}

        def recency(cube: CubeStats) -> tuple[float, ...]:
            return (-1 if cube.last is None else cube.last, -place.get(cube.id, len(place)))

        return _replace(stats, budgets, now, recency)


@dataclass(frozen=True, slots=True)
class LFUPolicy:
    """Memories used most often since the beginning."""

    def decide(self, stats: Stats, budgets: Budgets, now: int) -> list[Decision]:
        """Of the latest call, those in that were used more often than what they would evict."""
        return _replace(stats, budgets, now, lambda cube: (cube.uses,))


@dataclass(slots=True)
class WindowPolicy:
    """Shares of the last ``calls`` calls, counted: in from ``up``, out below ``down``. The simplest form of heat, which
    knows nothing of what a cut costs or of what attending to a cache costs. One object serves one log."""

    calls: int = 40
    up: float = 0.25
    down: float = 0.08
    _seen: deque[frozenset[str]] = field(default_factory=deque)

    def decide(self, stats: Stats, budgets: Budgets, now: int) -> list[Decision]:
        """First those that are rare go, then those that are common come, as far as there is room."""
        self._seen.append(frozenset(stats.last_call))
        if len(self._seen) > self.calls:
            self._seen.popleft()
        count = Counter(id for call in self._seen for id in call)
        share = {cube.id: count[cube.id] / len(self._seen) for cube in stats.cubes}
        staying = list(_staying(stats))
        rare = [cube for cube in staying if share[cube.id] < self.down]
        moves = _obey(stats, now) + [decision(cube, Tier.TEXT, Reason.COLD, now) for cube in rare]
        free = budgets.activation_bytes - sum(cube.nbytes for cube in staying) + sum(cube.nbytes for cube in rare)
        for cube in sorted(stats.cubes, key=lambda cube: (-share[cube.id], cube.id)):
            common = share[cube.id] >= self.up and count[cube.id] >= 3 and cube.uses_this_version >= 2
            if common and _admissible(cube) and cube.nbytes <= free:
                moves.append(decision(cube, Tier.ACTIVATION, Reason.HOT_STABLE, now))
                free -= cube.nbytes
        return moves


@dataclass(frozen=True, slots=True)
class FixedSet:
    """``ids``, as long as each lives: the best that no adaptation can do, if they are chosen in hindsight."""

    ids: frozenset[str]

    def decide(self, stats: Stats, budgets: Budgets, now: int) -> list[Decision]:
        """Whichever of them are not cached, and fit."""
        moves = _obey(stats, now)
        free = budgets.activation_bytes - sum(cube.nbytes for cube in _staying(stats))
        for cube in sorted(stats.cubes, key=lambda cube: (-cube.uses, cube.id)):
            if cube.id in self.ids and _admissible(cube) and cube.nbytes <= free:
                moves.append(decision(cube, Tier.ACTIVATION, Reason.PIN, now))
                free -= cube.nbytes
        return moves


@dataclass(slots=True)
class MemosPolicy:
    """The policy of MemOS's public code. Keeps its working memory between calls, so one object serves one log.

    ``interval`` between refreshes, in the clock's units (the code: 300 s).
    """

    interval: int = 300 * 10**9
    capacity: int = 20
    retained: int = 2
    _working: list[str] = field(default_factory=list)
    _seen: dict[str, tuple[int, int]] = field(default_factory=dict)  # id -> (rank score, times seen)
    _refreshed: int | None = None

    def decide(self, stats: Stats, budgets: Budgets, now: int) -> list[Decision]:
        """Nothing until ``interval`` has passed; then the old cache out and the best of the working memory in."""
        self._observe(stats.last_call)
        if self._refreshed is not None and now - self._refreshed < self.interval:
            return []
        self._refreshed = now
        cubes = {cube.id: cube for cube in stats.cubes}
        chosen, free = dict[str, CubeStats](), budgets.activation_bytes
        for id in sorted(self._seen, key=lambda id: -self._importance(id))[: self.capacity]:
            cube = cubes.get(id)
            if cube is not None and cube.usable and cube.nbytes <= free:
                chosen[id], free = cube, free - cube.nbytes
        before = {cube.id: cube for cube in stats.cubes if cube.tier is Tier.ACTIVATION}
        if before.keys() == chosen.keys() and not any(cube.invalid for cube in before.values()):
            return []
        moves = [decision(cube, Tier.TEXT, Reason.COLD, now) for cube in before.values()]
        return moves + [decision(cube, Tier.ACTIVATION, Reason.HOT_STABLE, now) for cube in chosen.values()]

    def _observe(self, used: Sequence[str]) -> None:
        ranked = list(dict.fromkeys([*used, *self._working]))[: self.capacity]
        self._working = ranked
        unseen = [id for id in sorted(self._seen, key=lambda id: -self._importance(id)) if id not in ranked]
        kept = dict.fromkeys(unseen[: self.retained], (0, 1))
        seen = {id: (len(ranked) - i, self._seen.get(id, (0, 0))[1] + 1) for i, id in enumerate(ranked)}
        everyone = seen | kept
        best = sorted(everyone, key=lambda id: -_importance(*everyone[id]))[: min(30, self.capacity + self.retained)]
        self._seen = {id: everyone[id] for id in best}

    def _importance(self, id: str) -> float:
        return _importance(*self._seen[id])


def _importance(rank: int, count: int) -> float:
    """Keywords are left out: their term is at most 0.25 of a rank's 0.9, and the weights applied twice make it less."""
    return 0.9 * rank + 0.05 * min(0.05 * count, 2)


def _replace(stats: Stats, budgets: Budgets, now: int, key: _Key) -> list[Decision]:
    """Admit what the latest call used, evicting what ``key`` puts lowest."""
    moves = _obey(stats, now)
    staying = sorted(_staying(stats), key=lambda cube: (key(cube), cube.id))
    free = budgets.activation_bytes - sum(cube.nbytes for cube in staying)
    cubes = {cube.id: cube for cube in stats.cubes}
    used = [cubes[id] for id in stats.last_call if id in cubes and _admissible(cubes[id])]
    admitted: list[CubeStats] = []
    for cube in sorted(used, key=key, reverse=True):
        victims, gained = list[CubeStats](), free
        while gained < cube.nbytes and len(victims) < len(staying):
            victim = staying[len(victims)]
            if key(victim) >= key(cube):
                break
            victims.append(victim)
            gained += victim.nbytes
        if gained < cube.nbytes:
            continue
        moves += [decision(victim, Tier.TEXT, Reason.BUDGET, now) for victim in victims]
        staying, free = staying[len(victims) :], gained - cube.nbytes
        admitted.append(cube)
    return moves + [decision(cube, Tier.ACTIVATION, Reason.HOT_STABLE, now) for cube in admitted]


def _obey(stats: Stats, now: int) -> list[Decision]:
    return [
        decision(cube, Tier.TEXT, cube.invalid, now)
        for cube in stats.cubes
        if cube.invalid in MANDATORY and cube.invalid is not None and cube.tier is not Tier.TEXT
    ]


def _staying(stats: Stats) -> Iterable[CubeStats]:
    return [cube for cube in stats.cubes if cube.tier is Tier.ACTIVATION and cube.invalid is None]


def _admissible(cube: CubeStats) -> bool:
    return cube.tier is Tier.TEXT and cube.usable and cube.invalid is None and "activation" in cube.allowed
