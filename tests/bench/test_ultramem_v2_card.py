"""The card: it measures every claim from the same code at toy size; what is compared is alike, and counted by hand."""

from __future__ import annotations

import pytest
import torch

from lamina.bench.experiments.architectures.long_tail_arms import (
    config,
    cost,
    looking,
    memories,
    teach,
    touched,
)
from lamina.bench.systems.ultramem_v2 import CARD, CUT, MACS, PARAMETERS, ROWS, TAIL
from lamina.nn.decoder import LaminaForCausalLM
from lamina.nn.facts import LongTailFacts

TASK = LongTailFacts(N=128, subjects=16, relations=8, values=256, zipf=0.5)
LAPTOP = LongTailFacts(N=16_384, subjects=256, relations=64, values=256, zipf=0.5)


def _model(arm: str, task: LongTailFacts = TASK, keys: int = 32) -> LaminaForCausalLM:
    torch.manual_seed(0)
    return LaminaForCausalLM(config(task, arm, keys)).eval()


def test_a_toy_run_measures_every_claim() -> None:
    found = {measurement.claim: measurement for measurement in CARD.measure(0, "smoke")}
    assert tuple(found) == CARD.claims
    assert all(found[claim].holds for claim in (ROWS, CUT))
    assert not found[TAIL].holds  # two steps teach nothing, and the card says so


def test_what_is_compared_is_alike() -> None:
    macs, parameters = cost(_model("memory", LAPTOP, 64))
    for arm in ("wide", "experts"):
        assert cost(_model(arm, LAPTOP, 64))[0] == pytest.approx(macs, rel=MACS.target)
    assert cost(_model("experts", LAPTOP, 64))[1] == pytest.approx(parameters, rel=PARAMETERS.target)


def test_all_arms_are_taught_the_same_batches_and_a_frozen_table_stays() -> None:
    told = {"steps": 2, "batch": 8, "seed": 3}
    first, again = (teach(TASK, "memory", 32, **told) for _ in range(2))
    assert first.right == again.right and {"all", "tail"} <= set(first.right)
    frozen = teach(TASK, "memory", 32, **told, freeze=True)
    torch.manual_seed(3)
    drawn = LaminaForCausalLM(config(TASK, "memory", 32))
    for kept, own, taught in zip(memories(frozen.model), memories(drawn), memories(first.model), strict=True):
        assert torch.equal(kept.table.values, own.table.values)
        assert not torch.equal(taught.table.values, own.table.values)
        assert not torch.equal(kept.keys, own.keys)


def test_bytes_are_those_of_the_rows_and_experts_that_are_read() -> None:
    ids = TASK.sample(8, torch.Generator().manual_seed(0)).ids
    memory = _model("memory")
    stats = memory(ids).stats
    rows = sum(len(stats[f"{layer}.ultramem_v2.rows"].unique()) for layer in range(2))
    assert touched(memory, ids) == rows * 32 * 4
    assert touched(memory, ids[:1, :1]) == 2 * 16 * 32 * 4
    experts = _model("experts")
    stats = experts(ids).stats
    size = experts.config.block["experts"]["size"]
    chosen = sum(len(stats[f"{layer}.experts"].unique()) for layer in range(2))
    assert touched(experts, ids) == chosen * 3 * 32 * size * 4


def test_looking_finds_a_cut_that_fails() -> None:
    ids = TASK.sample(8, torch.Generator().manual_seed(0)).ids
    memory = _model("memory")
    assert looking(memory, ids)[0] > 0.9
    for layer in memories(memory):
        layer.u.neg_()  # turned alone: the worst rows look best
    assert looking(memory, ids)[0] < 0.5
