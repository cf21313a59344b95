"""MemScheduler's policy: which memories deserve a ready-made cache, or weights, and which no longer do.

MemOS: A Memory OS for AI System, arXiv 2507.03724, section 5.1: the roles are the paper's, the rules are ours, as
it gives none. A cached prefix is attended by *every* call, so what counts is not how often a memory is used but in
which share of calls. Of a memory with heat h (uses in the last half-life / ln 2) among calls of heat H, the

    net heat = h - burden * (H - h),    burden = generated * attend / prefill

is how many prefills of it a cache saves in such a window, less what attending to it in vain costs. Promote at
h >= 2.5 in a share of calls p = h / H of at least max(floor, margin * burden); demote at p < 0.10 or h < 1.

Unusual: caches stand one after another in a *bundle*, and taking one out prefills all behind it again. So what is
merely cold goes when the cut pays for itself, or when a cut happens anyway; a prefill that is due anyway is a new
purchase, and only who is worth it gets it. What is stale or forbidden goes at once, whatever it costs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Self

from lamina.kernel.tiering.decisions import (
    DAY,
    MANDATORY,
    Budgets,
    Costs,
    CubeStats,
    Decision,
    Reason,
    Stats,
    Tier,
    decision,
)

# Conversations draw on personas and prompts again and again, on events once (MemOS, section 5.1).
BIAS: Mapping[str, float] = MappingProxyType({"persona": 1.5, "procedure": 1.5, "prompt": 1.5, "event": 0.5})
_FORGOTTEN_AFTER = 10  # half-lives without a use: out of the cache, whatever the cut costs


@dataclass(frozen=True, slots=True, kw_only=True)
class HeatPolicy:
    """Heat with hysteresis under a byte budget. Times are in the clock's units, by default nanoseconds.

    ``local``: the model is in this process, so that it can be given caches at all.
    """

    costs: Costs = field(default_factory=Costs)
    up_heat: float = 2.5
    up_share: float = 0.30
    down_heat: float = 1.0
    down_share: float = 0.10
    margin: float = 2.0
    min_tokens: int = 16
    min_age: int = 0  # of a version before it counts as settled
    min_resident: int = 60 * 10**9
    max_promotions: int = 8  # a tick
    foresight: float = 0.5  # weight of a forecast against heat, if there is one
    local: bool = True
    bias: Mapping[str, float] = field(default_factory=lambda: BIAS)
    parameter_heat: float = 20.0
    parameter_sessions: int = 5
    parameter_age: int = 7 * DAY
    parameter_group: int = 8  # at least so many of one bundle are learnt together

    @classmethod
    def measured(cls, costs: Costs, **settings: Any) -> Self:
        """Shares from ``costs`` alone, for a machine that measured them: up at ``margin`` times what breaks even,
        down at what breaks even (0.10 at most). The floor of 0.30 is for guessed costs. ``settings`` as above.
        """
        shares = {"up_share": 0.0, "down_share": min(0.10, costs.burden)}
        return cls(costs=costs, **{**shares, **settings})

    @property
    def share_needed(self) -> float:
        """Share of calls from which a cache is worth having."""
        return max(self.up_share, self.margin * self.costs.burden)

    def decide(self, stats: Stats, budgets: Budgets, now: int) -> list[Decision]:
        """Mandatory moves, then demotions, then promotions within the room they leave."""
        tick = _Tick(self, stats, budgets, now)
        tick.obey()
        tick.cool()
        tick.shrink()
        tick.promote()
        tick.consolidate()
        return tick.decisions

    def stable(self, cube: CubeStats, now: int) -> bool:
        """Used twice in this version, old enough, free of conflicts: it will not change under the cache tomorrow."""
        return cube.usable and cube.uses_this_version >= 2 and now - cube.version_since >= self.min_age


class _Tick:
    """One round of decisions over one snapshot. ``_broken``: how many first members of a bundle stay as they are."""

    def __init__(self, policy: HeatPolicy, stats: Stats, budgets: Budgets, now: int) -> None:
        self.policy, self.budgets, self.now = policy, budgets, now
        self.decisions: list[Decision] = []
        self._cubes = {cube.id: cube for cube in stats.cubes}
        self._calls = {bundle: heat.at(now) for bundle, heat in stats.calls.items()}
        self._forecast = stats.forecast
        self._decided: set[str] = set()
        self._bundles: dict[str, list[CubeStats]] = {}
        for cube in stats.cubes:
            if cube.tier is Tier.ACTIVATION:
                self._bundles.setdefault(cube.bundle, []).append(cube)
        for members in self._bundles.values():
            members.sort(key=lambda cube: (cube.place or 0, cube.id))
        self._broken = {bundle: len(members) for bundle, members in self._bundles.items()}

    def obey(self) -> None:
        """What may no longer be used in this form goes to text now."""
        for cube in self._cubes.values():
            if cube.tier is not Tier.TEXT and cube.invalid in MANDATORY:
                assert cube.invalid is not None
                self._move(cube, Tier.TEXT, cube.invalid)

    def cool(self) -> None:
        """Demote what is cold: from activations where the cut pays, from weights at once."""
        for bundle in self._bundles:
            for cube in self._leaving(self._bundles[bundle], self._broken[bundle]):
                self._move(cube, Tier.TEXT, Reason.COLD)
        for cube in self._cubes.values():
            if cube.id in self._decided or cube.pinned:
                continue
            if cube.tier is Tier.PARAMETER and self._heat(cube) < self.policy.down_heat:
                self._move(cube, Tier.TEXT, Reason.COLD)

    def shrink(self) -> None:
        """If a budget became smaller than what is resident, the least used go, pinned ones last."""
        resident = [cube for members in self._bundles.values() for cube in members]
        for cube in sorted(resident, key=lambda cube: (cube.pinned, self._heat(cube), cube.id)):
            over = self._resident() > self.budgets.activation_bytes
            if cube.id not in self._decided and (over or not self._fits_context(self._bundles[cube.bundle], 0)):
                self._move(cube, Tier.TEXT, Reason.BUDGET if over else Reason.CONTEXT)

    def promote(self) -> None:
        """The memories in the largest share of calls, while there is room or what has less worth can make room."""
        wanted = [cube for cube in self._cubes.values() if self._deserves(cube)]
        wanted.sort(key=lambda cube: (not cube.pinned, -self._share(cube), -cube.tokens, cube.id))
        for cube in wanted[: self.policy.max_promotions]:
            victims = self._victims(cube)
            if victims is None:
                continue
            for victim in victims:
                self._move(victim, Tier.TEXT, Reason.BUDGET)
            self._move(cube, Tier.ACTIVATION, Reason.PIN if cube.pinned else Reason.HOT_STABLE)

    def consolidate(self) -> None:
        """What has been hot for long, in groups large enough to be learnt."""
        groups: dict[str, list[CubeStats]] = {}
        for cube in self._cubes.values():
            if self._learnable(cube):
                groups.setdefault(cube.bundle, []).append(cube)
        for bundle in sorted(groups):
            if len(groups[bundle]) >= self.policy.parameter_group:
                for cube in sorted(groups[bundle], key=lambda cube: cube.id):
                    self._move(cube, Tier.PARAMETER, Reason.HOT_STABLE)

    def _leaving(self, members: list[CubeStats], broken: int) -> list[CubeStats]:
        """Members to demote as cold. ``broken``: all from this place on is prefilled again in any case."""
        places = range(len(members))
        gone = [cube.id in self._decided for cube in members]
        must = [not gone[i] and not members[i].pinned and self._idle(members[i]) for i in places]
        cut = min([broken, *(i for i in places if must[i])])
        cold = [not gone[i] and self._cold(members[i]) for i in places]
        if not self.policy.costs.bundled:
            return [members[i] for i in places if cold[i] or must[i]]
        gain, best, start = 0.0, 0.0, cut
        for i in reversed(range(cut)):  # what cutting before i is worth, in tokens prefilled
            gain += members[i].tokens * (max(-self._net(members[i]), -1.0) if cold[i] else -1.0)
            if gain > best:
                best, start = gain, i
        return [
            members[i]
            for i in places[start:]
            if not gone[i] and not members[i].pinned and (must[i] or cold[i] or self._net(members[i]) < 1)
        ]

    def _victims(self, cube: CubeStats) -> list[CubeStats] | None:
        """Whom to evict so that ``cube`` fits: none, the least used, or ``None`` if it is not worth that."""
        members = self._bundles.get(cube.bundle, [])
        if not self._fits_context(members, cube.tokens) or cube.nbytes > self.budgets.activation_bytes:
            return None
        lacking = self._resident() + cube.nbytes - self.budgets.activation_bytes
        if lacking <= 0:
            return []
        victims: list[CubeStats] = []
        everyone = [one for members in self._bundles.values() for one in members if one.id not in self._decided]
        for victim in sorted(everyone, key=lambda one: (self._heat(one), one.id)):
            if lacking <= 0:
                break
            if not victim.pinned:
                victims.append(victim)
                lacking -= victim.nbytes
        if lacking > 0:
            return None
        return victims if cube.pinned or self._worth(cube, victims) else None

    def _worth(self, cube: CubeStats, victims: list[CubeStats]) -> bool:
        """Whether ``cube`` saves more than building it, losing ``victims`` and prefilling what stands behind them."""
        cost = sum(max(self._net(one), 0.0) * one.tokens for one in victims)
        leaving = {one.id for one in victims}
        if self.policy.costs.bundled:
            for bundle, members in self._bundles.items():
                first = min((i for i, one in enumerate(members) if one.id in leaving), default=len(members))
                behind = members[first : self._broken.get(bundle, 0)]
                cost += sum(one.tokens for one in behind if one.id not in leaving and one.id not in self._decided)
        return (self._net(cube) - 1) * cube.tokens > cost

    def _deserves(self, cube: CubeStats) -> bool:
        policy = self.policy
        if cube.tier is not Tier.TEXT or cube.id in self._decided or cube.invalid is not None:
            return False
        if not policy.local or not cube.usable or "activation" not in cube.allowed:
            return False
        if cube.pinned:
            return True
        hot = self._expected(cube) >= policy.up_heat and self._share(cube) >= policy.share_needed
        return hot and cube.tokens >= policy.min_tokens and policy.stable(cube, self.now)

    def _learnable(self, cube: CubeStats) -> bool:
        policy = self.policy
        used = self._heat(cube) >= policy.parameter_heat and cube.sessions >= policy.parameter_sessions
        settled = policy.stable(cube, self.now) and self.now - cube.created >= policy.parameter_age
        permitted = "parameter" in cube.allowed and not cube.sensitive and not cube.pinned
        ready = self.now >= cube.retry_after and cube.id not in self._decided and cube.tier is not Tier.PARAMETER
        return policy.local and used and settled and permitted and ready

    def _cold(self, cube: CubeStats) -> bool:
        policy = self.policy
        if cube.pinned or self.now - cube.resident_since < policy.min_resident:
            return False
        return self._share(cube) < policy.down_share or self._expected(cube) < policy.down_heat

    def _idle(self, cube: CubeStats) -> bool:
        since = cube.resident_since if cube.last is None else max(cube.last, cube.resident_since)
        return self.now - since >= _FORGOTTEN_AFTER * cube.heat.half_life

    def _heat(self, cube: CubeStats) -> float:
        return cube.heat.at(self.now)

    def _expected(self, cube: CubeStats) -> float:
        """Heat, as far as a forecast of what the conversation is about to use does not change it."""
        if self._forecast is None:
            return self._heat(cube)
        foreseen = self._forecast.get(cube.id, 0.0) * self._calls.get(cube.bundle, 0.0)
        return (1 - self.policy.foresight) * self._heat(cube) + self.policy.foresight * foreseen

    def _share(self, cube: CubeStats) -> float:
        """Share of calls that use it, biased by what kind of memory it is."""
        calls = self._calls.get(cube.bundle, 0.0)
        return min(1.0, self._expected(cube) / calls) * self.policy.bias.get(cube.semantic_type, 1.0) if calls else 0.0

    def _net(self, cube: CubeStats) -> float:
        heat = self._expected(cube)
        return heat - self.policy.costs.burden * max(0.0, self._calls.get(cube.bundle, 0.0) - heat)

    def _resident(self) -> int:
        return sum(one.nbytes for members in self._bundles.values() for one in members if not self._left(one))

    def _left(self, cube: CubeStats) -> bool:
        return cube.id in self._decided and cube.tier is Tier.ACTIVATION

    def _fits_context(self, members: list[CubeStats], more: int) -> bool:
        limit = self.budgets.context_tokens
        return limit is None or sum(one.tokens for one in members if not self._left(one)) + more <= limit

    def _move(self, cube: CubeStats, target: Tier, reason: Reason) -> None:
        saving = self._net(cube) * cube.tokens * self.policy.costs.prefill
        up = target is Tier.ACTIVATION
        calls = self._calls.get(cube.bundle, 0.0)
        gained = saving - cube.tokens * self.policy.costs.prefill if up else -saving
        self.decisions.append(decision(cube, target, reason, self.now, calls=calls, saving=gained))
        self._decided.add(cube.id)
        if cube.tier is Tier.ACTIVATION:
            place = next(i for i, one in enumerate(self._bundles[cube.bundle]) if one.id == cube.id)
            self._broken[cube.bundle] = min(self._broken[cube.bundle], place)
        elif up:
            self._bundles.setdefault(cube.bundle, []).append(cube)
