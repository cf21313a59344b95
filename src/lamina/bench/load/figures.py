"""Calls as figures: how many a second, and how long they took, by verb and in the course of a run."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

Sample = tuple[str, float, float]  # verb, moment of the answer, seconds it took
PARTS = 10  # of a run's course
_SHARES = {"p50": 0.50, "p95": 0.95, "p99": 0.99}


def figures(samples: Sequence[Sample], begin: float, end: float) -> dict[str, Any]:
    """Rates and milliseconds of calls that were answered between two moments; ``course``: the same by tenths."""
    by_verb: dict[str, list[float]] = defaultdict(list)
    for verb, _, seconds in samples:
        by_verb[verb].append(1e3 * seconds)
    found: dict[str, Any] = {"requests": len(samples), "requests_per_s": len(samples) / (end - begin)}
    found |= {"slowest_ms": max((1e3 * seconds for _, _, seconds in samples), default=0.0)}
    for verb in sorted(by_verb):
        found |= {f"{verb}_{name}_ms": quantile(by_verb[verb], share) for name, share in _SHARES.items()}
        found[f"{verb}_per_s"] = len(by_verb[verb]) / (end - begin)
    step = (end - begin) / PARTS
    found["course"] = [_part(samples, begin + n * step, begin + (n + 1) * step) for n in range(PARTS)]
    return found


def _part(samples: Sequence[Sample], begin: float, end: float) -> dict[str, float]:
    inside = [sample for sample in samples if begin <= sample[1] < end]
    part = {"from": begin, "to": end, "requests_per_s": len(inside) / (end - begin)}
    for verb in ("search", "add"):
        took = [1e3 * seconds for name, _, seconds in inside if name == verb]
        part |= {f"{verb}_p95_ms": quantile(took, _SHARES["p95"])} if took else {}
    return part


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest value that ``share`` of all do not exceed. Raises ``IndexError`` for none."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]
