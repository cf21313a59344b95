"""Rates of a hosted reader, fitted to what ConvoMem released (arXiv 2511.10523) instead of set by hand.

The formulas of ``context_costs`` have few unknowns: share of a prompt served from the cache, tokens of an answer,
seconds before an answer begins and tokens read a second; of retrieval the turns and the seconds of its search; of
block extraction the tokens of an extract and how many blocks are extracted at once. Each is chosen from a grid, so
that the mean of ``|log(predicted / released)|`` is least, every curve weighing the same. Logarithms, because sizes span
1 to 300; no squares, because some runs waited minutes in the provider's queue.

``leave_out`` names categories that are not to be looked at. ``HOSTED`` holds the rates from all of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from itertools import product

import numpy as np
import numpy.typing as npt

from lamina.errors import InvalidInput
from lamina.text.context_costs import HOSTED, HistoryStats, ReaderProfile, Recall
from lamina.text.context_prior import Curve, Point, released

TURNS = 12  # of a conversation; the release does not say
_EVERYTHING = 10**9  # the released block extraction reads the whole history
_Vector = npt.NDArray[np.float64]


def fitted(name: str, *, leave_out: Collection[str] = (), curves: Sequence[Curve] | None = None) -> ReaderProfile:
    """``HOSTED[name]`` with its rates and ``recall`` as released; it extracts for itself.

    Raises ``InvalidInput`` for a reader that has no price, or no curve of full context left.
    """
    if name not in HOSTED:
        raise InvalidInput(f"reader {name!r} has no released price: choose from {', '.join(HOSTED)}")
    own = [c for c in (released() if curves is None else curves) if c.reader == name and c.category not in leave_out]
    runs = {strategy: [c for c in own if c.strategy == strategy] for strategy in ("full", "rag", "hybrid")}
    if not runs["full"]:
        raise InvalidInput(f"no full-context curve of {name!r} is left without {sorted(leave_out)}: leave out less")
    profile = _retrieving(_reading(HOSTED[name], runs["full"]), runs["rag"], runs["full"])
    return _extracting(profile, runs["hybrid"], runs["full"])


def stats_of(point: Point, tokens: int) -> HistoryStats:
    """The history of a released size."""
    return HistoryStats(point.conversations, TURNS * point.conversations, tokens)


def _reading(profile: ReaderProfile, full: Sequence[Curve]) -> ReaderProfile:
    """Share of the cache, answer tokens, start and speed from full context."""
    table = [(p.tokens, p.usd, p.seconds, 1 / len(c.points)) for c in full for p in c.points if p.tokens]
    tokens, usd, seconds, weight = np.asarray(table, dtype=np.float64).T

    def dollars(hit: float, output: float) -> _Vector:
        price = hit * profile.usd_cached + (1 - hit) * profile.usd_input
        told: _Vector = (tokens * price + output * profile.usd_output) / 1e6
        return told

    hit, output = _least(dollars, usd, weight, np.linspace(0, 1, 51), np.geomspace(20, 2_000, 61))
    begin, each = _least(
        lambda begin, each: begin + each * tokens,
        seconds, weight, np.geomspace(0.2, 60, 61), np.geomspace(1e-7, 1e-3, 81),
    )  # fmt: skip
    return replace(
        profile,
        hit_rate=round(hit, 2),
        output_tokens=round(output),
        start_s=round(max(0.0, begin - output / profile.decode_tps), 2),
        prefill_tps=float(f"{max(1 - hit, 0.02) / each:.3g}"),
    )


def _retrieving(profile: ReaderProfile, rag: Sequence[Curve], full: Sequence[Curve]) -> ReaderProfile:
    """Turns and seconds of the released retrieval."""
    rows = [(p, stats) for curve in rag for p, stats in _sized(curve, full) if p.tokens]
    if not rows:
        return profile
    turns = np.median([(p.tokens or 0) / (stats.tokens / stats.turns) for p, stats in rows])
    profile = replace(profile, recall=Recall(k=max(1, round(float(turns)))))
    waited = np.median([p.seconds - profile.usage("rag", stats).seconds for p, stats in rows])
    return replace(profile, recall=replace(profile.recall, search_s=round(max(0.0, float(waited)), 2)))


def _extracting(profile: ReaderProfile, hybrid: Sequence[Curve], full: Sequence[Curve]) -> ReaderProfile:
    """Tokens of an extract and workers of the released block extraction."""
    rows = [row for curve in hybrid for row in _sized(curve, full)]
    profile = replace(profile, helper=replace(profile, recall=Recall()))

    def told(extract: int, workers: int) -> ReaderProfile:
        recall = replace(profile.recall, generous=_EVERYTHING, extract_tokens=extract, workers=workers)
        return replace(profile, recall=recall)

    def error(extract: int, workers: int) -> float:
        used = [(p, told(extract, workers).usage("hybrid", stats)) for p, stats in rows]
        return sum(abs(math.log(u.usd / p.usd)) + abs(math.log(u.seconds / p.seconds)) for p, u in used)

    grid = product((20, 50, 80, 150, 300, 600, 1_200, 2_400), (1, 2, 3, 5, 10, 30))
    return told(*min(grid, key=lambda one: error(*one))) if rows else told(Recall().extract_tokens, 1)


def _sized(curve: Curve, full: Sequence[Curve]) -> Iterator[tuple[Point, HistoryStats]]:
    """Points with the history they were asked about: the tokens of full context on the same questions."""
    twin: Curve | None = next((c for c in full if (c.category, c.evidence) == (curve.category, curve.evidence)), None)
    for point in curve.points:
        same = twin.at(point.conversations) if twin else None
        if same is not None and same.tokens:
            yield point, stats_of(point, same.tokens)


def _least(
    predict: Callable[[float, float], _Vector], seen: _Vector, weight: _Vector, first: _Vector, second: _Vector
) -> tuple[float, float]:
    """The pair of a grid with the least weighted mean of absolute log ratios."""

    def error(pair: tuple[float, float]) -> float:
        return float(weight @ np.abs(np.log(predict(*pair) / seen)))

    return min(((float(a), float(b)) for a, b in product(first, second)), key=error)
