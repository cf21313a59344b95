"""Rates fitted to the released curves: the shipped ones are reproduced, and what is left out leaves no trace."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lamina.errors import InvalidInput
from lamina.text.context_choice import HOSTED, HistoryStats, Strategy
from lamina.text.context_fit import fitted, stats_of
from lamina.text.context_prior import REFERENCE, Curve, Point, released


@pytest.mark.parametrize("name", list(HOSTED))
def test_the_shipped_rates_are_those_of_the_fit(name: str) -> None:
    found, shipped = fitted(name), HOSTED[name]
    assert replace(found, recall=shipped.recall, helper=shipped.helper) == shipped


def test_a_category_left_out_leaves_no_trace() -> None:
    others = [curve for curve in released() if curve.category != "user_facts"]
    without = fitted(REFERENCE, leave_out=("user_facts",))
    assert without == fitted(REFERENCE, curves=others)
    assert without != fitted(REFERENCE)


def test_rates_that_made_the_numbers_are_found_again() -> None:
    true = replace(HOSTED[REFERENCE], hit_rate=0.8, output_tokens=200, start_s=1.0, prefill_tps=5_000.0)

    def point(n: int, strategy: Strategy) -> Point:
        stats = HistoryStats(n, 12 * n, 1_200 * n)
        used = true.usage(strategy, stats)
        late = 3.0 if strategy == "rag" else 0.0
        return Point(n, 0.8, 100, used.seconds + late, 9.0, used.usd, used.tokens)

    sizes = (1, 3, 10, 30, 100, 300)
    curves = [Curve(REFERENCE, "x", 1, s, tuple(point(n, s) for n in sizes)) for s in ("full", "rag")]
    found = fitted(REFERENCE, curves=curves)
    assert found.hit_rate == pytest.approx(0.8, abs=0.03) and found.output_tokens == pytest.approx(200, rel=0.1)
    assert found.recall.k == true.recall.k and found.recall.search_s == pytest.approx(3.0, abs=0.4)
    for n in sizes:
        stats = HistoryStats(n, 12 * n, 1_200 * n)
        for strategy in ("full", "rag"):
            told, took = found.usage(strategy, stats), point(n, strategy)
            assert told.usd == pytest.approx(took.usd, rel=0.1)
            assert told.seconds == pytest.approx(took.seconds, rel=0.15)


def test_full_context_is_foretold_within_a_factor() -> None:
    profile = fitted(REFERENCE)
    full = [c for c in released() if (c.reader, c.strategy) == (REFERENCE, "full")]
    ratios = [profile.usage("full", stats_of(p, p.tokens)).usd / p.usd for c in full for p in c.points if p.tokens]
    assert 0.75 < float(np.median(ratios)) < 1.33


def test_nothing_to_fit_is_refused() -> None:
    with pytest.raises(InvalidInput, match="leave out less"):
        fitted(REFERENCE, leave_out={curve.category for curve in released()})
    with pytest.raises(InvalidInput, match="no released price"):
        fitted("nobody")
