"""The card: it measures every claim with the same code at toy size, and judges what it is given honestly."""

from __future__ import annotations

import math

import pytest

from lamina.bench.experiments.operations.operation_scores import scored
from lamina.bench.systems.memlora import BYTES, CARD, LOOP_BASE, LOOP_TEACHER, PLANS, SWITCH, VALID
from lamina.parameter.experts.operations import OPS, Exchange, MemoryOp, Revision
from lamina.parameter.experts.prompts import written
from lamina.parameter.experts.serving import Attempt
from lamina.parameter.experts.traces import Trace, TraceSet

pytestmark = pytest.mark.model


def test_a_toy_run_measures_every_claim_and_noise_passes_none_that_needs_skill() -> None:
    found = {measurement.claim: measurement for measurement in CARD.measure(0, "smoke")}
    assert tuple(found) == CARD.claims
    assert all(found[claim].ours is not None and math.isfinite(found[claim].ours or 0) for claim in CARD.claims)
    assert not found[VALID].holds and not found[LOOP_BASE].holds and not found[LOOP_TEACHER].holds
    assert found[SWITCH].ours and found[BYTES].ours
    assert found[LOOP_TEACHER].baseline


def test_the_laptop_plan_is_the_experiment() -> None:
    plan = PLANS["laptop"]
    assert plan.shape.rank == 8 and plan.shape.layers == tuple(range(20, 30)) and plan.recipe.cache_below == 20
    assert plan.loops * plan.questions == 60 and plan.turns == 20
    assert PLANS["full"].shape.layers is None and PLANS["full"].shape.rank == 16


def test_scores_are_taken_against_the_truth_and_validity_of_the_first_reply() -> None:
    said = Exchange((("Ada", "I live in Oslo."),))
    truth = TraceSet((Trace(said, written(("Ada lives in Oslo.",)), "state"),))
    right = Attempt(said, ("x",), ("Ada lives in Oslo.",))
    late = Attempt(said, ("x", "y"), ("Ada lives in Oslo.",))
    failed = Attempt(said, ("x", "y"), None)
    assert [scored("extract", truth, [a]).value for a in (right, late, failed)] == [1.0, 1.0, 0.0]
    assert [scored("extract", truth, [a]).valid for a in (right, late, failed)] == [1.0, 0.0, 0.0]
    move = Revision(("Ada lives in Rome.",), ("Ada lives in Oslo.",))
    truth = TraceSet((Trace(move, written((MemoryOp("UPDATE", 0, "Ada lives in Rome."),)), "state"),))
    wrong = scored("update", truth, [Attempt(move, ("x",), (MemoryOp("ADD", None, "Ada lives in Rome."),))])
    assert wrong.value == pytest.approx(2 / 3) and wrong.details == {"operation": 0.0, "id": 0.0}
    assert len(OPS) == 3
