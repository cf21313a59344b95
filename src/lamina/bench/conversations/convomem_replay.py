"""ConvoMem's released cells as a world to choose in: what each strategy cost, took and got right at each size.

A cell is one category, number of evidence messages and number of conversations. A router is asked in it through a
``Metered`` reader: cost and time are known, as a user's own meter shows them, and accuracy is not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from lamina.text.context_choice import (
    HOSTED,
    Budget,
    HistoryStats,
    QualityPrior,
    Recall,
    RecallRouter,
    Strategy,
    Usage,
)
from lamina.text.context_prior import REFERENCE, Curve, Point

_TURNS = 12  # of a conversation; the release does not say


class Metered:
    """A reader whose cost and time at each size are known from use: one released cell."""

    def __init__(self, cell: dict[Strategy, Point]) -> None:
        self._cell = cell
        # The released block extraction reads the whole history.
        self.profile = replace(HOSTED[REFERENCE], recall=Recall(generous=10**9))

    def fits(self, strategy: Strategy, stats: HistoryStats) -> bool:
        return self.profile.fits(strategy, stats)

    def usage(self, strategy: Strategy, stats: HistoryStats) -> Usage:  # noqa: ARG002 - it is the size of the cell
        point = self._cell[strategy]
        return Usage(point.tokens or 0, point.usd, point.seconds)


@dataclass(frozen=True, slots=True)
class Cell:
    category: str
    evidence: int
    stats: HistoryStats
    points: dict[Strategy, Point]

    def utility(self, strategy: Strategy, budget: Budget) -> float:
        point = self.points[strategy]
        return budget.utility(point.accuracy, Usage(point.tokens or 0, point.usd, point.seconds))

    def affordable(self, strategy: Strategy, budget: Budget) -> bool:
        point = self.points[strategy]
        return budget.allows(Usage(point.tokens or 0, point.usd, point.seconds))

    def best(self, budget: Budget) -> float:
        """Of the strategies within the budget, or of all where none is."""
        within = [strategy for strategy in self.points if self.affordable(strategy, budget)]
        return max(self.utility(strategy, budget) for strategy in within or self.points)


def cells(curves: Sequence[Curve]) -> list[Cell]:
    """Released cells of the reference reader in which there is a choice: full context and retrieval, at least."""
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
                turns = _TURNS * point.conversations
                found.append(Cell(category, evidence, HistoryStats(point.conversations, turns, point.tokens), points))
    return found


def choose(cell: Cell, budget: Budget, prior: QualityPrior, *, strict: bool = False) -> Strategy:
    """What a fresh router plans in a cell. Raises ``NoFeasibleStrategy`` when strict."""
    router = RecallRouter(Metered(cell.points), budget, prior, strict=strict, strategies=tuple(cell.points))
    return router.plan("", cell.stats).strategy
