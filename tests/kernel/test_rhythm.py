"""The clock: nesting, budgets that conserve work, leftovers, backpressure, errors, and what its baselines take away."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamina.bench.experiments.rhythms.rhythm_baselines import EagerPolicy, PeriodicPolicy, UnslicedEager, UnsyncedPolicy
from lamina.errors import InvalidInput
from lamina.kernel.rhythm import NestedRhythm, Tick


class Recorder:
    """Actions that work one unit an event and write down what they were asked and did."""

    def __init__(self, units: int = 1) -> None:
        self.ticks: list[Tick] = []
        self.done: list[tuple[int, int]] = []  # (level, event)
        self.units = units

    def action(self, tick: Tick) -> Iterator[int]:
        self.ticks.append(tick)
        for event in range(tick.since + tick.done // self.units + 1, tick.input + 1):
            self.done.append((tick.level, event))
            yield self.units

    def register(self, clock: NestedRhythm, factor: float = 4.0) -> NestedRhythm:
        for level, period in enumerate(clock.periods):
            clock.register(level, self.action, factor * period)
        return clock


class Saves:
    """A journal in memory, JSON and all, that can fail."""

    def __init__(self) -> None:
        self.states: list[str] = []

    def transaction(self) -> AbstractContextManager[Any]:
        return nullcontext()

    def save(self, state: Mapping[str, Any]) -> None:
        self.states.append(json.dumps(state, allow_nan=False))


@given(base=st.integers(1, 9), ratio=st.integers(2, 5), n=st.integers(1, 5000))
def test_due_levels_are_a_prefix_and_divide_the_event(base: int, ratio: int, n: int) -> None:
    clock = Recorder().register(NestedRhythm(base, ratio))
    due = clock.due(n)
    assert due == tuple(range(len(due)))
    assert due == tuple(level for level in range(4) if n % (base * ratio**level) == 0)


def test_every_event_is_consumed_once_by_every_level_and_without_lag() -> None:
    seen = Recorder()
    clock = seen.register(NestedRhythm())
    for n in range(1024):
        clock.observe(n)
    for level in range(4):
        assert [event for at, event in seen.done if at == level] == list(range(1, 1025))
    assert [row["mean_lag"] for row in clock.status()] == [0, 0, 0, 0]
    assert [row["ticks"] for row in clock.status()] == [128, 32, 8, 2]
    sequences = [tick.sequence for tick in seen.ticks if tick.level == 0]
    assert [item for sequence in sequences for item in sequence] == list(range(1024))
    assert {len(sequence) for sequence in sequences} == {8}


def test_lower_levels_go_first_at_a_common_trough() -> None:
    seen = Recorder()
    clock = seen.register(NestedRhythm())
    for n in range(512):
        clock.observe(n)
    assert [tick.level for tick in seen.ticks if tick.n == 512] == [0, 1, 2, 3]
    assert all(tick.due == (0, 1, 2, 3) for tick in seen.ticks if tick.n == 512)


@pytest.mark.parametrize("coupling", [0.0, 0.5, 0.9])
def test_coupling_conserves_the_mean_work_over_one_slow_period(coupling: float) -> None:
    clock = Recorder().register(NestedRhythm(coupling=coupling), 1.0)
    grants: dict[int, list[float]] = {0: [], 1: [], 2: []}
    for n in range(1, 513):
        clock.n = n
        for level in clock.due(n):
            if level < 3:
                grants[level].append(clock.grant(level))
    for level, granted in grants.items():
        assert sum(granted) / len(granted) == pytest.approx(clock.periods[level], rel=1e-12)
        assert max(granted) == granted[-1] == pytest.approx((1 + coupling) * clock.periods[level])


def test_a_budget_just_enough_leaves_nothing_at_the_slow_trough() -> None:
    """The heaviest grant falls on the slow trough: what a weak phase left over is done before level 2 reads."""
    seen = Recorder()
    clock = seen.register(NestedRhythm(), 1.0)
    backlog = []
    for n in range(1, 129):
        clock.observe(n)
        if n % 32 == 0:
            backlog.append(n - clock.watermark(1))
    assert backlog[-1] == 0 < max(backlog)
    assert clock.status()[2]["mean_lag"] == 0


def test_the_cap_spreads_a_cascade_and_a_ripple_does_it_early() -> None:
    calm, rippled = Recorder(), Recorder()
    slow = calm.register(NestedRhythm(cap=40))
    quick = rippled.register(NestedRhythm(cap=40))
    for n in range(544):
        slow.observe(n)
        quick.observe(n)
        if n == 511:
            assert slow.watermark(3) == 0
            assert quick.idle(10.0) == 0
            assert quick.idle(500.0) > 0
            assert quick.watermark(3) == 384  # as far as level 2 had come when level 3 fell due
    for n in range(544, 1024):
        slow.observe(n)
        quick.observe(n)
    assert slow.watermark(3) == quick.watermark(3)
    for level in range(4):  # the same work in the same order, whenever it was done
        assert [e for at, e in calm.done if at == level] == [e for at, e in rippled.done if at == level]


def test_between_runs_between_slices() -> None:
    served = []
    clock = NestedRhythm(levels=1, between=lambda: served.append(clock.n))
    Recorder().register(clock)
    for n in range(8):
        clock.observe(n)
    assert served == [8] * 8


def test_backpressure_forces_a_starved_level() -> None:
    seen = Recorder()
    clock = NestedRhythm()
    clock.register(0, seen.action, 8)
    clock.register(1, seen.action, 10)  # of 32 units that come in
    for n in range(1, 1025):
        clock.observe(n)
    assert clock.status()[1]["forced"] > 0
    assert clock.status()[1]["backlog"] < 1024 - 1024 * 10 // 32


@given(seed=st.integers(0, 10_000), cap=st.sampled_from([12.0, 40.0, math.inf]), factor=st.sampled_from([1.0, 1.5]))
def test_a_clock_restored_at_any_trough_goes_on_as_if_nothing_happened(seed: int, cap: float, factor: float) -> None:
    rng = random.Random(seed)
    calm = Recorder()
    straight = calm.register(NestedRhythm(levels=3, cap=cap), factor)
    for n in range(300):
        straight.observe(n)
    seen, saves = Recorder(), Saves()
    clock = seen.register(NestedRhythm(levels=3, cap=cap, journal=saves), factor)
    deaths = set(rng.sample(range(300), 5))
    while clock.n < 300:
        clock.observe(clock.n, clock.n + 1)
        if clock.n - 1 in deaths:
            deaths.discard(clock.n - 1)
            clock = seen.register(NestedRhythm(levels=3, cap=cap, journal=saves), factor)
            if saves.states:
                clock.load_state_dict(json.loads(saves.states[-1]))
    assert seen.done == calm.done
    assert clock.state_dict() == straight.state_dict()


def test_an_error_leaves_the_clock_where_it_was() -> None:
    fail = True

    def action(tick: Tick) -> Iterator[int]:
        yield len(tick.sequence)
        if fail:
            raise OSError("disk full")

    clock = NestedRhythm(levels=1)
    clock.register(0, action, 8)
    for n in range(7):
        clock.observe(n)
    before = clock.state_dict()
    with pytest.raises(OSError, match="disk full"):
        clock.observe(7)
    assert clock.state_dict() == before
    fail = False
    (tick,) = clock.observe(7)
    assert tick.sequence == tuple(range(8))


def test_an_action_that_does_not_yield_is_disabled_after_three_times(caplog: pytest.LogCaptureFixture) -> None:
    now = 0.0

    def slow(tick: Tick) -> Iterator[int]:
        nonlocal now
        now += 0.051 * (tick.n <= 128)
        yield 1

    clock = NestedRhythm(levels=2, clock=lambda: now)
    clock.register(0, Recorder().action, 8)
    clock.register(1, slow, 32)
    for n in range(256):
        clock.observe(n)
    assert clock.status()[1]["disabled"] and not clock.status()[0]["disabled"]
    assert clock.status()[1]["ticks"] == 3
    assert caplog.text.count("a slice took 51 ms") == 3


def test_drain_consumes_everything_whatever_the_budget() -> None:
    seen, saves = Recorder(), Saves()
    clock = seen.register(NestedRhythm(journal=saves), 0.1)
    for n in range(100):
        clock.observe(n)
    clock.drain()
    assert [clock.watermark(level) for level in range(4)] == [100] * 4
    assert sorted(seen.done) == sorted((level, event) for level in range(4) for event in range(1, 101))
    assert json.loads(saves.states[-1])["levels"][3]["watermark"] == 100


def test_the_trace_has_a_line_for_every_tick_and_its_work() -> None:
    lines: list[Mapping[str, Any]] = []
    clock = Recorder().register(NestedRhythm(trace=lines.append))
    for n in range(128):
        clock.observe(n)
    assert sum(line["work"] for line in lines if line["level"] == 1) == 128
    assert {"n", "level", "work", "ms", "open"} == set(json.loads(json.dumps(lines[0])))


@pytest.mark.parametrize(
    ("settings", "name"),
    [({"ratio": 1}, "ratio"), ({"base": 0}, "base"), ({"levels": True}, "levels"), ({"coupling": 1.0}, "coupling")],
)
def test_wrong_settings_are_named(settings: dict[str, Any], name: str) -> None:
    with pytest.raises(InvalidInput, match=f"{name}="):
        NestedRhythm(**settings)


def test_wrong_calls_say_what_to_do() -> None:
    seen = Recorder()
    clock = NestedRhythm()
    with pytest.raises(InvalidInput, match="in order"):
        clock.register(1, seen.action, 1)
    with pytest.raises(InvalidInput, match="budget="):
        clock.register(0, seen.action, 0)
    clock.register(0, seen.action, 8, ("turn",))
    with pytest.raises(InvalidInput, match="table 'turn' is written by level 0"):
        clock.register(1, seen.action, 8, ("turn",))
    clock.observe("a", 1)
    for n in (1, 3):
        with pytest.raises(InvalidInput, match="event 2 comes next"):
            clock.observe("b", n)
    other = seen.register(NestedRhythm(base=4))
    with pytest.raises(InvalidInput, match="periods"):
        clock.load_state_dict(other.state_dict())
    with pytest.raises(InvalidInput, match="period="):
        PeriodicPolicy(0)


def test_random_phases_lag_as_their_periods_predict() -> None:
    lags = []
    for seed in range(60):
        clock = Recorder().register(UnsyncedPolicy(seed=seed, levels=3))
        for n in range(1024):
            clock.observe(n)
        lags.append(clock.status()[2]["mean_lag"])
        assert max(clock.offsets) < 128
    assert sum(lags) / 60 == pytest.approx((8 + 32 - 2) / 2, rel=0.25)


def test_baselines_are_granted_the_same_work() -> None:
    for policy in (PeriodicPolicy(32), PeriodicPolicy(5), EagerPolicy()):
        clock = Recorder().register(policy, 1.0)
        granted = sum(clock.grant(level) for n in range(1, 2561) for level in clock.due(n))
        assert granted == pytest.approx(4 * 2560)


def test_eager_serves_reads_after_the_event_only() -> None:
    served = []
    seen = Recorder()
    clock = seen.register(UnslicedEager(between=lambda: served.append(len(seen.done))))
    for n in range(3):
        clock.observe(n)
    assert served == [4, 8, 12]
    assert clock.watermark(3) == 3
