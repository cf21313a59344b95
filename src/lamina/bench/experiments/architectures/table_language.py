"""Byte models of source code, with matrices and with tables: how they are taught, asked, and deprived of codes."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lamina.bench.corpora import Bytes
from lamina.nn import costs
from lamina.nn.config import LaminaConfig
from lamina.nn.decoder import LaminaForCausalLM
from lamina.nn.table_linear import Codes, MemoryLayer, Score, memory_former, usage_entropy
from lamina.train.loop import parameter_groups, train, warmup_cosine

TIME = 128  # bytes of a row
HEADS, LAYERS = 4, 2
BITS = 8


@dataclass(frozen=True, slots=True)
class Taught:
    """A model after its lessons: the CPU seconds they took, and nats a byte on text that was held out."""

    model: LaminaForCausalLM
    seconds: float
    loss: float

    @property
    def costs(self) -> str:
        """For people: loss, parameters, bytes stored and read, multiply-adds of a token, seconds of teaching."""
        parameters = sum(each.numel() for each in self.model.parameters())
        stored, read = costs.stored_bytes(self.model), costs.bytes_read_per_token(self.model)
        return (
            f"{self.loss:.3f} nats, {parameters / 1e6:.2f}M parameters, {stored / 1e6:.1f} MB stored, "
            f"{read / 1e3:.0f} kB read and {costs.macs_per_token(self.model, TIME) / 1e3:.0f}k multiply-adds a token, "
            f"taught in {self.seconds:.0f} CPU-s"
        )


def dense(width: int) -> LaminaConfig:
    """Attention and a gated feed-forward block of ``8/3 width``: 12 ``width**2`` multiply-adds, as one of 4 ``width``
    without a gate."""
    return LaminaConfig(vocab_size=256, hidden_size=width, num_hidden_layers=LAYERS, num_heads=HEADS)


def tables(width: int, score: Score = "magnitude") -> LaminaConfig:
    """A MemoryFormer of the same sizes."""
    return memory_former(
        bits=BITS, score=score, vocab_size=256, hidden_size=width, num_hidden_layers=LAYERS, num_heads=HEADS
    )


def taught(
    config: LaminaConfig,
    text: tuple[Bytes, Bytes],
    seed: int,
    steps: int,
    rows: int,
    lr: float,
    change: Callable[[MemoryLayer, Codes], Codes] | None = None,
) -> Taught:
    """A model of ``config`` after ``steps`` batches of ``rows``, which are the same for a seed whatever the model;
    ``change``: of the codes of its tables, in its lessons and after."""
    torch.manual_seed(seed)
    model = LaminaForCausalLM(config)
    if change is not None:
        with_codes(model, change)
    rng, source = np.random.default_rng((seed, 1)), torch.from_numpy(text[0].copy())

    def loss(_: int) -> Tensor:
        starts = torch.from_numpy(rng.integers(0, len(source) - TIME, rows))
        ids = source[starts[:, None] + torch.arange(TIME + 1)].long()
        found: Tensor = model.train()(ids[:, :-1], shift_labels=ids[:, 1:]).loss
        return found

    begin = time.process_time()
    train(
        parameter_groups(model, lr),
        loss,
        steps=steps,
        lr=lr,
        schedule=warmup_cosine(),
        optimizer=lambda groups: torch.optim.AdamW(groups, betas=(0.9, 0.95), fused=True),
    )
    seconds = time.process_time() - begin
    return Taught(model, seconds, asked(model, text[1]))


@torch.no_grad()
def asked(model: LaminaForCausalLM, text: Bytes, rows: int = 32) -> float:
    """Nats a byte on ``text`` in pieces of ``TIME``, each read from nothing; a rest is left out."""
    model.train(False)
    count = (len(text) - 1) // TIME
    whole = torch.from_numpy(text[: count * TIME + 1].copy()).long()
    ids, targets = whole[:-1].view(count, TIME), whole[1:].view(count, TIME)
    total = 0.0
    for part, wanted in zip(torch.split(ids, rows), torch.split(targets, rows), strict=True):
        logits = model(part, use_cache=False).logits
        total += float(F.cross_entropy(logits.flatten(0, 1), wanted.flatten(), reduction="sum"))
    return total / (count * TIME)


def with_codes(model: LaminaForCausalLM, change: Callable[[MemoryLayer, Codes], Codes]) -> LaminaForCausalLM:
    """``model``, whose tables are read by what ``change`` makes of their codes from now on."""
    for layer in layers(model):

        def code(x: Tensor, layer: MemoryLayer = layer) -> Codes:
            return change(layer, MemoryLayer.code(layer, x))

        setattr(layer, "code", code)  # noqa: B010 - in place of the method, on this one alone
    return model


def without_gradient(layer: MemoryLayer, codes: Codes) -> Codes:  # noqa: ARG001 - the protocol of with_codes
    """The same rows and scores, through which nothing is learned."""
    return codes[0], codes[1].detach()


def at_random(layer: MemoryLayer, codes: Codes) -> Codes:
    """The same scores of rows that have nothing to do with the input."""
    return torch.randint_like(codes[0], layer.rows), codes[1]


def biases_alone(model: LaminaForCausalLM) -> LaminaForCausalLM:
    """A copy whose tables hold nothing."""
    emptied = copy.deepcopy(model)
    for layer in layers(emptied):
        layer.tables.data.zero_()
    return emptied


def layers(model: LaminaForCausalLM) -> list[MemoryLayer]:
    """All tables of a model."""
    return [each for each in model.modules() if isinstance(each, MemoryLayer)]


@torch.no_grad()
def evenness(model: LaminaForCausalLM, text: Bytes, rows: int = 64) -> dict[str, float]:
    """How evenly rows are read: the mean entropy of a table as a share of the most it could be, by kind of block."""
    count = min(rows, len(text) // TIME)
    ids = torch.from_numpy(text[: count * TIME].copy()).long().view(count, TIME)
    stats = model(ids, use_cache=False).stats
    shares: dict[str, list[float]] = {}
    for name, read in stats.items():
        bits = BITS if "attention" in name else BITS + 2
        entropy = float(usage_entropy(read, bits).mean())
        shares.setdefault(name.split(".")[1], []).append(entropy / min(bits, math.log2(ids.numel())))
    return {name: sum(found) / len(found) for name, found in shares.items()}
