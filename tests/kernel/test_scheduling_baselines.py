"""The policies that HeatPolicy is measured against do what their names say, and preload learns what goes together."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamina.bench.experiments.tiers.tier_baselines import FixedSet, LFUPolicy, LRUPolicy, MemosPolicy, NeverPromote
from lamina.errors import InvalidInput
from lamina.kernel.tiering.decisions import Budgets, CubeStats, Decision, Policy, Reason, Tier
from lamina.kernel.tiering.preload import CoUsePredictor
from lamina.kernel.tiering.usage import UsageLedger

calls_of = st.lists(st.lists(st.sampled_from("abcdef"), min_size=1, max_size=3, unique=True), max_size=30)


class Cache:
    """A ledger of memories of 10 bytes each, under one policy."""

    def __init__(self, policy: Policy, slots: int, ids: str = "abcdef") -> None:
        self.policy, self.budgets, self.now = policy, Budgets(10 * slots), 0
        self.ledger = UsageLedger(20)
        for id in ids:
            self.ledger.add(CubeStats(id=id, bundle="b", tokens=20, nbytes=10, heat=self.ledger.heat()))

    def use(self, *ids: str) -> list[Decision]:
        self.ledger.called(self.now, "b", ids)
        return self.tick()

    def tick(self) -> list[Decision]:
        decisions = self.policy.decide(self.ledger.stats(self.now), self.budgets, self.now)
        for one in decisions:
            self.ledger.moved(self.now, one.cube, one.target)
            assert len(self.cached()) * 10 <= self.budgets.activation_bytes
        self.now += 1
        return decisions

    def cached(self) -> set[str]:
        return {id for id, one in self.ledger.cubes.items() if one.tier is Tier.ACTIVATION}


@given(calls_of, st.integers(1, 5))
def test_lru_holds_the_most_recently_used(calls: list[list[str]], slots: int) -> None:
    cache, last = Cache(LRUPolicy(), slots), dict[str, int]()
    for now, used in enumerate(calls):
        cache.use(*used)
        last |= dict.fromkeys(used, now)
        cached = cache.cached()
        assert len(cached) == min(slots, len(last))
        assert min(last[id] for id in cached) >= max((last[id] for id in last if id not in cached), default=0)
        assert set(used[:slots]) <= cached  # of one call, the best


@given(calls_of, st.integers(1, 5))
def test_lfu_never_gives_up_what_was_used_more_for_what_was_used_less(calls: list[list[str]], slots: int) -> None:
    cache = Cache(LFUPolicy(), slots)
    for used in calls:
        decisions = cache.use(*used)
        gone = [cache.ledger[one.cube].uses for one in decisions if one.target is Tier.TEXT]
        come = [cache.ledger[one.cube].uses for one in decisions if one.target is Tier.ACTIVATION]
        assert not gone or max(gone) < max(come)
        assert len(cache.cached()) == min(slots, len({id for one in calls[: cache.now] for id in one}))


@pytest.mark.parametrize("policy", [LRUPolicy(), LFUPolicy(), FixedSet(frozenset("ab")), NeverPromote()])
def test_all_but_the_published_one_drop_what_is_stale(policy: Policy) -> None:
    cache = Cache(policy, 3)
    cache.ledger.moved(0, "a", Tier.ACTIVATION, 0)
    cache.ledger.revised(0, "a", 20, 10)
    [left, *_] = cache.use("b")
    assert (left.cube, left.reason) == ("a", Reason.STALE_PARENT)


def test_a_fixed_set_is_what_it_was_told_to_be() -> None:
    cache = Cache(FixedSet(frozenset("ac")), 3)
    for id in "abcdef":
        cache.use(id)
    assert cache.cached() == set("ac")
    cache.ledger.revised(cache.now, "a", 20, 10)
    cache.tick()
    cache.tick()
    assert cache.cached() == set("ac") and cache.ledger["a"].invalid is None


def test_memos_refreshes_whole_at_its_interval_with_the_latest_first() -> None:
    cache = Cache(MemosPolicy(interval=5, capacity=3), 6)
    assert {one.cube for one in cache.use("a", "b")} == {"a", "b"}
    for used in ("c", "d", "e", "f"):
        assert cache.use(used) == []
    decisions = cache.use("f")
    assert [one.cube for one in decisions if one.target is Tier.TEXT] == ["a", "b"]
    assert cache.cached() == set("fed")  # 0.9 a place: the latest, then what was used before


def test_memos_leaves_a_cache_of_the_same_composition_alone_and_serves_stale_until_then() -> None:
    cache = Cache(MemosPolicy(interval=2, capacity=3), 6)
    cache.use("a", "b")
    assert cache.use("b", "a") == [] and cache.use("a", "b") == []
    cache.ledger.revised(cache.now, "a", 20, 10)
    assert cache.use("a") == [] and cache.ledger["a"].invalid is Reason.STALE_PARENT
    cache.use("a")
    assert cache.ledger["a"].invalid is None and cache.cached() == set("ab")


def test_memos_retains_two_of_what_was_not_seen() -> None:
    policy = MemosPolicy(interval=1, capacity=2, retained=2)
    cache = Cache(policy, 6)
    for used in ("ab", "cd", "ef"):
        cache.use(*used)
    assert set(policy._seen) == set("efcd") and cache.cached() == set("ef")


def test_preload_learns_what_follows_a_topic_and_unlearns_it() -> None:
    predictor = CoUsePredictor(50)
    for now in range(60):  # ten calls on the one, ten on the other
        topic, used = ("tea", ["a", "b"]) if now // 10 % 2 == 0 else ("coffee", ["c"])
        predictor.observe(now, used, [topic])
    predictor.observe(60, [], ["tea"])
    forecast = predictor.predict(60)
    assert forecast["a"] == forecast["b"] > 0.5 > forecast.get("c", 0.0)
    for now in range(1000, 1040):
        predictor.observe(now, ["d"], ["tea"])
    assert predictor.predict(1040)["d"] > 0.9 and "a" not in predictor.predict(1040)


def test_a_cue_seen_once_is_not_certain_and_forgetting_leaves_nothing() -> None:
    predictor = CoUsePredictor(50)
    predictor.observe(0, ["a"], ["tea"])
    assert predictor.predict(0) == {"a": 0.5}
    predictor.observe(1, ["b"], ["tea"])
    predictor.forget("a")
    assert "a" not in predictor.predict(1)
    assert "a" not in repr(vars(predictor)).replace("lamina", "").replace("Heat(half_life", "").split("'")[1::2]


def test_preload_needs_a_call_to_take_cues_from() -> None:
    with pytest.raises(InvalidInput, match="memory=0"):
        CoUsePredictor(50, memory=0)


def test_what_is_known_of_a_conversation_of_years_is_bounded() -> None:
    predictor = CoUsePredictor(500)
    for now in range(6000):
        predictor.observe(now, ["daily"] if now % 2 else ["tea", f"new {now}"])
    assert len(predictor._after) <= 2048 and len(predictor._calls) <= 2048
    assert max(map(len, predictor._after.values())) <= 256
    assert predictor.predict(6000)["tea"] > 0.9, "the warmest stay"
