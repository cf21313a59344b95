"""The simulation counts what it says; the bounds bound, by brute force; the scheduler beats simple policies."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lamina.bench.experiments.tiers import tier_optimum, tier_traces
from lamina.bench.experiments.tiers.tier_baselines import FixedSet, LFUPolicy, LRUPolicy, MemosPolicy, NeverPromote
from lamina.bench.experiments.tiers.tier_simulation import BYTES_PER_TOKEN, budget_for, run
from lamina.bench.experiments.tiers.tier_traces import Step, Trace, recorded
from lamina.errors import InvalidInput
from lamina.kernel.scheduling import HeatPolicy
from lamina.kernel.tiering.decisions import Budgets, Costs, Decision, Policy, Reason, Stats, Tier, decision
from lamina.kernel.tiering.preload import CoUsePredictor

COSTS = Costs(prefill=1.0, attend=0.01, generated=10)
HEAT = HeatPolicy.measured(COSTS, min_resident=0)


class Scripted:
    """Caches just what it is told for each call."""

    def __init__(self, script: list[set[str]]) -> None:
        self.script = script

    def decide(self, stats: Stats, budgets: Budgets, now: int) -> list[Decision]:
        wanted = self.script[now] if now < len(self.script) else set[str]()
        cached = {cube.id: cube for cube in stats.cubes if cube.tier is Tier.ACTIVATION}
        cubes = {cube.id: cube for cube in stats.cubes if cube.usable}
        out = [one for one in cached.values() if one.id not in wanted or one.invalid]
        put = [cubes[id] for id in sorted(wanted & cubes.keys()) if id not in cached or cached[id].invalid]
        return [decision(one, Tier.TEXT, Reason.COLD, now) for one in out] + [
            decision(one, Tier.ACTIVATION, Reason.PIN, now) for one in put
        ]


def test_every_token_is_counted_once_and_a_cut_prefills_what_stands_behind() -> None:
    steps = (Step(("a", "b", "c")), Step(("a",)), Step(("c",), updated=("c",)), Step(("c",)))
    trace = recorded("tiny", [step.used for step in steps], {"a": 10, "b": 20, "c": 40})
    outcome = run(trace, Scripted([{"a", "b", "c"}, {"b", "c"}, {"b", "c"}]), COSTS, 70 * BYTES_PER_TOKEN)
    assert outcome.prefilled == 70 and outcome.saved == 10 + 40 + 40
    assert outcome.built == 70 + 60  # a stood first
    assert outcome.attended == 70 + 70 + 60 + 60
    assert outcome.seconds == pytest.approx(outcome.prefilled + outcome.built + 0.1 * outcome.attended)
    assert outcome.peak_bytes == 70 * BYTES_PER_TOKEN
    alone = run(trace, Scripted([{"a", "b", "c"}, {"b", "c"}, {"b", "c"}]), Costs(1.0, 0.01, 10, bundled=False), 10**9)
    assert alone.built == 70
    stale = run(Trace("tiny", trace.tokens, steps), FixedSet(frozenset("c")), COSTS, 10**9)
    assert stale.stale_serves == 0 and stale.built == 80


def test_a_policy_that_ignores_updates_is_caught_serving_stale() -> None:
    steps = (Step(("a",), updated=("a",)),) * 10
    outcome = run(Trace("updates", {"a": 30}, steps), MemosPolicy(interval=5), COSTS, 10**9)
    assert outcome.stale_serves == 7  # calls 2 to 5 and 7 to 9: a refresh holds for one call


tiny = st.tuples(
    st.lists(  # calls: who is used, who changes (0-2) or is forgotten (3-5), if any
        st.tuples(st.sets(st.integers(0, 2)), st.sampled_from([None, None, 0, 1, 2, 3, 4])), min_size=2, max_size=4
    ),
    st.lists(st.integers(1, 6), min_size=3, max_size=3),
    st.integers(2, 14),
    st.sampled_from([0.0, 0.005, 0.05]),
)
Tiny = tuple[list[tuple[set[int], int | None]], list[int], int, float]


def _tiny(case: Tiny) -> tuple[Trace, int, Costs]:
    calls, sizes, room, attend = case
    tokens = dict(zip("abc", sizes, strict=True))
    dead, steps = set[int](), list[Step]()
    for used, change in calls:
        updated = ("abc"[change],) if change is not None and change < 3 and change not in dead else ()
        alive = tuple("abc"[i] for i in sorted(used - dead))
        gone = ("abc"[change - 3],) if change is not None and change >= 3 and change - 3 not in dead else ()
        dead |= {change - 3} if gone and change is not None else set()
        steps.append(Step(alive, updated, gone))
    return Trace("tiny", tokens, tuple(steps)), room * BYTES_PER_TOKEN, Costs(1.0, attend, 10)


def _brute_force(trace: Trace, budget: int, costs: Costs) -> float:
    """The least cost over all residencies within budget, cubes independent: an enumeration, nothing shared."""
    sets = [
        set(chosen)
        for size in range(4)
        for chosen in itertools.combinations(trace.tokens, size)
        if BYTES_PER_TOKEN * sum(trace.tokens[id] for id in chosen) <= budget
    ]
    best = np.inf
    for plan in itertools.product(sets, repeat=len(trace.steps)):
        cost, before, dead = 0.0, set[str](), set[str]()
        for step, now in zip(trace.steps, plan, strict=True):
            if now & dead:
                cost = np.inf
            cost += sum(trace.tokens[id] for id in now - before) * costs.prefill
            read = sum(trace.tokens[id] for id in set(step.used) - now)
            cost += read * costs.prefill + (read + sum(trace.tokens[id] for id in now)) * costs.resident
            dead |= set(step.forgotten)
            before = now - set(step.updated) - dead
        best = min(best, cost)
    return float(best)


@settings(max_examples=40, deadline=None)
@given(tiny)
def test_the_lower_bound_bounds_the_brute_force_optimum_and_equals_it_when_all_fits(case: Tiny) -> None:
    trace, budget, costs = _tiny(case)
    optimum = _brute_force(trace, budget, costs)
    assert tier_optimum.lower_bound(trace, costs, budget) <= optimum + 1e-9
    room = 100 * BYTES_PER_TOKEN
    free = _brute_force(trace, room, costs)
    assert tier_optimum.lower_bound(trace, costs, room) == pytest.approx(free)


@settings(max_examples=60, deadline=None)
@given(tiny, st.lists(st.sets(st.sampled_from("abc")), max_size=4))
def test_no_residency_a_policy_can_choose_costs_less_than_the_bound(case: Tiny, script: list[set[str]]) -> None:
    trace, budget, costs = _tiny(case)
    outcome = run(trace, Scripted(script), costs, budget)
    if outcome.peak_bytes <= budget:
        assert outcome.seconds >= tier_optimum.lower_bound(trace, costs, budget) - 1e-9


def test_the_bound_that_knows_the_law_alone_lies_above_the_one_that_knows_every_call() -> None:
    trace = tier_traces.zipf(100, 300)
    budget = budget_for(trace)
    known = tier_optimum.lower_bound(trace, COSTS, budget)
    assert known < tier_optimum.lower_bound(trace, COSTS, budget, foresight="law")
    with pytest.raises(InvalidInput, match="no law"):
        tier_optimum.lower_bound(recorded("r", [["a"]], {"a": 30}), COSTS, budget, foresight="law")


def test_a_binding_budget_raises_the_bound() -> None:
    trace, free = tier_traces.zipf(100, 200), Costs(attend=0.0)
    assert tier_optimum.lower_bound(trace, free, budget_for(trace, 0.05)) > 1.2 * tier_optimum.lower_bound(
        trace, free, budget_for(trace)
    )


def test_the_law_is_the_frequency_of_use() -> None:
    trace = tier_traces.zipf(100, 600, shift=False)
    assert trace.law is not None
    ids = list(trace.tokens)
    used = np.zeros(len(ids))
    for step in trace.steps:
        used[[ids.index(id) for id in step.used]] += 1
    expected = trace.law.sum(0)
    assert trace.law.sum(1) == pytest.approx(np.full(600, tier_traces.PER_CALL))
    assert np.abs(used - expected).max() < 5 * np.sqrt(expected.max())
    assert np.corrcoef(used, expected)[0, 1] > 0.99


@pytest.mark.parametrize("name", sorted(tier_traces.TRACES))
def test_traces_repeat_by_seed_and_use_only_what_lives(name: str) -> None:
    trace = tier_traces.TRACES[name](100, 200)
    assert trace == tier_traces.TRACES[name](100, 200) != tier_traces.TRACES[name](101, 200)
    dead = set[str]()
    for step in trace.steps:
        assert len(set(step.used)) == tier_traces.PER_CALL and not dead & {*step.used, *step.updated, *step.forgotten}
        dead |= set(step.forgotten)
    assert all(20 <= tokens <= 60 for tokens in trace.tokens.values())


@pytest.mark.parametrize("name", ["zipf", "drifting"])
def test_the_scheduler_beats_simple_policies_within_budget_and_never_serves_stale(name: str) -> None:
    trace, costs = tier_traces.TRACES[name](100, 500), Costs()
    budget = budget_for(trace)
    others: list[Policy] = [NeverPromote(), LRUPolicy(), LFUPolicy(), MemosPolicy(interval=10)]
    ours = run(trace, HeatPolicy.measured(costs, min_resident=0), costs, budget)
    never, lru, lfu, memos = (run(trace, one, costs, budget) for one in others)
    assert ours.stale_serves == 0 and 0 < ours.peak_bytes <= budget
    assert 1.3 * ours.seconds < lru.seconds
    assert ours.seconds < min(never.seconds, lfu.seconds, memos.seconds)
    again = run(trace, HeatPolicy.measured(costs, min_resident=0), costs, budget)
    assert [one.line() for one in again.decisions] == [one.line() for one in ours.decisions]


def test_preloading_what_the_topic_makes_likely_saves_where_sessions_have_topics() -> None:
    trace, costs = tier_traces.topical(100, 700), Costs()
    policy, budget = HeatPolicy.measured(costs, min_resident=0), budget_for(trace)
    preloaded = run(trace, policy, costs, budget, CoUsePredictor(300, memory=1))
    assert preloaded.seconds < run(trace, policy, costs, budget).seconds and preloaded.stale_serves == 0


def test_the_best_fixed_set_is_within_budget_and_better_than_none() -> None:
    trace, costs = tier_traces.zipf(100, 300, shift=False), Costs()
    budget = budget_for(trace)
    fixed = tier_optimum.best_fixed(trace, costs, budget)
    saving = tier_optimum.best_fixed(trace, costs, budget, by="saved_net")
    assert fixed.seconds < run(trace, NeverPromote(), costs, budget).seconds
    assert saving.saved_net >= fixed.saved_net and fixed.peak_bytes <= budget >= saving.peak_bytes
