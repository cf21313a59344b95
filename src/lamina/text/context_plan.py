"""What a router weighs and decides: a budget, the options under it, a plan, and what was seen of it.

Values of ``context_choice``, which says how the decision is made.
"""

from __future__ import annotations

from dataclasses import dataclass

from lamina.errors import BudgetError, InvalidInput
from lamina.text.context_costs import HistoryStats, Strategy, Usage


class NoFeasibleStrategy(BudgetError):
    """No strategy fits the reader's window and the budget."""

    code = "NO_FEASIBLE_STRATEGY"


@dataclass(frozen=True, slots=True)
class Budget:
    """Limits of one question; ``None`` does not limit. Weights are what a whole budget is worth in accuracy."""

    max_latency_s: float | None = None
    max_cost: float | None = None
    min_quality: float = 0.0
    cost_weight: float = 0.1
    latency_weight: float = 0.1

    def __post_init__(self) -> None:
        for name in ("max_latency_s", "max_cost"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise InvalidInput(f"{name}={value!r}: give a number above 0, or None for no limit")
        if not 0 <= self.min_quality <= 1:
            raise InvalidInput(f"min_quality={self.min_quality!r}: give a share between 0 and 1")

    def allows(self, usage: Usage) -> bool:
        """Whether cost and time are within the limits."""
        return (self.max_cost is None or usage.usd <= self.max_cost) and (
            self.max_latency_s is None or usage.seconds <= self.max_latency_s
        )

    def utility(self, quality: float, usage: Usage) -> float:
        """Quality less the weighted shares of the budget that are used; overshoot is priced the same way."""
        spent = self.cost_weight * usage.usd / self.max_cost if self.max_cost else 0.0
        waited = self.latency_weight * usage.seconds / self.max_latency_s if self.max_latency_s else 0.0
        return quality - spent - waited


@dataclass(frozen=True, slots=True)
class Option:
    """One strategy as it was weighed. ``fits`` is about the window, ``affordable`` about the budget."""

    strategy: Strategy
    usage: Usage
    quality: float
    utility: float
    fits: bool
    affordable: bool

    @property
    def feasible(self) -> bool:
        return self.fits and self.affordable


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do for one question, what it should take, and what else was weighed (best first)."""

    strategy: Strategy
    est_tokens: int
    est_cost: float
    est_latency_s: float
    est_quality: float
    why: str
    within_budget: bool
    multi: bool | None
    stats: HistoryStats
    alternatives: tuple[Option, ...]


@dataclass(frozen=True, slots=True)
class Seen:
    """What became of a plan. ``correct``: whether the answer was checked, and right."""

    cost: float
    latency_s: float
    tokens: int | None = None
    correct: bool | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """A plan and what was seen of it (``None`` until ``observe``)."""

    plan: Plan
    seen: Seen | None = None
