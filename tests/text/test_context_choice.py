"""The router: costs against hand computation, what fits, the prior, hysteresis, and what it learns."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamina.errors import BudgetError, InvalidInput
from lamina.text.context_choice import (
    HOSTED,
    STRATEGIES,
    Budget,
    HistoryStats,
    NoFeasibleStrategy,
    QualityPrior,
    ReaderProfile,
    Recall,
    RecallRouter,
    Seen,
    Strategy,
    evidence_hint,
    transitions,
    with_trust,
)
from lamina.text.context_costs import Shape
from lamina.text.context_prior import CONVERSATION, REFERENCE, released

PRIOR = QualityPrior()
SMOLLM2 = Shape(
    parameters=134_515_008, layers=30, width=576, kv_heads=3, head_size=64, flops_per_s=1e11, bytes_per_s=1e10
)


def reader(**changes: Any) -> ReaderProfile:
    given: dict[str, Any] = {
        "name": "r",
        "window": 200_000,
        "usd_input": 1.0,
        "usd_output": 4.0,
        "usd_cached": 0.25,
        "hit_rate": 0.8,
        "start_s": 0.5,
        "prefill_tps": 1_000.0,
        "decode_tps": 50.0,
        "output_tokens": 100,
    }
    return ReaderProfile(**{**given, **changes})


def history(conversations: int, tokens: int | None = None) -> HistoryStats:
    return HistoryStats(conversations, 10 * conversations, tokens or 1_000 * conversations)


# -- costs -----------------------------------------------------------------------------------------


def test_full_context_costs_mostly_the_cached_price() -> None:
    used = reader().usage("full", history(50))
    # 50,000 tokens at 0.8 * 0.25 + 0.2 * 1 = 0.40 $/M = 0.0200; 100 answer tokens at 4 $/M = 0.0004
    assert used.tokens == 50_000
    assert used.usd == pytest.approx(0.0204)
    # 0.5 + 50,000 * 0.2 / 1000 + 100 / 50
    assert used.seconds == pytest.approx(12.5)


def test_retrieval_costs_its_turns_and_its_share_of_indexing() -> None:
    profile = reader(recall=Recall(k=8, index_usd=0.01))
    used = profile.usage("rag", replace(history(50), reads_per_write=4.0))
    # turns of 100 tokens: 8 * 100 at 1 $/M = 0.0008, 0.0004 for the answer, 0.01 / 4 for the index
    assert used.tokens == 800
    assert used.usd == pytest.approx(0.0008 + 0.0004 + 0.0025)
    assert used.seconds == pytest.approx(0.5 + 0.8 + 2.0)


@pytest.mark.parametrize(("workers", "times"), [(5, 1), (2, 3), (1, 5)])
def test_hybrid_costs_the_helper_and_then_the_reader(workers: int, times: int) -> None:
    helper = reader(name="h", usd_input=0.1, usd_output=0.4, prefill_tps=2_000.0, decode_tps=100.0, start_s=0.2)
    recall = Recall(generous=50, block_size=10, extract_tokens=60, kept=0.4, workers=workers, unworded=0.0)
    used = reader(helper=helper, recall=recall).usage("hybrid", history(300))
    # T' = 50 turns * 100 = 5,000 tokens in B = ceil(50 / 10) = 5 blocks; the reader reads 0.4 * 5 * 60 = 120
    assert used.tokens == 5_120
    assert used.usd == pytest.approx((5_000 * 0.1 + 5 * 60 * 0.4 + 120 * 1.0 + 100 * 4.0) / 1e6)
    block = 0.2 + 1_000 / 2_000 + 60 / 100
    assert used.seconds == pytest.approx(times * block + 0.5 + 0.120 + 2.0)


def test_hybrid_without_a_helper_asks_no_model_but_reads_more() -> None:
    recall = Recall(generous=50, kept=0.5, unworded=0.0, search_s=0.3)
    used = reader(recall=recall).usage("hybrid", history(300))
    # the 10 surest turns and half of the other 40, 100 tokens each
    assert used.tokens == 3_000
    assert used.usd == pytest.approx((3_000 * 1.0 + 100 * 4.0) / 1e6)
    assert used.seconds == pytest.approx(0.3 + 0.5 + 3.0 + 2.0)
    # where no word was found all of 4 * 50 retrieved turns are read
    assert reader(recall=replace(recall, unworded=1.0)).usage("hybrid", history(300)).tokens == 20_000
    assert reader(recall=recall).usage("hybrid", history(2)).tokens == 2_000  # no more than there is


def test_a_local_model_counts_flops_and_a_kv_cube_spares_them() -> None:
    assert SMOLLM2.kv_bytes == 23_040
    cold = 2 * 134_515_008 * 4_000 + 2 * 30 * 576 * 4_000**2
    assert SMOLLM2.prefill_flops(4_000) == pytest.approx(cold, rel=1e-12)
    warm = 2 * 134_515_008 * 100 + 2 * 30 * 576 * (4_000**2 - 3_900**2)
    assert SMOLLM2.prefill_flops(4_000, 100) == pytest.approx(warm, rel=1e-12)
    local = ReaderProfile(name="l", window=8_192, local=True, shape=SMOLLM2, decode_tps=20.0, output_tokens=10)
    stats = replace(history(4), new_tokens=100)
    assert local.usage("full", stats).seconds == pytest.approx(warm / 1e11 + 3_900 * 23_040 / 1e10 + 0.5)
    assert local.usage("full", history(4)).seconds == pytest.approx(cold / 1e11 + 0.5)


@given(st.integers(1, 500), st.integers(1, 400))
def test_full_context_never_gets_cheaper_as_it_grows(count: int, more: int) -> None:
    small, large = (reader().usage("full", history(n)) for n in (count, count + more))
    assert small.usd < large.usd and small.seconds < large.seconds


def test_impossible_figures_are_refused() -> None:
    for wrong in ({"window": 100}, {"hit_rate": 1.5}, {"usd_input": -1.0}, {"prefill_tps": 0.0}):
        with pytest.raises(InvalidInput, match="reader 'r'"):
            reader(**wrong)
    with pytest.raises(InvalidInput, match="max_cost"):
        Budget(max_cost=0.0)
    with pytest.raises(InvalidInput, match="stats="):
        HistoryStats(1, 1, -1)


class Timed:
    """A chat model that takes 0.25 s, 2 ms a prompt token and 50 ms a reply token, on a clock of its own."""

    name = "timed"

    def __init__(self) -> None:
        self.now = 0.0

    def count_tokens(self, text: str) -> int:
        return len(text.split())

    def chat(self, messages: Sequence[Any], *, schema: Any = None, max_tokens: int = 256) -> Any:
        self.now += 0.25 + 0.002 * self.count_tokens(messages[-1]["content"]) + 0.05 * max_tokens
        return " ".join(["word"] * max_tokens)

    def stream(self, messages: Sequence[Any], *, max_tokens: int = 256) -> Any:
        raise AssertionError("not used")


def test_measure_finds_the_rates_of_a_model() -> None:
    model = Timed()
    profile = ReaderProfile.measure(model, window=8_192, clock=lambda: model.now)
    assert profile.prefill_tps == pytest.approx(500)
    assert profile.decode_tps == pytest.approx(20)
    assert profile.start_s == pytest.approx(0.25 + 0.05)  # the first reply token belongs to the start
    assert profile.local and profile.usd_input == 0


# -- what fits -------------------------------------------------------------------------------------


def test_the_window_of_a_hosted_reader_is_filled_to_nine_tenths() -> None:
    profile = reader(window=100_000)
    assert profile.fits("full", history(89))
    assert not profile.fits("full", history(90))  # 90,000 + what is kept free
    assert profile.fits("rag", history(10_000)) and profile.fits("hybrid", history(10_000))


def test_a_local_reader_goes_by_what_it_is_trusted_with_and_not_by_chats() -> None:
    local = ReaderProfile(name="l", window=8_192, local=True)
    assert local.fits("full", history(500, 4_096)) and not local.fits("full", history(1, 4_097))
    trusted = replace(local, trusted_tokens=1_500.0)
    assert trusted.fits("full", history(3, 1_500)) and not trusted.fits("full", history(1, 1_501))


# -- the prior -------------------------------------------------------------------------------------


def test_the_released_curves_say_what_the_paper_says() -> None:
    table = {(c.reader, c.category, c.evidence, c.strategy): c for c in released()}
    assert len(table) == len(released()) == 54
    facts = table[REFERENCE, "user_facts", 1, "full"]
    at = facts.at(30)
    assert at is not None and (at.accuracy, at.seconds, at.usd) == (0.875, 2.464, 0.0065)
    six = table[REFERENCE, "user_facts", 6, "rag"].at(300)
    assert six is not None and six.accuracy == pytest.approx(0.25, abs=0.002)
    assert all(0 <= p.accuracy <= 1 and p.questions > 0 for c in released() for p in c.points)


def test_the_prior_is_the_line_that_least_squares_finds() -> None:
    xs, ys, weights = [], [], []
    for curve in released():
        if (curve.reader, curve.strategy) == (REFERENCE, "full") and curve.category != "user_facts":
            rows = [(math.log(max(p.tokens / CONVERSATION, 1)), p.accuracy) for p in curve.points if p.tokens]
            xs += [x for x, _ in rows]
            ys += [y for _, y in rows]
            weights += [1 / len(rows)] * len(rows)
    design = np.stack([np.ones(len(xs)), np.asarray(xs)], axis=1)
    root = np.sqrt(np.asarray(weights))
    (level, slope), *_ = np.linalg.lstsq(design * root[:, None], np.asarray(ys) * root, rcond=None)
    prior = QualityPrior(leave_out=("user_facts",))
    got = prior.quality("full", history(100, 100 * CONVERSATION), reader())
    assert got == pytest.approx(level + slope * math.log(100), abs=1e-12)


def test_a_category_left_out_leaves_no_trace() -> None:
    without = [curve for curve in released() if curve.category != "preferences"]
    for strategy in STRATEGIES:
        left_out = QualityPrior(leave_out=("preferences",)).quality(strategy, history(70), reader())
        assert left_out == QualityPrior(without).quality(strategy, history(70), reader())
    assert left_out != PRIOR.quality("hybrid", history(70), reader())


def test_trusted_tokens_are_where_a_reader_is_five_points_worse() -> None:
    profile = reader(trusted_tokens=6_000.0)
    first = PRIOR.quality("full", history(1, CONVERSATION), profile)
    assert first - PRIOR.quality("full", history(5, 6_000), profile) == pytest.approx(0.05)
    weak, strong = (PRIOR.trusted_tokens(name) for name in ("gemini-2.5-flash-lite", "gemini-2.5-flash"))
    assert CONVERSATION < weak < strong / 2


def test_retrieval_is_expected_to_lose_more_where_evidence_is_spread() -> None:
    def gap(n: int, multi: bool | None) -> float:
        full, rag = (PRIOR.quality(s, history(n), reader(), multi=multi) for s in ("full", "rag"))
        return full - rag

    assert 0 < gap(30, None) < gap(300, None)
    assert gap(300, True) > gap(300, None)


def test_bounded_extraction_lies_between_retrieval_and_extraction_of_everything() -> None:
    everything = reader(recall=Recall(generous=10**6))
    asked: tuple[Strategy, ...] = ("rag", "hybrid", "hybrid")
    rag, some, all_of_it = (
        PRIOR.quality(strategy, history(300), profile)
        for strategy, profile in zip(asked, (reader(), reader(), everything), strict=True)
    )
    assert rag < some < all_of_it
    assert PRIOR.quality("hybrid", history(5), reader()) == PRIOR.quality("hybrid", history(5), everything)


def test_a_prior_of_nothing_is_refused() -> None:
    with pytest.raises(InvalidInput, match="leave out less"):
        QualityPrior(leave_out={curve.category for curve in released()})
    with pytest.raises(InvalidInput, match="nobody"):
        PRIOR.trusted_tokens("nobody")


# -- choosing --------------------------------------------------------------------------------------


def test_without_limits_everything_is_read_while_it_fits_the_window() -> None:
    assert RecallRouter(reader(), prior=PRIOR).plan("Where do I live?", history(150)).strategy == "full"
    assert RecallRouter(reader(), prior=PRIOR).plan("Where do I live?", history(300)).strategy != "full"


def test_the_choice_is_the_best_utility_among_what_is_feasible() -> None:
    """Against a plain loop over the definition."""
    for n in (3, 20, 60, 120, 400):
        for budget in (Budget(max_cost=0.02), Budget(max_latency_s=9.0), Budget(20.0, 0.05, min_quality=0.2)):
            profile, stats = reader(), history(n)
            utilities = {}
            for strategy in ("full", "hybrid", "rag"):
                used, quality = profile.usage(strategy, stats), PRIOR.quality(strategy, stats, profile)
                within = used.usd <= (budget.max_cost or math.inf) and used.seconds <= (
                    budget.max_latency_s or math.inf
                )
                if profile.fits(strategy, stats) and within and quality >= budget.min_quality:
                    spent = 0.1 * used.usd / budget.max_cost if budget.max_cost else 0.0
                    waited = 0.1 * used.seconds / budget.max_latency_s if budget.max_latency_s else 0.0
                    utilities[strategy] = quality - spent - waited
            plan = RecallRouter(profile, budget, PRIOR).plan("Where do I live?", stats)
            assert plan.within_budget and plan.strategy == max(utilities, key=utilities.__getitem__)


def test_when_nothing_fits_it_says_so_and_does_not_take_the_slowest() -> None:
    budget = Budget(max_latency_s=0.01)
    plan = RecallRouter(reader(), budget, PRIOR).plan("Where do I live?", history(100))
    assert not plan.within_budget and "NOTHING FITS" in plan.why
    assert plan.strategy == "rag"  # 3.5 s, and not the 22.5 s of everything
    with pytest.raises(NoFeasibleStrategy, match=r"0\.01 s") as caught:
        RecallRouter(reader(), budget, PRIOR, strict=True).plan("Where do I live?", history(100))
    assert isinstance(caught.value, BudgetError) and caught.value.code == "NO_FEASIBLE_STRATEGY"


def test_a_quality_nobody_reaches_takes_the_best_and_says_so() -> None:
    plan = RecallRouter(reader(), Budget(max_cost=1.0, min_quality=1.0), PRIOR).plan("x", history(40))
    assert plan.strategy == "full" and not plan.within_budget and "below 1" in plan.why


def test_a_plan_says_why_and_what_else_there_was() -> None:
    plan = RecallRouter(with_trust(HOSTED["gemini-2.5-flash"], PRIOR), Budget(8.0, 0.03), PRIOR).plan(
        "Where do I live?", HistoryStats(300, 3_600, 500_000)
    )
    assert plan.strategy != "full"
    assert {option.strategy for option in plan.alternatives} | {plan.strategy} == {"full", "hybrid", "rag"}
    assert "the whole history takes" in plan.why and "300 conversations" in plan.why


def test_a_weak_reader_leaves_full_context_earlier() -> None:
    strong, weak = (reader(trusted_tokens=t, window=10**6) for t in (50_000.0, 1_800.0))
    leaves = [next(t for t in transitions(r, prior=PRIOR) if t.strategy != "full") for r in (strong, weak)]
    assert leaves[1].conversations < leaves[0].conversations


def test_transitions_are_where_a_fresh_router_changes_its_mind() -> None:
    budget = Budget(max_latency_s=5.0)
    found = transitions(reader(), budget, prior=PRIOR, tokens_per_conversation=500, longest=120)
    assert [t.conversations for t in found] == sorted({t.conversations for t in found})
    for n in range(1, 121):
        current = [t for t in found if t.conversations <= n][-1]
        plan = RecallRouter(reader(), budget, PRIOR).plan("", HistoryStats(n, 12 * n, 500 * n))
        assert (plan.strategy, plan.within_budget) == (current.strategy, current.within_budget)
    assert found[0].strategy == "full" and len(found) > 1


@pytest.mark.parametrize(
    ("query", "hint"),
    [
        ("How many cities have I visited?", True),
        ("List what I bought", True),
        ("What has changed since March?", True),
        ("Where do I live?", None),
        ("Do I like this small hall?", None),
        ("Is it all right to eat?", None),
        ("Does she like it at all?", None),
        ("Is everybody well?", None),
        ("What are all the books that I read?", True),
    ],
)
def test_words_that_ask_for_several_messages(query: str, hint: bool | None) -> None:
    assert evidence_hint(query) is hint


# -- steadiness and learning -----------------------------------------------------------------------


def test_near_a_boundary_it_does_not_flap() -> None:
    budget = Budget(max_cost=0.05, cost_weight=0.6)
    fresh = [RecallRouter(reader(), budget, PRIOR).plan("x", history(n)).strategy for n in range(1, 120)]
    border = next(n for n in range(1, 119) if fresh[n - 1] == "full" and fresh[n] != "full")
    steady = RecallRouter(reader(), budget, PRIOR)
    seen = {steady.plan("x", history(n)).strategy for n in (border - 2, border + 1, border - 1, border + 2, border)}
    assert seen == {"full"}
    assert steady.plan("x", history(math.ceil(border * 1.3))).strategy != "full"  # and yet it does change
    assert steady.plan("x", history(border - 1)).strategy != "full"  # and stays, coming back
    assert steady.plan("x", history(round(border * 0.7))).strategy == "full"


def test_it_never_keeps_what_no_longer_fits() -> None:
    steady = RecallRouter(reader(), Budget(max_latency_s=8.0), PRIOR)
    last = max(n for n in range(1, 60) if reader().usage("full", history(n)).seconds <= 8.0)
    assert steady.plan("x", history(last)).strategy == "full"
    assert steady.plan("x", history(last + 1)).strategy != "full"


def test_nothing_is_kept_that_left_the_window_even_beyond_the_budget() -> None:
    narrow = ReaderProfile(name="r", window=10_000, start_s=5)
    router = RecallRouter(narrow, Budget(max_latency_s=1, latency_weight=0.0), PRIOR)
    assert router.plan("x", HistoryStats(8, 96, 8_400)).strategy == "full"  # nothing is affordable, but it fits
    last = router.plan("x", HistoryStats(8, 96, 8_600))
    assert last.strategy != "full" and narrow.fits(last.strategy, last.stats)


def test_checked_answers_move_the_expectation_as_a_beta_does() -> None:
    router = RecallRouter(reader(), prior=PRIOR)
    stats = history(40)
    before = router.quality("full", stats)
    for correct in (True, False, False, False, None):  # the last is not checked: nothing learnt
        router.observe(router.plan("x", stats), Seen(0.01, 1.0, correct=correct))
    assert router.quality("full", stats) == pytest.approx((20 * before + 1) / 24)
    assert router.quality("rag", stats) == PRIOR.quality("rag", stats, reader())
    assert router.quality("full", history(4)) == PRIOR.quality("full", history(4), reader())


def test_a_plan_counts_once() -> None:
    router = RecallRouter(reader(), prior=PRIOR)
    plan = router.plan("x", history(40))
    router.observe(plan, Seen(0.01, 1.0, correct=False))
    once = router.quality("full", history(40))
    with pytest.raises(InvalidInput, match="observed before"):
        router.observe(plan, Seen(0.01, 1.0, correct=False))
    assert router.quality("full", history(40)) == once
    with pytest.raises(InvalidInput, match="none of this router"):
        router.observe(RecallRouter(reader(), prior=PRIOR).plan("x", history(40)), Seen(0.01, 1.0))


def test_what_plans_took_corrects_what_is_predicted() -> None:
    """The geometric mean of seen over predicted, with one prediction counted in."""
    router = RecallRouter(reader(), prior=PRIOR, strategies=("full",))
    base = reader().usage("full", history(40))
    for cost, seconds in ((4.0, 2.0), (9.0, 0.5)):
        plan = router.plan("x", history(40))
        router.observe(plan, Seen(cost * base.usd, seconds * base.seconds))
    plan = router.plan("x", history(60))
    later = reader().usage("full", history(60))
    assert plan.est_cost == pytest.approx(later.usd * (4.0 * 9.0) ** (1 / 3))
    assert plan.est_latency_s == pytest.approx(later.seconds)


def test_a_reader_slower_than_foretold_is_left_earlier() -> None:
    budget = Budget(max_latency_s=9.0)
    stats = history(25)
    router = RecallRouter(reader(), budget, PRIOR)
    plan = router.plan("x", stats)
    assert plan.strategy == "full"
    router.observe(plan, Seen(plan.est_cost, 4 * plan.est_latency_s))
    assert router.plan("x", stats).strategy != "full"


def test_wrong_answers_change_its_mind() -> None:
    router = RecallRouter(reader(), prior=PRIOR)
    stats = history(40)
    for _ in range(60):
        plan = router.plan("x", stats)
        router.observe(plan, Seen(plan.est_cost, plan.est_latency_s, correct=plan.strategy != "full"))
    assert router.plan("x", stats).strategy != "full"


def test_every_decision_is_kept_with_what_was_seen_of_it() -> None:
    router = RecallRouter(reader(), prior=PRIOR)
    first, second = router.plan("x", history(5)), router.plan("y", history(6))
    router.observe(second, Seen(0.5, 2.0, 6_100, True))
    assert [(d.plan, d.seen) for d in router.decisions] == [(first, None), (second, Seen(0.5, 2.0, 6_100, True))]


def test_only_the_strategies_at_hand_are_chosen() -> None:
    plan = RecallRouter(reader(), prior=PRIOR, strategies=("rag",)).plan("x", history(2))
    assert plan.strategy == "rag" and plan.alternatives == ()
    for wrong in ((), ("guess",)):
        with pytest.raises(InvalidInput, match="strategies"):
            RecallRouter(reader(), prior=PRIOR, strategies=wrong)  # type: ignore[arg-type]
