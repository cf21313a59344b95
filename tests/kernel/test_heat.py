"""Heat and the ledger of uses: lazy decay equals a sum over all uses; events change what a policy is told."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamina.errors import Conflict, InvalidInput, NotFound
from lamina.kernel.tiering.decisions import CubeStats, Reason, Tier
from lamina.kernel.tiering.heat import LN2, Heat
from lamina.kernel.tiering.usage import UsageLedger

uses = st.lists(st.tuples(st.integers(0, 10**15), st.floats(0, 10)), max_size=20)


@given(uses, st.integers(0, 10**15), st.integers(1, 10**14))
def test_lazy_decay_equals_the_sum_over_all_uses(uses: list[tuple[int, float]], later: int, half_life: int) -> None:
    heat, events = Heat(half_life), sorted(uses)
    for now, weight in events:
        heat = heat.touched(now, weight)
    now = (events[-1][0] if events else 0) + later
    expected = math.fsum(weight * 2.0 ** (-(now - at) / half_life) for at, weight in events)
    assert heat.at(now) == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_steady_use_settles_at_the_rate_times_the_window() -> None:
    heat = Heat(1000)
    for now in range(0, 100_000, 4):
        heat = heat.touched(now)
    assert heat.at(now) * LN2 / 1000 == pytest.approx(1 / 4, rel=0.01)


def test_reading_does_not_change_it_and_a_clock_that_went_back_does_not_heat() -> None:
    heat = Heat(10).touched(100)
    assert [heat.at(110), heat.at(120), heat.at(110)] == [0.5, 0.25, 0.5]
    assert heat.at(50) == 1.0
    assert heat.touched(50).since == 100


@pytest.mark.parametrize("half_life", [0, -1])
def test_a_half_life_that_is_no_time_is_refused(half_life: int) -> None:
    with pytest.raises(InvalidInput, match="half_life"):
        Heat(half_life)


@pytest.mark.parametrize("weight", [-1.0, math.inf, math.nan])
def test_a_use_that_counts_nothing_finite_is_refused(weight: float) -> None:
    with pytest.raises(InvalidInput, match="weight"):
        Heat(10).touched(0, weight)


def _ledger(*ids: str) -> UsageLedger:
    ledger = UsageLedger(20)
    for id in ids:
        ledger.add(CubeStats(id=id, bundle="b", tokens=30, nbytes=300, heat=ledger.heat()))
    return ledger


def test_calls_count_uses_sessions_and_what_was_found_but_left_out() -> None:
    ledger = _ledger("a", "b")
    for now, session in enumerate(["s", "s", "t"]):
        ledger.called(now, "b", ["a"], retrieved=["b"], session=session)
    a, b = ledger["a"], ledger["b"]
    assert (a.uses, a.uses_this_version, a.sessions, a.last) == (3, 3, 2, 2)
    assert b.uses == 0 and b.heat.at(2) == pytest.approx(0.25 * a.heat.at(2))
    assert ledger.stats(2).calls["b"].at(2) == a.heat.at(2)


def test_a_new_version_makes_the_cached_form_stale_and_keeps_the_heat() -> None:
    ledger = _ledger("a")
    ledger.called(0, "b", ["a"])
    ledger.moved(0, "a", Tier.ACTIVATION, 0)
    ledger.revised(1, "a", 40, 400)
    a = ledger["a"]
    assert (a.invalid, a.version, a.version_since, a.uses_this_version) == (Reason.STALE_PARENT, 2, 1, 0)
    assert a.heat.at(0) == 1.0
    ledger.moved(1, "a", Tier.TEXT)
    assert ledger["a"].invalid is None


def test_text_cannot_be_stale() -> None:
    ledger = _ledger("a")
    ledger.revised(1, "a", 40, 400)
    ledger.invalidated("a", Reason.MODEL)
    assert ledger["a"].invalid is None


@pytest.mark.parametrize("cached", [True, False])
def test_nothing_of_a_forgotten_memory_stays(cached: bool) -> None:
    ledger = _ledger("a")
    ledger.called(0, "b", ["a"])
    if cached:
        ledger.moved(0, "a", Tier.ACTIVATION, 0)
    ledger.invalidated("a", Reason.FORGET)
    if cached:
        assert [cube.invalid for cube in ledger.stats(0).cubes] == [Reason.FORGET]
        ledger.moved(0, "a", Tier.TEXT)
    assert "a" not in ledger and not ledger.stats(0).cubes and not ledger.stats(0).last_call
    with pytest.raises(NotFound, match="'a'"):
        ledger["a"]


def test_policies_are_told_of_what_is_warm_cached_pinned_or_predicted_only() -> None:
    ledger = _ledger("warm", "cached", "pinned", "predicted", "idle")
    ledger.called(0, "b", ["warm"])
    ledger.moved(0, "cached", Tier.ACTIVATION, 0)
    ledger.pinned("pinned")
    ledger.predicted({"predicted": 0.5, "unknown": 0.9})
    assert {cube.id for cube in ledger.stats(0).cubes} == {"warm", "cached", "pinned", "predicted"}
    assert ledger.stats(0).forecast == {"predicted": 0.5}
    ledger.predicted(None)
    ledger.pinned("pinned", False)
    assert {cube.id for cube in ledger.stats(1000).cubes} == {"cached"}
    ledger.called(1000, "b", ["idle"])
    assert {cube.id for cube in ledger.stats(1000).cubes} == {"cached", "idle"}


def test_an_id_is_added_once() -> None:
    with pytest.raises(Conflict, match="revised"):
        _ledger("a", "a")
