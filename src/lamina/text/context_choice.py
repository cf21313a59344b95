"""ConvoMem: should the assistant read the whole history, extract from it first, or retrieve? Decided per question.

ConvoMem Benchmark: Why Your First 150 Conversations Don't Need RAG, arXiv 2511.10523. Its finding as a policy:
no count of conversations decides, but what fits the reader and the budget, and then

    utility = quality - a * cost / max_cost - b * seconds / max_seconds

over the strategies that fit. Costs come from the reader's profile (``context_costs``), quality from the released
curves (``context_prior``) blended with the user's own checks: an outcome marked right or wrong counts as a draw
from a Beta distribution whose prior is worth ``PRIOR_CHECKS`` checks, per strategy and doubling of the history.

When nothing fits the budget the plan says so and takes the best utility all the same (overshoot is priced, so
40 seconds are not preferred to 4); ``strict=True`` raises instead. A change of mind must also hold at 10 % fewer
and 10 % more tokens, unless what was used no longer fits: a history near a boundary does not flap.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from lamina.errors import BudgetError, InvalidInput
from lamina.text.context_costs import HOSTED, STRATEGIES, HistoryStats, ReaderProfile, Recall, Strategy, Usage
from lamina.text.context_prior import CONVERSATION, QualityPrior

__all__ = [
    "HOSTED",
    "STRATEGIES",
    "Budget",
    "Decision",
    "HistoryStats",
    "NoFeasibleStrategy",
    "Option",
    "Plan",
    "QualityPrior",
    "ReaderProfile",
    "Recall",
    "RecallRouter",
    "Seen",
    "Strategy",
    "Usage",
    "evidence_hint",
    "transitions",
]

HYSTERESIS = 0.1
PRIOR_CHECKS = 20.0
_KEPT_DECISIONS = 1_000
_TURNS = 12  # of a conversation, where only their number is given

# Words of questions whose evidence is usually spread over several messages.
_SPREAD = re.compile(
    r"\b(all|every|each|both|list|how (?:many|much|often)|since|chang(?:e|es|ed|ing)|compare|total|altogether)\b", re.I
)
_SAID = {"full": "the whole history", "hybrid": "block extraction", "rag": "retrieval"}


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


class Reader(Protocol):
    """What the router asks of a reader: ``ReaderProfile`` predicts it, a meter may know it."""

    @property
    def profile(self) -> ReaderProfile: ...

    def fits(self, strategy: Strategy, stats: HistoryStats) -> bool: ...

    def usage(self, strategy: Strategy, stats: HistoryStats) -> Usage: ...


class RecallRouter:
    """Chooses a strategy for each question of one user; remembers its choices and learns from checked answers.

    ``strict`` raises ``NoFeasibleStrategy`` instead of planning beyond the budget. ``strategies`` are those at hand.
    Not thread-safe: one router a user.
    """

    def __init__(
        self,
        reader: Reader,
        budget: Budget = Budget(),
        prior: QualityPrior | None = None,
        *,
        strict: bool = False,
        strategies: Sequence[Strategy] = STRATEGIES,
    ) -> None:
        if unknown := set(strategies) - set(STRATEGIES):
            raise InvalidInput(f"strategies={sorted(unknown)!r}: choose from {', '.join(STRATEGIES)}")
        if not strategies:
            raise InvalidInput("strategies is empty: give at least one to choose from")
        self._reader = reader
        self._budget = budget
        self._prior = prior or QualityPrior()
        self._strict = strict
        self._strategies = tuple(strategies)
        self._checks: dict[tuple[Strategy, int], tuple[int, int]] = {}  # right, asked
        self._used: dict[bool | None, Strategy] = {}
        self._decisions: deque[Decision] = deque(maxlen=_KEPT_DECISIONS)

    @property
    def decisions(self) -> tuple[Decision, ...]:
        """The last thousand, oldest first."""
        return tuple(self._decisions)

    def plan(self, query: str, stats: HistoryStats) -> Plan:
        """The strategy for ``query`` over a history of this size. Raises ``NoFeasibleStrategy`` when strict."""
        multi = evidence_hint(query)
        options = self._weighed(stats, multi)
        chosen = self._steady(options, stats, multi)
        if self._strict and not self._good(chosen):
            raise NoFeasibleStrategy(f"{self._against(chosen)}: raise the budget, or take a reader that fits it")
        self._used[multi] = chosen.strategy
        plan = Plan(
            strategy=chosen.strategy,
            est_tokens=chosen.usage.tokens,
            est_cost=chosen.usage.usd,
            est_latency_s=chosen.usage.seconds,
            est_quality=chosen.quality,
            why=self._why(chosen, options, stats),
            within_budget=self._good(chosen),
            multi=multi,
            stats=stats,
            alternatives=tuple(option for option in options if option is not chosen),
        )
        self._decisions.append(Decision(plan))
        return plan

    def observe(self, plan: Plan, seen: Seen) -> None:
        """Record what a plan took, and learn from it if its answer was checked."""
        for place in range(len(self._decisions) - 1, -1, -1):
            if self._decisions[place].plan is plan:
                self._decisions[place] = Decision(plan, seen)
                break
        if seen.correct is not None:
            key = plan.strategy, _doublings(plan.stats)
            right, asked = self._checks.get(key, (0, 0))
            self._checks[key] = right + seen.correct, asked + 1

    def quality(self, strategy: Strategy, stats: HistoryStats, multi: bool | None = None) -> float:
        """Expected accuracy: the mean of Beta(prior * PRIOR_CHECKS + right, (1 - prior) * PRIOR_CHECKS + wrong)."""
        expected = self._prior.quality(strategy, stats, self._reader.profile, multi=multi)
        right, asked = self._checks.get((strategy, _doublings(stats)), (0, 0))
        return (expected * PRIOR_CHECKS + right) / (PRIOR_CHECKS + asked)

    def _weighed(self, stats: HistoryStats, multi: bool | None) -> list[Option]:
        """All strategies, the one to take first."""
        options = []
        for strategy in self._strategies:
            usage = self._reader.usage(strategy, stats)
            quality = self.quality(strategy, stats, multi)
            utility = self._budget.utility(quality, usage)
            fits = self._reader.fits(strategy, stats)
            options.append(Option(strategy, usage, quality, utility, fits, self._budget.allows(usage)))
        return sorted(options, key=self._rank, reverse=True)

    def _rank(self, option: Option) -> tuple[bool, bool, bool, float, float]:
        """What fits, then what is affordable, then what is good enough; by utility, or by quality if none is."""
        good = option.quality >= self._budget.min_quality
        by = option.utility if good or not option.feasible else option.quality
        return option.fits, option.affordable, good, by, option.quality

    def _good(self, option: Option) -> bool:
        return option.feasible and option.quality >= self._budget.min_quality

    def _steady(self, options: Sequence[Option], stats: HistoryStats, multi: bool | None) -> Option:
        """The best option, or the one in use while the better one is not better on both sides of T."""
        best = options[0]
        used = next((option for option in options if option.strategy == self._used.get(multi)), None)
        if used is None or used is best or self._good(used) < self._good(best):
            return best
        around = (self._weighed(stats.scaled(factor), multi)[0] for factor in (1 - HYSTERESIS, 1 + HYSTERESIS))
        return best if all(option.strategy == best.strategy for option in around) else used

    def _why(self, chosen: Option, options: Sequence[Option], stats: HistoryStats) -> str:
        """One sentence for people."""
        what = (
            f"{_SAID[chosen.strategy]} of {stats.conversations} conversations: {chosen.usage.tokens:,} tokens, "
            f"about {chosen.usage.seconds:.2g} s and ${chosen.usage.usd:.2g}, expected quality {chosen.quality:.2f}"
        )
        others = "; ".join(self._against(option, chosen) for option in options if option is not chosen)
        warning = "" if self._good(chosen) else f" NOTHING FITS: {self._against(chosen)}."
        return f"{what}{f' ({others})' if others else ''}.{warning}"

    def _against(self, option: Option, chosen: Option | None = None) -> str:
        """What speaks against an option."""
        name, usage, budget = _SAID[option.strategy], option.usage, self._budget
        if not option.fits:
            return f"{name} does not fit the window of {self._reader.profile.name}"
        if budget.max_latency_s is not None and usage.seconds > budget.max_latency_s:
            return f"{name} takes {usage.seconds:.2g} s of {budget.max_latency_s:g} s"
        if budget.max_cost is not None and usage.usd > budget.max_cost:
            return f"{name} costs ${usage.usd:.2g} of ${budget.max_cost:g}"
        if option.quality < budget.min_quality:
            return f"{name} has expected quality {option.quality:.2f}, below {budget.min_quality:g}"
        if chosen is not None and option.utility > chosen.utility:
            return f"{name} would be better by less than the margin for a change"
        return f"{name} has utility {option.utility:.2f}" + (f", not {chosen.utility:.2f}" if chosen else "")


@dataclass(frozen=True, slots=True)
class Transition:
    """From ``conversations`` (``tokens``) on, a fresh router plans ``strategy``; within the budget or not."""

    strategy: Strategy
    conversations: int
    tokens: int
    within_budget: bool


def transitions(
    reader: ReaderProfile,
    budget: Budget = Budget(),
    *,
    query: str = "",
    tokens_per_conversation: float = CONVERSATION,
    prior: QualityPrior | None = None,
    longest: int = 1_000,
) -> list[Transition]:
    """Where each strategy takes over as a history grows from 1 to ``longest`` conversations, for this reader."""
    prior = prior or QualityPrior()
    found: list[Transition] = []
    for count in range(1, longest + 1):
        stats = HistoryStats(count, count * _TURNS, round(count * tokens_per_conversation))
        plan = RecallRouter(reader, budget, prior).plan(query, stats)
        last = found[-1] if found else None
        if last is None or (last.strategy, last.within_budget) != (plan.strategy, plan.within_budget):
            found.append(Transition(plan.strategy, count, stats.tokens, plan.within_budget))
    return found


def with_trust(reader: ReaderProfile, prior: QualityPrior) -> ReaderProfile:
    """A hosted reader with the trusted tokens that the released curves show."""
    return replace(reader, trusted_tokens=prior.trusted_tokens(reader.name))


def evidence_hint(query: str) -> bool | None:
    """``True`` if the words of a question ask for several messages; ``None``, not ``False``, where they do not say."""
    return True if _SPREAD.search(query) else None


def _doublings(stats: HistoryStats) -> int:
    return max(1, stats.conversations).bit_length()
