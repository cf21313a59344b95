"""How well a ranking finds the evidence of a question, and how sure an average over conversations is.

A ranking is a sequence of distinct turn ids, best first; evidence is a non-empty set of turn ids. Definitions
differ between papers by 5 to 14 points, so here they are in full, with ``hits@k`` = evidence among the first k:

* ``recall``: hits@k / |evidence|; ``recall_any``: 1 if hits@k > 0; ``recall_all``: 1 if hits@k = |evidence|;
* ``ndcg``: sum over hits at rank i (from 1) of 1 / log2(i + 1), divided by the same sum of a ranking that
  starts with all evidence, cut at k (Järvelin and Kekäläinen, "Cumulated gain-based evaluation of IR
  techniques", 2002, binary relevance).

Averages are over questions. Intervals resample *conversations*: questions about one conversation share its
turns and are not independent.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence, Set
from dataclasses import dataclass

import numpy as np

from lamina.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class Score:
    """All metrics of one question at one cut-off, each in [0, 1]."""

    recall: float
    recall_any: float
    recall_all: float
    ndcg: float


def score(ranking: Sequence[Hashable], evidence: Set[Hashable], k: int) -> Score:
    """Metrics of ``ranking`` at ``k``. Raises ``InvalidInput`` for no evidence, k < 1 or a repeated id."""
    if not evidence:
        raise InvalidInput("evidence is empty: a question without evidence has no recall; leave it out")
    if k < 1:
        raise InvalidInput(f"k={k!r}: pass a positive number of results")
    top = ranking[:k]
    if len(set(top)) != len(top):
        raise InvalidInput("ranking holds an id twice among its first k: rank distinct turns")
    ranks = [rank for rank, identifier in enumerate(top, start=1) if identifier in evidence]
    ideal = sum(_gain(rank) for rank in range(1, min(k, len(evidence)) + 1))
    return Score(
        recall=len(ranks) / len(evidence),
        recall_any=float(bool(ranks)),
        recall_all=float(len(ranks) == len(evidence)),
        ndcg=sum(_gain(rank) for rank in ranks) / ideal,
    )


def mean(scores: Sequence[Score]) -> Score:
    """The average of each metric. Raises ``InvalidInput`` for no scores."""
    if not scores:
        raise InvalidInput("scores is empty: there is nothing to average")
    fields = ("recall", "recall_any", "recall_all", "ndcg")
    return Score(*(math.fsum(getattr(one, field) for one in scores) / len(scores) for field in fields))


def by_category(scores: Sequence[Score], categories: Sequence[int]) -> dict[int, Score]:
    """The average within each category, in order of their numbers."""
    groups: dict[int, list[Score]] = {}
    for one, category in zip(scores, categories, strict=True):
        groups.setdefault(category, []).append(one)
    return {category: mean(groups[category]) for category in sorted(groups)}


def interval(
    values: Mapping[str, Sequence[float]], *, level: float = 0.95, rounds: int = 2_000, seed: int = 0
) -> tuple[float, float]:
    """Bootstrap interval of the mean over all questions, whole conversations drawn with replacement.

    ``values`` maps a conversation to the values of its questions. The percentile method; with ten
    conversations it is wide, as it should be. Raises ``InvalidInput`` for no values or a level outside (0, 1).
    """
    filled = [np.asarray(row, np.float64) for row in values.values() if len(row)]
    if not filled or not 0 < level < 1:
        raise InvalidInput(f"level={level!r} with {len(filled)} conversations: pass values and a level in (0, 1)")
    sums, sizes = np.asarray([row.sum() for row in filled]), np.asarray([len(row) for row in filled])
    drawn = np.random.default_rng(seed).integers(0, len(filled), (rounds, len(filled)))
    means = sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _gain(rank: int) -> float:
    return 1 / math.log2(rank + 1)
