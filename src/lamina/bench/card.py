"""What a proof is made of: a ``Card`` for a paper, its ``Claim``s, and the ``Measurement`` of each.

A claim is written down before it is measured: its sentence, metric and target are part of the code, so
that no result can choose its own bar. A ratio always says *how many times better*: ours / baseline when
more is better, baseline / ours when less is; above 1 we win. A claim that was not measured, or came out
as no finite number, does not hold.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from lamina.errors import InvalidInput

Scale = Literal["smoke", "laptop", "full"]
SCALES: tuple[Scale, ...] = ("smoke", "laptop", "full")


@dataclass(frozen=True, slots=True)
class Claim:
    """One sentence that a number decides.

    ``target`` bounds the ratio from below, or with ``of="ours"`` our own value on its better side: from below
    when ``better`` is ``more``, from above when it is ``less``.
    """

    claim: str
    metric: str
    unit: str
    target: float
    better: Literal["more", "less"] = "more"
    of: Literal["ratio", "ours"] = "ratio"

    def __post_init__(self) -> None:
        if not math.isfinite(self.target) or self.target < 0:
            raise InvalidInput(f"target={self.target!r} of claim {self.claim!r}: give a finite number, not negative")

    def measured(self, ours: float | None, baseline: float | None = None, baseline_name: str = "") -> Measurement:
        """What came out; ``None`` for a value that could not be measured."""
        return Measurement(self, ours, baseline, baseline_name)

    @property
    def bound(self) -> str:
        """The target for people: ``>= 5x``, ``<= 10 ms``."""
        if self.of == "ratio":
            return f">= {self.target:g}x"
        sign = ">=" if self.better == "more" else "<="
        return f"{sign} {self.target:g} {self.unit}".rstrip()

    @property
    def identity(self) -> tuple[str, str, str, float]:
        """What of a claim a stored result repeats, in its six digits: a result of other claims is stale."""
        return self.claim, self.metric, self.unit, float(f"{self.target:.6g}")


def at_least(claim: str, metric: str, target: float, unit: str = "") -> Claim:
    """Our own value, from below."""
    return Claim(claim, metric, unit, target, "more", "ours")


def at_most(claim: str, metric: str, target: float, unit: str = "") -> Claim:
    """Our own value, from above."""
    return Claim(claim, metric, unit, target, "less", "ours")


@dataclass(frozen=True, slots=True)
class Measurement:
    """Our value and the baseline's for one claim, from the same run."""

    claim: Claim
    ours: float | None
    baseline: float | None = None
    baseline_name: str = ""

    @property
    def ratio(self) -> float | None:
        """How many times better than the baseline; ``None`` without two finite values to divide."""
        ours, baseline = _finite(self.ours), _finite(self.baseline)
        if ours is None or baseline is None:
            return None
        over, under = (ours, baseline) if self.claim.better == "more" else (baseline, ours)
        return over / under if under else None

    @property
    def holds(self) -> bool:
        """Whether the claim's target is met."""
        ours, baseline, target = _finite(self.ours), _finite(self.baseline), self.claim.target
        if ours is None:
            return False
        more = self.claim.better == "more"
        if self.claim.of == "ours":
            return ours >= target if more else ours <= target
        if baseline is None:
            return False
        # Multiplied out, so that a zero needs no special case.
        return ours >= target * baseline if more else ours * target <= baseline

    def to_dict(self) -> dict[str, Any]:
        """The claim as a result file states it."""
        return {
            "claim": self.claim.claim,
            "metric": self.claim.metric,
            "ours": _finite(self.ours),
            "baseline": _finite(self.baseline),
            "baseline_name": self.baseline_name,
            "unit": self.claim.unit,
            "ratio": self.ratio,
            "target": self.claim.target,
            "holds": self.holds,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """A paper in the library: where it lives, what is claimed of it, and the experiment that decides.

    ``run(seed, scale)`` measures every claim once; ``"module:function"`` names it where its imports are heavy, so that
    reading what is claimed loads no model library. ``plot(measurements, file)``, if there is one, draws them.
    """

    name: str
    paper: str
    arxiv: str
    module: str
    summary: str
    claims: tuple[Claim, ...]
    run: Callable[[int, Scale], Sequence[Measurement]] | str
    plot: Callable[[Sequence[Measurement], Path], None] | None = field(default=None)

    def __post_init__(self) -> None:
        names = [claim.claim for claim in self.claims]
        if not names or len(set(names)) != len(names):
            raise InvalidInput(f"card {self.name!r}: give at least one claim, and each only once")

    def measure(self, seed: int, scale: Scale) -> list[Measurement]:
        """``run``, in the order of ``claims``; a claim it left out counts as not measured, so it fails.

        Raises ``InvalidInput`` for a measurement of a claim the card does not make.
        """
        found = {measurement.claim: measurement for measurement in _named(self.run)(seed, scale)}
        if stray := [claim.claim for claim in found if claim not in self.claims]:
            raise InvalidInput(f"card {self.name!r} measured what it does not claim: {stray}; list it in its claims")
        return [found.get(claim) or claim.measured(None) for claim in self.claims]


def _named(run: Callable[[int, Scale], Sequence[Measurement]] | str) -> Callable[[int, Scale], Sequence[Measurement]]:
    if not isinstance(run, str):
        return run
    module, _, function = run.partition(":")
    found: Callable[[int, Scale], Sequence[Measurement]] = getattr(importlib.import_module(module), function)
    return found


def _finite(value: float | None) -> float | None:
    """As a plain float, or ``None`` for what JSON cannot hold."""
    return float(value) if value is not None and math.isfinite(value) else None
