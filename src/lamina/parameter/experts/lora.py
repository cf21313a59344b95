"""A low-rank adapter that learns: its shape, its first weights, and the hooks under which it is trained.

LoRA (arXiv 2106.09685): ``W0 + (alpha / r) B A`` with ``A`` Kaiming-uniform and ``B = 0``, so that a new adapter
changes nothing, on every linear map of the chosen layers. Serving is ``lamina.parameter.adapters``; training differs
from it in two things only: dropout before ``A``, and a base that is frozen for the time. The output layer is left
alone: it is usually tied to the embedding.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lamina._optional import require
from lamina.errors import InvalidInput
from lamina.llm.causal import CausalLM
from lamina.parameter.adapters import LoRA, linear

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Shape:
    """The form of an adapter: rank, ``alpha`` (the scale is ``alpha / rank``), and the layers it sits on."""

    rank: int = 16
    alpha: float = 32.0
    layers: tuple[int, ...] | None = None  # None: all

    def __post_init__(self) -> None:
        if self.rank < 1 or self.alpha <= 0:
            raise InvalidInput(f"{self!r}: rank and alpha must be positive")


def fresh(lm: CausalLM, shape: Shape, *, seed: int = 0) -> LoRA:
    """A new adapter in the dtype and on the device of ``lm``; its tensors require gradients.

    Raises ``InvalidInput`` for layers that the model does not have.
    """
    torch = require("torch", "an adapter")
    random = torch.Generator().manual_seed(seed)
    pairs = {}
    for name in targets(lm, shape.layers):
        weight = linear(lm, name).weight
        down = torch.empty(shape.rank, weight.shape[1], dtype=torch.float32)
        torch.nn.init.kaiming_uniform_(down, a=math.sqrt(5), generator=random)
        up = torch.zeros(weight.shape[0], shape.rank)
        pairs[name] = tuple(each.to(weight.device, weight.dtype).requires_grad_() for each in (down, up))
    return LoRA(pairs, float(shape.alpha))


def targets(lm: CausalLM, layers: tuple[int, ...] | None) -> list[str]:
    """Names of the linear maps in ``layers`` (``None``: all) of the model's body."""
    torch, body = require("torch", "an adapter"), lm.model.base_model
    depth = int(lm.model.config.num_hidden_layers)
    chosen = set(range(depth)) if layers is None else set(layers)
    if not chosen or not chosen <= set(range(depth)):
        raise InvalidInput(f"layers={layers!r} of an adapter: {lm.name} has layers 0 to {depth - 1}")
    return [
        name
        for name, module in body.named_modules()
        if isinstance(module, torch.nn.Linear) and name.startswith("layers.") and int(name.split(".")[1]) in chosen
    ]


def lowest_layer(lora: LoRA) -> int:
    """The first layer that an adapter changes."""
    return min(int(name.split(".")[1]) for name in lora.pairs)


@contextmanager
def learning(lm: CausalLM, lora: LoRA, *, dropout: float = 0.0) -> Iterator[None]:
    """The model under ``lora`` with dropout on its inputs, and every weight of its own frozen, for the block.

    Holds the model's lock. Afterwards the model is as it was. Raises ``InvalidInput`` if an adapter is worn already.
    """
    with lm.lock:
        if lm.overlay:
            raise InvalidInput(
                f"lm.overlay={lm.overlay!r}: training starts from the bare model; leave that block first"
            )
        thawed = [weight for weight in lm.model.parameters() if weight.requires_grad]
        handles = [
            linear(lm, name).register_forward_hook(_hook(down, up, lora.scale, dropout))
            for name, (down, up) in lora.pairs.items()
        ]
        lm.overlay = "learning"
        try:
            lm.model.requires_grad_(False)
            yield
        finally:
            for weight in thawed:
                weight.requires_grad_(True)
            for handle in handles:
                handle.remove()
            lm.overlay = ""


def _hook(
    down: Tensor, up: Tensor, scale: float, dropout: float
) -> Callable[[Any, tuple[Tensor, ...], Tensor], Tensor]:
    torch = require("torch", "an adapter")

    def add(_module: Any, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        read = torch.nn.functional.dropout(inputs[0], dropout) if dropout else inputs[0]
        changed: Tensor = output + (read @ down.T) @ up.T * scale
        return changed

    return add
