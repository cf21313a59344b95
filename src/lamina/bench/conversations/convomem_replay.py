"""ConvoMem's released cells as a world to choose in: what each strategy cost, took and got right at each size.

A cell is one category, number of evidence messages and number of conversations. A router walks the cells of one
category and number of messages as a user's history grows. What it knows of a cell before it chooses is what a new
user's router knows: its size, and cost, time and accuracy as *fitted to the other categories* (``context_fit``,
``context_prior``). What the chosen strategy cost and took it sees afterwards; what the others would have, and whether
the answers were right, it never sees.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lamina.text.context_choice import (
    STRATEGIES,
    Budget,
    HistoryStats,
    QualityPrior,
    ReaderProfile,
    RecallRouter,
    Seen,
    Strategy,
    Usage,
)
from lamina.text.context_fit import stats_of
from lamina.text.context_prior import REFERENCE, Curve, Point

_CONSTANT: dict[Strategy, float] = {"full": 0.8, "hybrid": 0.7, "rag": 0.5}


class Constant(QualityPrior):
    """Accuracies that nobody fitted: everything is best, retrieval worst. The baseline of the released curves."""

    def quality(
        self,
        strategy: Strategy,
        stats: HistoryStats,  # noqa: ARG002 - constant
        reader: ReaderProfile,  # noqa: ARG002
        *,
        multi: bool | None = None,  # noqa: ARG002
    ) -> float:
        return _CONSTANT[strategy]


@dataclass(frozen=True, slots=True)
class Cell:
    category: str
    evidence: int
    stats: HistoryStats
    points: dict[Strategy, Point]

    def usage(self, strategy: Strategy) -> Usage:
        """As released."""
        point = self.points[strategy]
        return Usage(point.tokens or 0, point.usd, point.seconds)

    def utility(self, strategy: Strategy, budget: Budget) -> float:
        return budget.utility(self.points[strategy].accuracy, self.usage(strategy))

    def within(self, budget: Budget) -> list[Strategy]:
        """Strategies that kept the budget."""
        return [strategy for strategy in self.points if budget.allows(self.usage(strategy))]

    def best(self, budget: Budget, *, bound: bool) -> float:
        """The best utility: of strategies within the budget if any is (``bound``), or of all, overshoot priced."""
        return max(self.utility(strategy, budget) for strategy in (bound and self.within(budget)) or self.points)


def cells(curves: Sequence[Curve]) -> list[Cell]:
    """Released cells of the reference reader with full context and retrieval at least, each run by size."""
    runs: dict[tuple[str, int], dict[Strategy, Curve]] = {}
    for curve in curves:
        if curve.reader == REFERENCE:
            runs.setdefault((curve.category, curve.evidence), {})[curve.strategy] = curve
    found = []
    for (category, evidence), by_strategy in runs.items():
        if not {"full", "rag"} <= set(by_strategy):
            continue
        for point in by_strategy["full"].points:
            points = {s: at for s, run in by_strategy.items() if (at := run.at(point.conversations)) is not None}
            if "rag" in points and point.tokens:
                found.append(Cell(category, evidence, stats_of(point, point.tokens), points))
    return found


def walked(run: Sequence[Cell], reader: ReaderProfile, budget: Budget, prior: QualityPrior) -> list[Strategy]:
    """What one router plans in the cells of one run, in their order, seeing what each of its plans took."""
    at_hand = tuple(strategy for strategy in STRATEGIES if any(strategy in cell.points for cell in run))
    router = RecallRouter(reader, budget, prior, strategies=at_hand)
    chosen: list[Strategy] = []
    for cell in run:
        plan = router.plan("", cell.stats)
        # Block extraction was not released at every size: there the next best is taken, and nothing is seen.
        options = [plan.strategy, *(option.strategy for option in plan.alternatives)]
        taken = next(strategy for strategy in options if strategy in cell.points)
        if taken == plan.strategy:
            used = cell.usage(taken)
            router.observe(plan, Seen(used.usd, used.seconds, used.tokens))
        chosen.append(taken)
    return chosen


def errors(every: Sequence[Cell], readers: dict[str, ReaderProfile]) -> tuple[float, float]:
    """Median of |predicted / released - 1| of dollars and of seconds, over strategies of cells, categories unseen."""
    usd, seconds = [], []
    for cell in every:
        for strategy in cell.points:
            told, took = readers[cell.category].usage(strategy, cell.stats), cell.usage(strategy)
            usd.append(abs(told.usd / took.usd - 1))
            seconds.append(abs(told.seconds / took.seconds - 1))
    return float(np.median(usd)), float(np.median(seconds))
