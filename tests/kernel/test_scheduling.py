"""HeatPolicy: what is promoted, demoted, refused, and why; a state machine that keeps it within its budgets."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from lamina.errors import InvalidInput
from lamina.kernel.scheduling import HeatPolicy
from lamina.kernel.tiering.decisions import DAY, Budgets, Costs, CubeStats, Decision, Reason, Tier
from lamina.kernel.tiering.usage import UsageLedger

SECOND = 10**9
T = DAY
ROOM = Budgets(10**9)


class World:
    """A ledger, a policy, and an executor that does what is decided, keeping bundles in order."""

    def __init__(self, policy: HeatPolicy, budgets: Budgets = ROOM, half_life: int = T) -> None:
        self.policy, self.budgets = policy, budgets
        self.ledger = UsageLedger(half_life)
        self.bundles: dict[str, list[str]] = {}
        self.log: list[Decision] = []

    def add(self, id: str, **more: Any) -> None:
        given: dict[str, Any] = {"bundle": "b", "tokens": 30, "nbytes": 300, "heat": self.ledger.heat()} | more
        self.ledger.add(CubeStats(id=id, **given))

    def tick(self, now: int) -> list[Decision]:
        decisions = self.policy.decide(self.ledger.stats(now), self.budgets, now)
        assert len({one.cube for one in decisions}) == len(decisions)
        for one in decisions:
            members = self.bundles.setdefault(one.bundle, [])
            if one.source is Tier.ACTIVATION:
                members.remove(one.cube)
            if one.target is Tier.ACTIVATION:
                members.append(one.cube)
            self.ledger.moved(now, one.cube, one.target)
            assert self.resident() <= self.budgets.activation_bytes or one.target is not Tier.ACTIVATION
        for members in self.bundles.values():
            for place, id in enumerate(members):
                self.ledger.moved(now, id, Tier.ACTIVATION, place)
        self.log += decisions
        return decisions

    def resident(self) -> int:
        return sum(self.ledger[id].nbytes for members in self.bundles.values() for id in members)

    def use(self, now: int, *ids: str, bundle: str = "b", session: str = "") -> list[Decision]:
        self.ledger.called(now, bundle, ids, session=session)
        return self.tick(now)

    def tier(self, id: str) -> Tier:
        return self.ledger[id].tier


def hot(world: World, *ids: str, start: int = 0, times: int = 3) -> int:
    """Use ``ids`` so often that they are promoted; the time after."""
    for now in range(start, start + times * SECOND, SECOND):
        world.use(now, *ids)
    return start + times * SECOND


@given(st.integers(0, T // 4), st.integers(0, T // 4))
def test_the_third_use_of_a_stable_cube_promotes_once_and_the_second_never(first: int, second: int) -> None:
    world = World(HeatPolicy())
    world.add("a")
    assert world.use(0, "a") == [] and world.use(first, "a") == []
    [promoted] = world.use(first + second, "a")
    assert (promoted.source, promoted.target, promoted.reason) == (Tier.TEXT, Tier.ACTIVATION, Reason.HOT_STABLE)
    assert world.use(first + second + 1, "a") == []


@given(st.lists(st.floats(0.11, 0.29), min_size=1, max_size=12), st.booleans())
def test_a_share_inside_the_band_changes_tier_at_most_once(shares: list[float], cached: bool) -> None:
    world = World(HeatPolicy(min_resident=0))
    world.add("a")
    if cached:
        hot(world, "a")
    before = len(world.log)
    now = SECOND * 10
    for share in shares:  # what the share would be at this tick, whatever led to it
        stats = world.ledger.stats(now)
        calls = replace(world.ledger.heat(), value=20.0, since=now)
        cubes = tuple(replace(one, heat=replace(calls, value=20.0 * share), uses_this_version=9) for one in stats.cubes)
        decisions = world.policy.decide(replace(stats, cubes=cubes, calls={"b": calls}), ROOM, now)
        for one in decisions:
            world.ledger.moved(now, one.cube, one.target, 0)
        world.log += decisions
        now += SECOND
    assert len(world.log) - before <= 1


@pytest.mark.parametrize("reason", [Reason.STALE_PARENT, Reason.ACL, Reason.MODEL, Reason.TTL, Reason.FORGET])
@pytest.mark.parametrize("pinned", [True, False])
def test_what_is_invalid_goes_at_once_pinned_or_not_all_in_one_tick(reason: Reason, pinned: bool) -> None:
    world = World(HeatPolicy())
    ids = [f"m{i}" for i in range(20)]
    for id in ids:
        world.add(id)
    now = hot(world, *ids)
    now = hot(world, *ids, start=now)  # eight a tick
    assert all(world.tier(id) is Tier.ACTIVATION for id in ids)
    for id in ids:
        world.ledger.pinned(id, pinned)
        world.ledger.invalidated(id, reason)
    decisions = world.policy.decide(world.ledger.stats(now), ROOM, now)
    assert {(one.cube, one.target, one.reason) for one in decisions} == {(id, Tier.TEXT, reason) for id in ids}


def test_after_an_update_the_new_version_must_prove_itself_again() -> None:
    world = World(HeatPolicy())
    world.add("a")
    now = hot(world, "a")
    world.ledger.revised(now, "a", 30, 300)
    assert [one.reason for one in world.tick(now)] == [Reason.STALE_PARENT]
    assert world.use(now, "a") == []
    assert [one.version for one in world.use(now, "a")] == [2]


def test_ten_half_lives_without_a_use_are_enough_to_leave() -> None:
    world = World(HeatPolicy())
    world.add("a")
    world.add("b")
    now = hot(world, "a", "b")
    for day in range(1, 11):  # b stays hot behind a: cutting a out never pays by itself
        world.use(now + day * T - SECOND, *["b"] * 1)
    assert world.tier("b") is Tier.ACTIVATION
    world.tick(now + 10 * T)
    assert world.tier("a") is Tier.TEXT


def test_a_cold_member_stays_while_cutting_it_out_costs_more_and_goes_with_the_next_cut() -> None:
    policy = HeatPolicy(min_resident=0)
    world = World(policy)
    world.add("front", tokens=20)
    world.add("back", tokens=500)
    world.add("last", tokens=500)
    now = hot(world, "front")
    now = hot(world, "back", "last", start=now)
    for _ in range(30):
        world.use(now, "back", "last")
        now += SECOND
    assert world.tier("front") is Tier.ACTIVATION  # in 9% of calls, but 1,000 tokens stand behind it
    world.ledger.revised(now, "front", 20, 300)
    world.tick(now)
    assert world.tier("front") is Tier.TEXT
    free = World(HeatPolicy(min_resident=0, costs=Costs(bundled=False)))
    free.add("front", tokens=20)
    free.add("back", tokens=500)
    now = hot(free, "front")
    for _ in range(40):
        free.use(now, "back")
        now += SECOND
    assert free.tier("front") is Tier.TEXT  # nothing stands behind a cache that can be taken out alone


def test_a_cut_that_happens_anyway_takes_what_is_not_worth_a_new_prefill() -> None:
    world = World(HeatPolicy(min_resident=0))
    for id in ("first", "cold", "hot"):
        world.add(id, tokens=500 if id == "hot" else 20)
    now = hot(world, "first")
    now = hot(world, "cold", start=now)
    now = hot(world, "hot", start=now)
    for _ in range(40):
        world.use(now, "first", "hot")
        now += SECOND
    assert world.bundles["b"] == ["first", "cold", "hot"]
    world.ledger.revised(now, "first", 20, 300)
    world.tick(now)
    assert world.bundles["b"] == ["hot"]


def test_what_pays_no_more_but_is_not_cold_waits_for_a_cut_and_is_not_bought_again() -> None:
    world = World(HeatPolicy(min_resident=0, costs=Costs(prefill=1.0, attend=0.03, generated=10)))
    world.add("first")
    world.add("modest")
    now = hot(world, "first", "modest")
    for _ in range(24):  # modest falls to 3 of 27 calls, where 30% break even
        world.use(now, "first")
        now += SECOND
    assert world.bundles["b"] == ["first", "modest"]
    world.ledger.revised(now, "first", 30, 300)
    assert [(one.cube, one.reason) for one in world.tick(now)] == [
        ("first", Reason.STALE_PARENT),
        ("modest", Reason.COLD),
    ]


def test_frozen_memories_are_promotable_and_others_that_may_not_be_used_are_not() -> None:
    world = World(HeatPolicy())
    world.add("short", tokens=15)
    world.add("text only", allowed=("text",))
    world.add("in conflict", usable=False)
    world.add("fine")
    hot(world, "short", "text only", "in conflict", "fine")
    assert [one.cube for one in world.log] == ["fine"]
    remote = World(HeatPolicy(local=False))
    remote.add("fine")
    hot(remote, "fine")
    assert remote.log == []


def test_a_version_must_be_old_enough_to_count_as_settled() -> None:
    world = World(HeatPolicy(min_age=300 * SECOND))
    world.add("a")
    now = hot(world, "a")
    assert world.log == []
    assert [one.cube for one in world.tick(now + 300 * SECOND)] == ["a"]


def test_at_most_eight_a_tick_the_largest_share_first() -> None:
    world = World(HeatPolicy())
    ids = [f"m{i:02d}" for i in range(12)]
    for id in ids:
        world.add(id)
    for now in range(2):
        world.ledger.called(now * SECOND, "b", ids)
    world.ledger.called(2 * SECOND, "b", ids)
    world.ledger.called(3 * SECOND, "b", ids[6:])
    assert [one.cube for one in world.tick(3 * SECOND)] == ids[6:] + ids[:2]
    assert [one.cube for one in world.tick(4 * SECOND)] == ids[2:6]


def test_texts_of_two_users_never_decide_together() -> None:
    """Bundles are apart: what one user does neither heats nor evicts by share what another has."""
    alone, both = World(HeatPolicy()), World(HeatPolicy())
    for world in (alone, both):
        world.add("of a", bundle="a")
    both.add("of b", bundle="b")
    for now in range(0, 50 * SECOND, SECOND):
        alone.use(now, "of a", bundle="a")
        both.use(now, "of a", bundle="a")
        both.use(now, "of b", bundle="b")
    assert [one for one in both.log if one.bundle == "a"] == alone.log
    assert both.bundles == {"a": ["of a"], "b": ["of b"]}


def test_pins_hold_what_is_cold_and_bring_in_what_was_never_used() -> None:
    world = World(HeatPolicy(min_resident=0), Budgets(300))
    world.add("pinned")
    world.add("hot")
    world.ledger.pinned("pinned")
    assert [(one.cube, one.reason) for one in world.tick(0)] == [("pinned", Reason.PIN)]
    hot(world, "hot", times=9)
    assert world.tier("pinned") is Tier.ACTIVATION and world.tier("hot") is Tier.TEXT
    world.ledger.pinned("pinned", False)
    world.use(10 * SECOND, "hot")
    world.use(20 * T, "hot")
    assert world.tier("pinned") is Tier.TEXT


def test_when_the_budget_shrinks_the_least_used_go_and_pinned_ones_last() -> None:
    world = World(HeatPolicy())
    for id in ("often", "seldom", "pinned"):
        world.add(id)
    now = hot(world, "often", "seldom", "pinned")
    now = hot(world, "often", "seldom", start=now)
    now = hot(world, "often", start=now)
    world.ledger.pinned("pinned")
    world.budgets = Budgets(600)
    assert [(one.cube, one.reason) for one in world.tick(now)] == [("seldom", Reason.BUDGET)]
    world.budgets = Budgets(300)
    assert [one.cube for one in world.tick(now)] == ["often"]
    world.budgets = Budgets(0)
    assert [one.cube for one in world.tick(now)] == ["pinned"]


def test_a_bundle_keeps_to_its_part_of_the_context_window() -> None:
    world = World(HeatPolicy(), Budgets(10**9, context_tokens=70))
    for id in "abc":
        world.add(id)
    hot(world, "a", "b", "c", times=6)
    assert sum(world.ledger[id].tokens for id in world.bundles["b"]) == 60


def test_what_no_longer_fits_the_context_says_so() -> None:
    world = World(HeatPolicy(), ROOM)
    for id in "ab":
        world.add(id)
    now = hot(world, "a", "b")
    world.budgets = Budgets(10**9, context_tokens=40)
    [left] = world.tick(now)
    assert (left.target, left.reason) == (Tier.TEXT, Reason.CONTEXT) and "context window" in left.sentence()


def _learnt(count: int, **more: Any) -> World:
    world = World(HeatPolicy())
    ids = [f"m{i}" for i in range(count)]
    for id in ids:
        world.add(id, **more)
    for use in range(25):
        world.use(7 * DAY + use * SECOND, *ids, session=f"s{use % 6}")
    return world


def test_weights_take_groups_of_eight_of_long_proven_memories() -> None:
    world = _learnt(8)
    assert all(world.tier(f"m{i}") is Tier.PARAMETER for i in range(8))
    assert _tiers(_learnt(7)) == {Tier.ACTIVATION}


@pytest.mark.parametrize(
    "more",
    [{"sensitive": True}, {"allowed": ("text", "activation")}, {"created": DAY}, {"retry_after": 9 * DAY}],
)
def test_weights_refuse_what_is_sensitive_forbidden_young_or_failed_lately(more: dict[str, Any]) -> None:
    assert _tiers(_learnt(8, **more)) == {Tier.ACTIVATION}


def test_weights_are_left_when_cold_stale_or_the_probe_failed() -> None:
    for reason in (Reason.STALE_PARENT, Reason.PROBE_FAIL, Reason.FORGET):
        world = _learnt(8)
        world.ledger.invalidated("m0", reason)
        assert [(one.cube, one.reason) for one in world.tick(7 * DAY + 26 * SECOND)] == [("m0", reason)]
    world = _learnt(8)
    assert {one.reason for one in world.tick(13 * DAY)} == {Reason.COLD}


def _tiers(world: World) -> set[Tier]:
    return {one.tier for one in world.ledger.cubes.values()}


def test_personas_need_less_use_and_events_more() -> None:
    promoted = {}
    for kind in ("persona", "fact", "event"):
        world = World(HeatPolicy())
        world.add("a", semantic_type=kind)
        world.add("other")
        for call in range(40):
            world.use(call * SECOND, "a" if call % 4 == 0 else "other")
        promoted[kind] = world.tier("a") is Tier.ACTIVATION
    assert promoted["persona"] and not promoted["event"]


def test_costs_raise_the_share_that_is_needed() -> None:
    assert HeatPolicy(costs=Costs(prefill=1.0, attend=0.0)).share_needed == 0.30
    dear = Costs(prefill=1.0, attend=0.01, generated=25)
    assert HeatPolicy(costs=dear).share_needed == pytest.approx(0.5)
    assert HeatPolicy.measured(dear).down_share == 0.10
    cheap = HeatPolicy.measured(Costs(prefill=1.0, attend=0.001, generated=50))
    assert [cheap.share_needed, cheap.down_share] == pytest.approx([0.1, 0.05])
    with pytest.raises(InvalidInput, match="prefill"):
        Costs(prefill=0.0)


def test_a_prediction_brings_in_what_was_stable_before_it_is_hot_again() -> None:
    world = World(HeatPolicy())
    world.add("a")
    world.add("other")
    for now in (0, 1):
        world.use(now, "a")
    now = 5 * T
    for call in range(6):
        world.use(now + call, "other")
    assert world.tier("a") is Tier.TEXT
    world.ledger.predicted({"a": 0.9})
    assert [one.cube for one in world.tick(now + 6)] == ["a"]


def test_a_forecast_never_brings_in_what_is_not_stable_nor_holds_what_is_stale() -> None:
    world = World(HeatPolicy())
    world.add("a")
    world.use(0, "a")
    for now in range(1, 6):
        world.use(now)
    world.ledger.predicted({"a": 1.0})
    assert world.tick(6) == []
    world.use(7, "a")
    assert world.tier("a") is Tier.ACTIVATION
    world.ledger.revised(8, "a", 30, 300)
    assert [one.reason for one in world.tick(8)] == [Reason.STALE_PARENT]


def test_a_decision_says_why_in_a_sentence_with_its_figures() -> None:
    world = World(HeatPolicy())
    world.add("a")
    hot(world, "a")
    [one] = world.log
    assert one.heat == pytest.approx(3, rel=1e-3) and one.share == 1.0 and one.tokens == 30 and one.saving > 0
    told = one.sentence()
    for part in ("a v1", "text to activation", "HOT_STABLE", "Heat 3.00", "100% of calls", "30 tokens", "save"):
        assert part in told


events = st.lists(
    st.one_of(
        st.tuples(st.just("use"), st.lists(st.sampled_from("abcdef"), min_size=1, max_size=4, unique=True)),
        st.tuples(st.just("revise"), st.sampled_from("abcdef")),
        st.tuples(st.just("pin"), st.sampled_from("abcdef")),
    ),
    max_size=40,
)


@settings(max_examples=40, deadline=None)
@given(events)
def test_the_same_log_and_clock_decide_byte_for_byte_the_same(log: list[tuple[str, Any]]) -> None:
    def play() -> bytes:
        world = World(HeatPolicy(min_resident=0), Budgets(900))
        for id in "abcdef":
            world.add(id)
        for now, (verb, what) in enumerate(log):
            if verb == "use":
                world.ledger.called(now * SECOND, "b", what)
            elif verb == "revise":
                world.ledger.revised(now * SECOND, what, 30, 300)
            else:
                world.ledger.pinned(what)
            world.tick(now * SECOND)
        return "\n".join(one.line() for one in world.log).encode()

    assert play() == play()


class Scheduler(RuleBasedStateMachine):
    """Whatever happens: within budget, nothing stale cached, nothing forbidden cached."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World(HeatPolicy(min_resident=0, min_tokens=1), Budgets(1000, 70), half_life=20)
        self.now = 0
        for i in range(8):
            self.world.add(
                f"m{i}",
                bundle="b" if i < 5 else "c",
                tokens=10 + 5 * i,
                nbytes=100 + 50 * i,
                allowed=("text", "activation") if i else ("text",),
            )

    def known(self) -> list[str]:
        return sorted(self.world.ledger.cubes)

    @rule(data=st.data(), bundle=st.sampled_from("bc"), wait=st.integers(0, 5))
    def use(self, data: st.DataObject, bundle: str, wait: int) -> None:
        ids = [id for id in self.known() if self.world.ledger[id].bundle == bundle]
        used = data.draw(st.lists(st.sampled_from(ids), unique=True)) if ids else []
        self.now += wait
        for _ in range(3):
            self.world.use(self.now, *used, bundle=bundle)

    @precondition(lambda self: self.known())
    @rule(data=st.data(), tokens=st.integers(10, 40))
    def revise(self, data: st.DataObject, tokens: int) -> None:
        self.world.ledger.revised(self.now, data.draw(st.sampled_from(self.known())), tokens, tokens * 10)
        self.world.tick(self.now)

    @precondition(lambda self: self.known())
    @rule(data=st.data(), reason=st.sampled_from([Reason.ACL, Reason.MODEL, Reason.TTL, Reason.FORGET]))
    def invalidate(self, data: st.DataObject, reason: Reason) -> None:
        self.world.ledger.invalidated(data.draw(st.sampled_from(self.known())), reason)
        self.world.tick(self.now)

    @precondition(lambda self: self.known())
    @rule(data=st.data(), pinned=st.booleans())
    def pin(self, data: st.DataObject, pinned: bool) -> None:
        self.world.ledger.pinned(data.draw(st.sampled_from(self.known())), pinned)
        self.world.tick(self.now)

    @rule(activation=st.integers(0, 1500))
    def resize(self, activation: int) -> None:
        self.world.budgets = Budgets(activation, 70)
        self.world.tick(self.now)

    @rule(wait=st.integers(1, 300))
    def wait(self, wait: int) -> None:
        self.now += wait
        self.world.tick(self.now)

    @invariant()
    def keeps_its_word(self) -> None:
        world = self.world
        assert world.resident() <= world.budgets.activation_bytes
        for members in world.bundles.values():
            assert sum(world.ledger[id].tokens for id in members) <= 70
            assert all(world.ledger[id].invalid is None and "activation" in world.ledger[id].allowed for id in members)


Scheduler.TestCase.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
TestScheduler = Scheduler.TestCase
