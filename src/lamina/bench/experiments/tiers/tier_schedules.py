"""The scheduler and its rivals on one trace under one budget, and what no policy can go under.

Costs are counted tokens (``tier_simulation``), turned into seconds by what SmolLM2 takes on one core.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from lamina.bench.experiments.tiers import tier_optimum, tier_simulation, tier_traces
from lamina.bench.experiments.tiers.tier_baselines import LFUPolicy, LRUPolicy, MemosPolicy, NeverPromote, WindowPolicy
from lamina.bench.experiments.tiers.tier_simulation import Outcome
from lamina.bench.experiments.tiers.tier_traces import Trace
from lamina.kernel.scheduling import HeatPolicy
from lamina.kernel.tiering.decisions import Budgets, Costs, Decision, Policy, Reason, Stats
from lamina.kernel.tiering.preload import CoUsePredictor

_ON_A_CLOCK_OF_CALLS: Any = {"min_resident": 0, "parameter_heat": float("inf")}


@dataclass(frozen=True, slots=True)
class Scheduled:
    """One trace under one budget: what each policy cost. ``free`` is LRU in a world where taking a memory out of a
    prefix costs nothing, which no real prefix offers."""

    trace: Trace
    costs: Costs
    budget: int
    ours: Outcome
    others: Mapping[str, Outcome]
    free: Outcome

    @property
    def tight(self) -> int:
        """How often ours moved something for want of room."""
        return sum(one.reason is Reason.BUDGET for one in self.ours.decisions)

    def optimum(self) -> float:
        """Seconds below which no policy comes, though it knows every call."""
        return tier_optimum.lower_bound(self.trace, self.costs, self.budget)

    def law(self) -> float:
        """Seconds below which none comes that knows every chance."""
        return tier_optimum.lower_bound(self.trace, self.costs, self.budget, foresight="law")

    def guessed(self) -> Outcome:
        """Ours as it is by default, where nobody measured costs: in from 30% of calls on."""
        policy = HeatPolicy(costs=self.costs, **_ON_A_CLOCK_OF_CALLS)
        return tier_simulation.run(self.trace, Served(policy), self.costs, self.budget)

    def saving(self) -> Outcome:
        """The fixed set that saves most prefill, whatever attending to it costs."""
        return tier_optimum.best_fixed(self.trace, self.costs, self.budget, by="saved_net")


def schedule(name: str, seed: int, calls: int, share: float) -> Scheduled:
    """Replay ``calls`` calls with ``share`` of all bytes."""
    trace, costs = tier_traces.TRACES[name](seed, calls), Costs()
    budget = tier_simulation.budget_for(trace, share)
    policies: dict[str, Policy] = {
        "LRU": LRUPolicy(),
        "LFU": LFUPolicy(),
        "a window of 40 calls": WindowPolicy(),
        "never": NeverPromote(),
        "MemOS's code": MemosPolicy(interval=10),
    }
    alone = replace(costs, bundled=False)
    return Scheduled(
        trace,
        costs,
        budget,
        ours=tier_simulation.run(trace, Served(heat_policy(costs)), costs, budget),
        others={name: tier_simulation.run(trace, policy, costs, budget) for name, policy in policies.items()},
        free=tier_simulation.run(trace, LRUPolicy(), alone, budget),
    )


def heat_policy(costs: Costs) -> HeatPolicy:
    """The scheduler as a machine with these costs has it, on a clock of calls."""
    return HeatPolicy.measured(costs, **_ON_A_CLOCK_OF_CALLS)


@dataclass(slots=True)
class Served:
    """A policy that is told what the service tells it (``tiering.account``): what is likely next, from what was used
    together before, and at least the share of calls in which a memory is used anyway."""

    policy: Policy
    predictor: CoUsePredictor = field(default_factory=lambda: CoUsePredictor(7 * tier_simulation.HALF_LIFE))

    def decide(self, stats: Stats, budgets: Budgets, now: int) -> list[Decision]:
        self.predictor.observe(now, stats.last_call)
        shares = self.predictor.predict(now)
        for cube in stats.cubes:
            calls = stats.calls[cube.bundle].at(now) if cube.bundle in stats.calls else 0.0
            if calls > 0:
                shares[cube.id] = max(shares.get(cube.id, 0.0), cube.heat.at(now) / calls)
        return self.policy.decide(replace(stats, forecast=shares), budgets, now)
