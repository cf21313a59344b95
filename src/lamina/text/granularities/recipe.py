"""The numbers and choices that make a MemGAS (arXiv 2505.19549): Lamina's, which are the defaults, and the paper's."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Literal

from lamina.errors import InvalidInput
from lamina.text.granularities.router import ROUTERS

Granularity = Literal["session", "turn", "summary", "keyword", "lexical"]

DENSE: tuple[Granularity, ...] = ("session", "turn", "summary", "keyword")  # the order of a session's nodes


@dataclass(frozen=True, slots=True)
class Recipe:
    """What makes a session score. Every ablation is one field replaced.

    ``shares`` weigh the granularities beside the router. ``seeds`` is how many nodes the walk starts from, each with
    its weighted score; ``None`` starts it from all, with their probabilities. ``walk`` weighs the PageRank (its
    logarithm, standardised) against the fused scores; ``None`` ranks by PageRank alone, 0 leaves the graph out.
    Raises ``InvalidInput`` that names the field for a value out of its range.
    """

    granularities: tuple[Granularity, ...] = (*DENSE, "lexical")
    turn_pool: Literal["max", "mean"] = "max"
    router: Literal["entropy", "uniform", "released"] = "entropy"
    temperature: float = 1.0
    standardize: bool = True
    shares: tuple[float, ...] = (0.25, 1.0, 0.5, 0.25, 1.5)
    seeds: int | None = None
    candidates: int = 30
    min_gap: float = 1.0
    damping: float = 0.3
    walk: float | None = 0.3

    def __post_init__(self) -> None:
        known, names = (*DENSE, "lexical"), self.granularities
        named = bool(names) and set(names) <= {*known} and len({*names}) == len(names)
        _check("granularities", names, named, f"some of {', '.join(known)}, each once")
        _check("turn_pool", self.turn_pool, self.turn_pool in ("max", "mean"), "'max' or 'mean'")
        _check("router", self.router, self.router in ROUTERS, f"one of {', '.join(ROUTERS)}")
        _check("temperature", self.temperature, _within(self.temperature) and self.temperature > 0, "a number above 0")
        fit = len(self.shares) == len(names) and all(map(_within, self.shares)) and sum(self.shares) > 0
        _check("shares", self.shares, fit, f"a weight of at least 0 for each of {', '.join(names)}, not all 0")
        _check(
            "seeds",
            self.seeds,
            self.seeds is None or _counts(self.seeds),
            "a whole number of at least 1, or None for all nodes",
        )
        _check("candidates", self.candidates, _counts(self.candidates), "a whole number of at least 1")
        _check("min_gap", self.min_gap, _within(self.min_gap), "a number of at least 0")
        _check("damping", self.damping, _within(self.damping) and self.damping < 1, "a probability below 1")
        _check("walk", self.walk, self.walk is None or _within(self.walk), "a number of at least 0, or None")


def _within(value: float) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value) and value >= 0


def _counts(value: int) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool) and value >= 1


def _check(name: str, value: object, holds: bool, wanted: str) -> None:
    if not holds:
        raise InvalidInput(f"{name}={value!r:.80}: choose {wanted}")


PAPER = Recipe(
    granularities=DENSE,
    turn_pool="mean",
    temperature=0.2,
    standardize=False,
    shares=(1.0, 1.0, 1.0, 1.0),
    seeds=15,
    min_gap=0.0,
    damping=0.1,
    walk=None,
)
