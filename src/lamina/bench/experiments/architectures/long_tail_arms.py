"""Models that keep facts: dense, experts, and UltraMemV2, sized so that what is compared is alike.

The memory is given; the wide dense model is the one whose multiply-adds come nearest to it, and the experts are those
whose multiply-adds come nearest among the ones with as many parameters within a tenth.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor

from lamina.nn import costs
from lamina.nn.config import LaminaConfig
from lamina.nn.decoder import LaminaForCausalLM
from lamina.nn.experts import MixtureOfExperts
from lamina.nn.facts import LongTailFacts
from lamina.nn.memory_layer import UltraMemV2
from lamina.nn.tasks import accuracy
from lamina.train.loop import parameter_groups, train, warmup_cosine
from lamina.train.optim.row_sparse import RowSparseAdamW

WIDTH, LAYERS, HEADS, INNER = 32, 2, 4, 64
RATE = 3e-3
MEMORY = {"top_m": 16, "key_dim": 16, "value_dim": 16, "pre_value_dim": 16, "rates": (4.0, 2.0), "sparse_grad": True}
_WIDTHS, _CHOSEN = range(8, 13), range(4, 9)  # inner channels of an expert, and how many a token is sent to
_WITHIN = 0.1
_ASKED = 1024  # facts at a time


@dataclass(frozen=True, slots=True)
class Learned:
    """What an arm was taught: right answers by slice, of all facts."""

    model: LaminaForCausalLM
    right: Mapping[str, float]

    @property
    def cost(self) -> str:
        """For people."""
        macs, parameters = cost(self.model)
        return f"{self.right['all']:.3f} of all, {parameters} parameters, {macs} multiply-adds a token"


def config(task: LongTailFacts, arm: str, keys: int) -> LaminaConfig:
    """Of "dense", "wide", "experts" or "memory", beside a memory of ``keys`` a side."""
    sizes: dict[str, Any] = {"vocab_size": task.V, "hidden_size": WIDTH, "num_hidden_layers": LAYERS}
    sizes |= {"num_heads": HEADS, "ffn_size": INNER}
    if arm == "memory":
        sizes |= {"side": "ultramem_v2", "block": {"ultramem_v2": {"num_keys": keys, **MEMORY}}}
    elif arm == "wide":
        sizes |= {"ffn_size": _wide(task, keys)}
    elif arm == "experts":
        inner, chosen, experts = _experts(task, keys)
        sizes |= {"ffn": "experts", "block": {"experts": {"experts": experts, "top_k": chosen, "size": inner}}}
    return LaminaConfig(**sizes)


def cost(model: LaminaForCausalLM) -> tuple[int, int]:
    """Multiply-adds of a token, and parameters."""
    return costs.macs_per_token(model, 2), model.num_parameters()


@cache
def _measured(task: LongTailFacts, arm: str, keys: int) -> tuple[int, int]:
    with torch.device("meta"):
        return cost(LaminaForCausalLM(config(task, arm, keys)))


def _wide(task: LongTailFacts, keys: int) -> int:
    """Inner channels of a dense block with the multiply-adds of the memory."""
    more = _measured(task, "memory", keys)[0] - _measured(task, "dense", keys)[0]
    return INNER + round(more / (LAYERS * 3 * WIDTH))


def _experts(task: LongTailFacts, keys: int) -> tuple[int, int, int]:
    """Inner channels, how many a token is sent to, how many there are."""
    (macs, parameters), dense = _measured(task, "memory", keys), _measured(task, "dense", keys)
    block = 3 * WIDTH * INNER  # of the dense model, which the experts replace
    most = parameters // (LAYERS * 3 * WIDTH * _WIDTHS[0])

    def apart(found: tuple[int, int, int]) -> tuple[float, float]:
        inner, chosen, experts = found
        own = dense[0] + LAYERS * (WIDTH * (3 * inner * chosen + experts) - block)
        stored = dense[1] + LAYERS * (WIDTH * experts * (3 * inner + 1) - block)
        return max(0.0, abs(stored / parameters - 1) - _WITHIN), abs(own / macs - 1)

    every = ((inner, chosen, count) for inner in _WIDTHS for chosen in _CHOSEN for count in range(chosen, most + 1))
    return min(every, key=apart)


def teach(
    task: LongTailFacts, arm: str, keys: int, *, steps: int, batch: int, seed: int, freeze: bool = False
) -> Learned:
    """An arm after ``steps`` of ``batch`` facts; the same seed draws the same batches for each. ``freeze``: the tables
    stay as they were drawn."""
    torch.manual_seed(seed)
    model = LaminaForCausalLM(config(task, arm, keys)).train()
    if freeze:
        for layer in memories(model):
            layer.table.requires_grad_(False)
    drawn = torch.Generator().manual_seed(seed)

    def loss(_: int) -> Tensor:
        facts = task.sample(batch, drawn)
        found: Tensor = model(facts.ids, shift_labels=facts.targets).loss
        return found

    groups = [
        {**group, "params": learned}
        for group in parameter_groups(model, RATE)
        if (learned := [each for each in group["params"] if each.requires_grad])
    ]
    train(groups, loss, steps=steps, lr=RATE, optimizer=RowSparseAdamW, schedule=warmup_cosine(min(50, steps)))
    model.train(False)
    return Learned(model, _asked(model, task))


def _asked(model: LaminaForCausalLM, task: LongTailFacts) -> dict[str, float]:
    every = task.evaluation()
    with torch.inference_mode():
        said = [model(part.ids, use_cache=False).logits.argmax(-1) for part in every.split(_ASKED)]
    return accuracy(torch.cat(said), every)


def memories(model: LaminaForCausalLM) -> list[UltraMemV2]:
    """The memory layers of a model."""
    return [module for module in model.modules() if isinstance(module, UltraMemV2)]


@torch.inference_mode()
def touched(model: LaminaForCausalLM, ids: Tensor) -> int:
    """Bytes of the table rows, or of the experts, that these ids read, each once: counted where they are read."""
    if layers := memories(model):
        found, tables = 0, {id(layer.table): layer.table for layer in layers}
        for table in tables.values():
            with table.recording() as reads:
                model(ids, use_cache=False)
            found += reads.nbytes
        return found
    stats, total = model(ids, use_cache=False).stats, 0
    for number, block in enumerate(module for module in model.modules() if isinstance(module, MixtureOfExperts)):
        one = sum(each[0].nbytes for each in (block.gate, block.up, block.down))
        total += one * len(stats[f"{number}.experts"].unique())
    return total


@torch.inference_mode()
def looking(model: LaminaForCausalLM, ids: Tensor) -> tuple[float, float]:
    """Of all memory layers while these ids are read: the share of the best cells with two positive projections that
    the cut finds (where there are as many), and the mean selected score."""
    shares: list[float] = []
    kept = [layer.register_forward_hook(_compared(shares)) for layer in memories(model)]
    stats = model(ids, use_cache=False).stats
    for hook in kept:
        hook.remove()
    scores = [float(value) for name, value in stats.items() if name.endswith("ultramem_v2.score")]
    return sum(shares) / len(shares), sum(scores) / len(scores)


def _compared(shares: list[float]) -> Callable[[Any, Any, Any], None]:
    from lamina.nn.tucker_scores import selected

    def look(layer: UltraMemV2, given: Any, _: Any) -> None:
        x, ctx = given
        factors = layer._factors(x[ctx.mask])
        row, column = selected(factors, layer.core, layer.u, layer.t, layer.top_m, layer.candidates)
        grid = torch.einsum("tir,crs,tjs->tij", factors[:, 0], layer.core, factors[:, 1])
        positive = (factors[:, 0] @ layer.u > 0)[:, :, None] & (factors[:, 1] @ layer.t > 0)[:, None]
        best, places = grid.masked_fill(~positive, -torch.inf).flatten(1).topk(layer.top_m)
        found = ((row * layer.keys_a_side + column)[:, None] == places[:, :, None]).any(-1)
        shares.append(float(found[best > -torch.inf].double().mean()))

    return look


@torch.inference_mode()
def beginnings(task: LongTailFacts, keys: int, layers: int, ids: Tensor) -> list[float]:
    """Of a fresh model of so many layers: how many times larger each memory's output is than its neighbour's."""
    told = copy.deepcopy(config(task, "memory", keys))
    told.num_hidden_layers = layers
    torch.manual_seed(layers)
    model = LaminaForCausalLM(told).train(False)
    sizes: dict[str, list[float]] = {"ffn": [], "side": []}
    for layer in model.model.layers:
        for slot, found in sizes.items():
            getattr(layer, slot).register_forward_hook(lambda _, __, out, found=found: found.append(float(out.std())))
    model(ids, use_cache=False)
    return [side / ffn for side, ffn in zip(sizes["side"], sizes["ffn"], strict=True)]
