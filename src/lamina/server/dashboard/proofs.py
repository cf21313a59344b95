"""Proofs: what is claimed of each system in the library, against which baseline, and what was measured."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from math import log10
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from lamina.bench.catalog import overview, systems
from lamina.server.dashboard.shell import PageRoute, render
from lamina.server.dashboard.visitor import needs

router = APIRouter(route_class=PageRoute)
WIDEST = 100.0  # of a bar, in its own units


@dataclass(frozen=True, slots=True)
class Bar:
    """Ours beside the baseline, on one scale: logarithmic once they are more than a factor of 20 apart."""

    ours: float
    baseline: float


@router.get("/proofs", dependencies=[needs("read")])
def proofs(request: Request, failed: bool = False) -> Response:
    rows = overview()
    cards = []
    for name, group in groupby(rows, key=lambda row: row["system"]):
        claims = [row | {"bar": bar(row["ours"], row["baseline"])} for row in group]
        shown = [claim for claim in claims if claim["holds"] is False] if failed else claims
        if shown:
            counted, paper = _counted(claims), systems[name].paper
            cards.append({"name": name, "paper": paper, "claims": shown, "of": counted, "claims_in_all": len(claims)})
    return render(request, "proofs.html", cards=cards, of=_counted(rows), failed=failed)


def bar(ours: float | None, baseline: float | None) -> Bar | None:
    """Lengths of two bars, the longer ``WIDEST``; ``None`` where there is nothing to compare."""
    if ours is None or baseline is None or min(ours, baseline) <= 0:
        return None
    low, high = sorted((ours, baseline))
    if high / low <= 20:
        return Bar(*(WIDEST * value / high for value in (ours, baseline)))
    decades = log10(high / low)
    return Bar(*(WIDEST * (1 - 0.9 * log10(high / value) / decades) for value in (ours, baseline)))


def _counted(claims: list[dict[str, Any]]) -> dict[str, int]:
    held = [claim["holds"] for claim in claims]
    return {"holds": held.count(True), "fails": held.count(False), "unmeasured": held.count(None)}
