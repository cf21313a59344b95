"""ConvoMem: should the assistant read the whole history, extract from it first, or retrieve? Decided per question.

ConvoMem Benchmark: Why Your First 150 Conversations Don't Need RAG, arXiv 2511.10523. Its finding as a policy:
no count of conversations decides, but what fits the reader and the budget, and then

    utility = quality - a * cost / max_cost - b * seconds / max_seconds

over the strategies that fit. Costs come from the reader's profile (``context_costs``), quality from the released
curves (``context_prior``) blended with the user's own checks: an outcome marked right or wrong counts as a draw
from a Beta distribution whose prior is worth ``PRIOR_CHECKS`` checks, per strategy and doubling of the history.

What a plan took is learnt as well: predicted cost and time of a strategy are multiplied by the geometric mean of seen
over predicted, one prediction counted in.

When nothing fits the budget the plan says so and takes the best utility all the same (overshoot is priced, so
40 seconds are not preferred to 4); ``strict=True`` raises instead. A change of mind must also hold at 10 % fewer
and 10 % more tokens, unless what was used no longer fits: a history near a boundary does not flap.
"""

from __future__ import annotations

import math
import re
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from lamina.errors import InvalidInput
from lamina.text.context_costs import HOSTED, STRATEGIES, HistoryStats, ReaderProfile, Recall, Strategy, Usage
from lamina.text.context_plan import Budget, Decision, NoFeasibleStrategy, Option, Plan, Seen
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
_UNLIMITED = Budget()
PRIOR_CHECKS = 20.0
_KEPT_DECISIONS = 1_000
_TURNS = 12  # of a conversation, where only their number is given

# Words of questions whose evidence is usually spread over several messages; not "at all", "all right", "everybody".
_ALL = r"(?<!at )(?<!after )(?<!above )all(?! right| day| night| set)|every(?!day|body|one)"
_SPREAD = re.compile(
    rf"\b({_ALL}|each|both|list|how (?:many|much|often)|since|chang(?:e|es|ed|ing)|compare|total|altogether)\b", re.I
)
_SAID = {"full": "the whole history", "hybrid": "block extraction", "rag": "retrieval"}


@dataclass(slots=True)
class _Meter:
    """How far a strategy was from its prediction: sums of log ratios; the prediction itself counts as one reading."""

    cost: float = 0.0
    seconds: float = 0.0
    readings: int = 0

    def read(self, predicted: Usage, seen: Seen) -> None:
        self.cost += _log_ratio(seen.cost, predicted.usd)
        self.seconds += _log_ratio(seen.latency_s, predicted.seconds)
        self.readings += 1

    def corrected(self, predicted: Usage) -> Usage:
        share = 1 / (1 + self.readings)
        cost, seconds = math.exp(self.cost * share), math.exp(self.seconds * share)
        return Usage(predicted.tokens, predicted.usd * cost, predicted.seconds * seconds)


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
        budget: Budget = _UNLIMITED,
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
        self._met: dict[Strategy, _Meter] = {}
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
        """Record what a plan took; learn from that, and from the answer if it was checked. Once a plan.

        Raises ``InvalidInput`` for a plan that is none of the last thousand, or was observed before.
        """
        place = next((at for at, decision in enumerate(self._decisions) if decision.plan is plan), None)
        if place is None or self._decisions[place].seen is not None:
            what = "is none of this router's last plans" if place is None else "was observed before"
            raise InvalidInput(f"plan={plan.strategy!r} of {plan.stats.conversations} conversations {what}: plan anew")
        self._decisions[place] = Decision(plan, seen)
        self._met.setdefault(plan.strategy, _Meter()).read(self._reader.usage(plan.strategy, plan.stats), seen)
        if seen.correct is not None:
            key = plan.strategy, _doublings(plan.stats)
            right, asked = self._checks.get(key, (0, 0))
            self._checks[key] = right + seen.correct, asked + 1

    def quality(self, strategy: Strategy, stats: HistoryStats, multi: bool | None = None) -> float:
        """Expected accuracy: the mean of Beta(prior * PRIOR_CHECKS + right, (1 - prior) * PRIOR_CHECKS + wrong)."""
        expected = self._prior.quality(strategy, stats, self._reader.profile, multi=multi)
        right, asked = self._checks.get((strategy, _doublings(stats)), (0, 0))
        return (expected * PRIOR_CHECKS + right) / (PRIOR_CHECKS + asked)

    def _usage(self, strategy: Strategy, stats: HistoryStats) -> Usage:
        """What the reader's profile predicts, corrected by what the strategy took before."""
        predicted = self._reader.usage(strategy, stats)
        met = self._met.get(strategy)
        return met.corrected(predicted) if met else predicted

    def _weighed(self, stats: HistoryStats, multi: bool | None) -> list[Option]:
        """All strategies, the one to take first."""
        options = []
        for strategy in self._strategies:
            usage = self._usage(strategy, stats)
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
        if used is None or used is best or not used.fits or self._good(used) < self._good(best):
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
    budget: Budget = _UNLIMITED,
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


def _log_ratio(seen: float, predicted: float) -> float:
    """0 where either is free."""
    return math.log(seen / predicted) if seen > 0 and predicted > 0 else 0.0


def _doublings(stats: HistoryStats) -> int:
    return max(1, stats.conversations).bit_length()
