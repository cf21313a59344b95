"""The card of Mem-alpha runs at toy size, and the packaged policy does what its metadata says."""

from __future__ import annotations

import math

import pytest

from lamina.bench.experiments.text.memory_gym import HistoryEnv
from lamina.bench.experiments.text.memory_policies import CONSTANT, evaluate, greedy
from lamina.bench.systems.mem_alpha import CARD, PLANS
from lamina.text.construction_policy import MemAlpha


def test_smoke_measures_every_claim() -> None:
    found = CARD.measure(0, "smoke")
    assert [measurement.claim for measurement in found] == list(CARD.claims)
    assert all(measurement.ours is not None and math.isfinite(measurement.ours) for measurement in found)
    assert found == CARD.measure(0, "smoke")


def test_laptop_is_the_experiment() -> None:
    plan = PLANS["laptop"]
    assert (plan.split, plan.seeds, plan.updates, plan.chunks) == ("fresh", 3, 800, 312)
    assert PLANS["smoke"].split == "validation"  # what runs often never touches the fresh sentences


def test_the_packaged_policy_still_scores_what_it_was_packaged_with() -> None:
    policy = MemAlpha.default()
    env, seeds = HistoryEnv("validation"), range(3_000_000, 3_000_064)
    score = evaluate(env, greedy(policy), seeds, 24)
    assert score.accuracy == pytest.approx(policy.scores["chat.24"]["accuracy"], abs=5e-4)
    assert score.memory == pytest.approx(policy.scores["chat.24"]["memory"], abs=5e-4)
    constants = [evaluate(env, act, seeds, 24).accuracy for act in CONSTANT.values()]
    assert score.accuracy > max(constants) + 0.1


def test_learning_beats_its_own_beginning() -> None:
    policy = MemAlpha(seed=1)
    log = policy.fit(HistoryEnv(lengths=(12,)), updates=60).column("r1")
    assert log[-15:].mean() > log[:15].mean() + 0.15
