"""Claims and measurements: what a ratio means, when a claim holds, what never holds."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from toy_cards import FASTER, SMALLER, failing, forgetful, good

from lamina.bench.card import Claim
from lamina.errors import InvalidInput

KEYS = ["claim", "metric", "ours", "baseline", "baseline_name", "unit", "ratio", "target", "holds"]
positive = st.floats(1e-3, 1e3)


@given(ours=positive, baseline=positive, target=positive)
def test_a_ratio_above_one_is_always_a_win(ours: float, baseline: float, target: float) -> None:
    more = Claim("c", "m", "u", target, "more").measured(ours, baseline)
    less = Claim("c", "m", "u", target, "less").measured(baseline, ours)
    assert more.ratio == less.ratio == pytest.approx(ours / baseline)
    if not math.isclose(ours / baseline, target, rel_tol=1e-9):
        assert more.holds is less.holds is (ours / baseline >= target)


@pytest.mark.parametrize(
    ("better", "ours", "holds"),
    [("more", 9.9, False), ("more", 10.0, True), ("less", 10.0, True), ("less", 10.1, False)],
)
def test_a_bound_on_our_own_value_needs_no_baseline(better: str, ours: float, holds: bool) -> None:
    measured = Claim("c", "m", "ms", 10.0, better, "ours").measured(ours)  # type: ignore[arg-type]
    assert measured.holds is holds
    assert measured.ratio is None


@pytest.mark.parametrize(
    ("ours", "baseline"),
    [(None, 1.0), (math.nan, 1.0), (math.inf, 1.0), (1.0, None), (1.0, math.nan), (None, None)],
)
def test_what_was_not_measured_does_not_hold(ours: float | None, baseline: float | None) -> None:
    measured = FASTER.measured(ours, baseline)
    assert not measured.holds
    assert measured.ratio is None
    assert {measured.to_dict()["ours"], measured.to_dict()["baseline"]} <= {None, 1.0}


def test_zero_is_a_number_like_any_other() -> None:
    assert Claim("no errors", "errors", "", 2.0, "less").measured(0.0, 5.0).holds
    assert not Claim("no errors", "errors", "", 2.0, "less").measured(1.0, 0.0).holds
    assert not FASTER.measured(0.0, 5.0).holds
    assert FASTER.measured(1.0, 0.0).ratio is None


def test_json_is_the_contract() -> None:
    row = FASTER.measured(30.0, 10.0, "fingers").to_dict()
    assert list(row) == KEYS
    assert row == {
        "claim": "Twice as fast as counting on fingers",
        "metric": "sums per second",
        "ours": 30.0,
        "baseline": 10.0,
        "baseline_name": "fingers",
        "unit": "1/s",
        "ratio": 3.0,
        "target": 2.0,
        "holds": True,
    }
    assert FASTER.bound == ">= 2x"
    assert SMALLER.bound == "<= 10 B"


def test_a_card_answers_its_claims_in_their_order() -> None:
    measured = good.measure(0, "smoke")
    assert [m.claim for m in measured] == [FASTER, SMALLER]
    assert all(m.holds for m in measured)
    assert [m.holds for m in failing.measure(0, "smoke")] == [False, True]


def test_a_claim_left_out_counts_as_failed() -> None:
    measured = forgetful.measure(0, "smoke")
    assert [(m.claim, m.ours, m.holds) for m in measured] == [(FASTER, None, False), (SMALLER, 8.0, True)]


def test_a_card_cannot_measure_what_it_does_not_claim() -> None:
    moved = replace(FASTER, target=1.0)  # the same sentence with a lower bar is another claim
    cheat = replace(good, run=lambda seed, scale: [moved.measured(1.0, 1.0)])
    with pytest.raises(InvalidInput, match="does not claim"):
        cheat.measure(0, "smoke")


def test_claims_are_checked_when_written() -> None:
    with pytest.raises(InvalidInput, match="target=nan"):
        Claim("c", "m", "u", math.nan)
    with pytest.raises(InvalidInput, match="only once"):
        replace(good, claims=(FASTER, FASTER))
    with pytest.raises(InvalidInput, match="at least one"):
        replace(good, claims=())
