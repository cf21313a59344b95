"""More pairs than one small state can hold: what do other states, begun from the same trained one, make of them?

A model with a single gated delta state a layer learns recall of few pairs. Copies of it grow into mixtures of memories,
wider values, wider keys, or stay as they are, and go on for the same steps on the same batches with as many pairs as
there are keys. (From nothing a mixture learns recall more slowly than one state does in the minutes there are here.)
An attention arm that learned both lessons from nothing tells that the task can be solved.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lamina.errors import InvalidInput
from lamina.nn.config import LaminaConfig
from lamina.nn.decoder import LaminaForCausalLM
from lamina.nn.mixed_memories import MoM
from lamina.nn.routing.upcycling import upcycle
from lamina.nn.tasks import MQAR, whole
from lamina.train.loop import parameter_groups, train, warmup_cosine
from lamina.train.on_task import evaluate

VOCABULARY = 64
KEY, VALUE = 16, 32
FEW, MANY = (4, 8, 16), (16, 24, 31)  # pairs of a row, in turns
NEAR, FAR = 64, 128  # tokens of a row
_WARM = 50  # steps
_ATTENTION_LR, _SOLVED = 4e-3, 0.02  # attention stops at this loss, in nats

_ONE = {"heads": 1, "key_dim": KEY, "value_dim": VALUE}
# The active floats of MoM's states are those of three single ones: two chosen memories and the shared one.
ARMS: Mapping[str, dict[str, Any]] = {
    "single": {"mixer": "gated_delta", "block": {"gated_delta": _ONE}},
    "wide values": {"mixer": "gated_delta", "block": {"gated_delta": {**_ONE, "value_dim": 3 * VALUE}}},
    "wide keys": {"mixer": "gated_delta", "block": {"gated_delta": {**_ONE, "key_dim": 3 * KEY}}},
    "mom": {"mixer": "mom", "block": {"mom": {**_ONE, "memories": 4, "top_k": 2, "scope": "stream"}}},
}


@dataclass(frozen=True, slots=True)
class CrowdedMQAR(MQAR):
    """``MQAR`` with as many pairs as there are keys, and rows longer than there are ids."""

    def __post_init__(self) -> None:
        whole("kv", self.kv, 1)
        if self.kv >= self.V // 2 or 4 * self.kv > self.T or self.T % 2:
            told = f"T={self.T}, kv={self.kv}, V={self.V}"
            raise InvalidInput(f"{told}: give fewer pairs than V / 2, and an even T from 4 * kv")


@dataclass(frozen=True, slots=True)
class Lessons:
    """Steps, rows and peak learning rate of the beginning and of going on."""

    base_steps: int = 800
    base_rows: int = 48
    base_lr: float = 1.5e-2
    steps: int = 400
    rows: int = 24
    lr: float = 5e-3


def few(kv: int) -> CrowdedMQAR:
    return CrowdedMQAR(NEAR, kv, VOCABULARY)


def many(kv: int) -> CrowdedMQAR:
    return CrowdedMQAR(FAR, kv, VOCABULARY)


def config(**arm: Any) -> LaminaConfig:
    """The trunk of all arms: two layers of 48 channels, no feed-forward block, a short convolution in the mixer."""
    return LaminaConfig(VOCABULARY, 48, 2, 1, ffn="none", **arm)


def base(seed: int, lessons: Lessons) -> LaminaForCausalLM:
    """The single state that every arm begins from."""
    torch.manual_seed(seed)
    model = LaminaForCausalLM(config(**ARMS["single"]))
    _taught(model, [few(kv) for kv in FEW], lessons.base_steps, lessons.base_rows, lessons.base_lr, seed)
    return model


def go_on(model: LaminaForCausalLM, seed: int, lessons: Lessons, below: float | None = None) -> float:
    """The second lesson; seconds of CPU."""
    begin = time.process_time()
    _taught(model, [many(kv) for kv in MANY], lessons.steps, lessons.rows, lessons.lr, seed + 1000, below)
    return time.process_time() - begin


def grown(model: LaminaForCausalLM, arm: str, seed: int) -> LaminaForCausalLM:
    """A copy of ``model`` as ``arm`` begins."""
    torch.manual_seed(seed)
    return upcycle(model, config(**ARMS[arm]))


def solvable(seed: int, lessons: Lessons) -> LaminaForCausalLM:
    """Attention of both lessons."""
    torch.manual_seed(seed)
    model = LaminaForCausalLM(LaminaConfig(VOCABULARY, 48, 2, 2, ffn="none", mixer="attention", short_conv=4))
    lesson = [few(kv) for kv in FEW]
    _taught(model, lesson, lessons.base_steps, lessons.base_rows, _ATTENTION_LR, seed, _SOLVED)
    go_on(model, seed, lessons, _SOLVED)
    return model


def right(model: LaminaForCausalLM, kv: int, seed: int, rows: int) -> float:
    """Right answers of ``rows`` of ``kv`` pairs that were never taught."""
    return evaluate(model, many(kv), seed=seed + 2000, rows=rows)["all"]


def shares(model: LaminaForCausalLM, seed: int) -> list[float]:
    """Of tokens that go to each memory, layer after layer."""
    rows = many(MANY[-1]).sample(64, torch.Generator().manual_seed(seed + 3000))
    with torch.inference_mode():
        told = model.train(False)(rows.ids, use_cache=False).stats
    layers = [number for number, layer in enumerate(model.model.layers) if isinstance(layer.mixer, MoM)]
    return [share for layer in layers for share in told[f"{layer}.shares"].tolist()]


def _taught(
    model: LaminaForCausalLM,
    tasks: Sequence[MQAR],
    steps: int,
    rows: int,
    lr: float,
    seed: int,
    below: float | None = None,
) -> None:
    """Steps on the tasks in turns, the same batches for all arms of a seed."""
    drawn = torch.Generator().manual_seed(seed)

    def loss(step: int) -> Tensor:
        batch = tasks[step % len(tasks)].sample(rows, drawn)
        found: Tensor = model(batch.ids, shift_labels=batch.targets).loss
        return found

    model.train()
    schedule = warmup_cosine(min(_WARM, steps))
    train(parameter_groups(model, lr), loss, steps=steps, lr=lr, schedule=schedule, below=below)
