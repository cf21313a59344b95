"""The card of MoM: every claim from the same code at toy size; its tasks, arms and measures are what they say."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from lamina.bench.catalog import systems
from lamina.bench.experiments.architectures.crowded_recall import (
    ARMS,
    KEY,
    MANY,
    VALUE,
    CrowdedMQAR,
    Lessons,
    base,
    config,
    few,
    go_on,
    grown,
    many,
    right,
    shares,
)
from lamina.bench.experiments.architectures.memory_mixtures import kept
from lamina.bench.systems import mom
from lamina.errors import InvalidInput
from lamina.nn.decoder import LaminaForCausalLM
from lamina.nn.tasks import MQAR
from lamina.train.on_task import evaluate

TOY = Lessons(2, 4, 5e-3, 2, 4, 5e-3)


def test_a_toy_run_measures_every_claim() -> None:
    found = {measurement.claim: measurement for measurement in systems["mom"].measure(0, "smoke")}
    assert tuple(found) == mom.CLAIMS
    assert all(measurement.ours is not None for measurement in found.values())
    # No lesson changes these.
    unlearned = (mom.CAPACITY, mom.LARGE, mom.EXACT, mom.STATE, mom.STEPPED, mom.PADDED, mom.CAUSAL, mom.APART)
    assert all(found[claim].holds for claim in unlearned)
    assert not found[mom.SOLVED].holds and not found[mom.OVER_SINGLE].holds  # a few steps teach nothing
    assert all(arm in found[mom.OVER_SINGLE].baseline_name for arm in ARMS)


@pytest.mark.parametrize("kv", MANY)
def test_rows_hold_as_many_pairs_as_there_are_keys(kv: int) -> None:
    batch = many(kv).sample(20, torch.Generator().manual_seed(0))
    for ids, targets in zip(batch.ids.tolist(), batch.targets.tolist(), strict=True):
        told = dict(zip(ids[: 2 * kv : 2], ids[1 : 2 * kv : 2], strict=True))
        assert len(told) == len(set(told.values())) == kv and max(told) < 32 <= min(told.values())
        asked = [(ids[place], target) for place, target in enumerate(targets) if target >= 0]
        assert sorted(asked) == sorted(told.items())


def test_where_the_plain_task_can_be_drawn_it_is_the_same() -> None:
    ours = CrowdedMQAR(48, 4, 64).sample(5, torch.Generator().manual_seed(0))
    plain = MQAR(48, 4, 64).sample(5, torch.Generator().manual_seed(0))
    assert torch.equal(ours.ids, plain.ids) and torch.equal(ours.targets, plain.targets)
    for wrong in ((128, 32, 64), (62, 16, 64), (63, 4, 64), (64, 0, 64)):
        with pytest.raises(InvalidInput, match=f"kv={wrong[1]}"):
            CrowdedMQAR(*wrong)


def test_what_is_kept_is_the_delta_rule_pair_by_pair() -> None:
    keys = F.normalize(torch.randn(2, 9, 5, dtype=torch.float64), dim=-1)
    values = torch.randn(2, 9, 3, dtype=torch.float64)
    for memories in (1, 4):
        found = kept(keys, values, memories)
        for row in range(2):
            states = [torch.zeros(5, 3, dtype=torch.float64) for _ in range(memories)]
            for pair in range(9):
                state, key = states[pair % memories], keys[row, pair]
                state += torch.outer(key, values[row, pair] - state.T @ key)
            expected = torch.stack([states[pair % memories].T @ keys[row, pair] for pair in range(9)])
            torch.testing.assert_close(found[row], expected)


def test_arms_begin_from_one_checkpoint_with_as_many_active_floats() -> None:
    single = base(0, TOY)
    arms = {arm: grown(single, arm, 0) for arm in ARMS}
    before = {arm: evaluate(model, few(4), seed=1, rows=8) for arm, model in arms.items()}
    assert before["single"] == evaluate(single, few(4), seed=1, rows=8)
    for arm, model in arms.items():
        assert torch.equal(model.model.embed_tokens.weight, single.model.embed_tokens.weight)
        floats = {"single": 1, "wide values": 3, "wide keys": 3, "mom": 5}[arm] * KEY * VALUE
        mixer = model.model.layers[0].mixer
        taps = mixer.state_bytes(1, el=0)  # type: ignore[union-attr, operator]
        assert taps == 4 * floats
    met = ARMS["mom"]["block"]["mom"]["top_k"] + 1
    assert met * KEY * VALUE == KEY * ARMS["wide values"]["block"]["gated_delta"]["value_dim"]
    assert met * KEY * VALUE == VALUE * ARMS["wide keys"]["block"]["gated_delta"]["key_dim"]


def test_the_same_lesson_whatever_the_arm_and_the_shares_are_counted() -> None:
    single = base(0, TOY)
    first, second = grown(single, "mom", 3), grown(single, "mom", 3)
    for model in (first, second):
        go_on(model, 3, TOY)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    told = shares(first, 0)
    assert len(told) == 2 * 4 and sum(told[:4]) == pytest.approx(2.0) == sum(told[4:])
    assert 0.0 <= right(first, 31, 0, 4) <= 1.0
    assert isinstance(first, LaminaForCausalLM) and config().hidden_size == 48
