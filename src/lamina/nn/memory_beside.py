"""A memory beside every feed-forward block of a model that was trained without one.

Nothing is changed at first: what the memories give goes through a matrix that begins as zeros (UltraMemV2,
arXiv 2508.18756, has the memory in parallel to the block, on the same normalised input). The model is changed in place;
its new weights are in its ``state_dict``, under ``mlp.memory``, and what it had under ``mlp`` is under ``mlp.block``.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from lamina.errors import InvalidInput
from lamina.nn.config import LaminaConfig
from lamina.nn.context import whole
from lamina.nn.memory_layer import UltraMemV2


class Beside(nn.Module):
    """``block(x) + memory(x)``. Every token reads, padded ones too: what they read changes no other."""

    def __init__(self, block: nn.Module, memory: UltraMemV2) -> None:
        super().__init__()
        self.block, self.memory = block, memory

    def forward(self, x: Tensor) -> Tensor:
        """``(batch, time, width)`` to the same."""
        y: Tensor = self.block(x) + self.memory(x, whole(x))
        return y


def add_memories(model: PreTrainedModel, **settings: Any) -> list[UltraMemV2]:
    """Put an ``UltraMemV2`` of these settings beside the ``mlp`` of every layer of ``model``, a decoder laid out like
    Llama; the memories, in the order of layers. At first the model says what it said.

    Raises ``InvalidInput`` for a model without such layers, one that has memories, and settings that do not fit.
    """
    layers = getattr(getattr(model, "model", None), "layers", None)
    blocks = [getattr(layer, "mlp", None) for layer in layers or ()]
    if not blocks or None in blocks or any(isinstance(block, Beside) for block in blocks):
        raise InvalidInput(f"model={type(model).__name__}: give one with model.layers[i].mlp, and without memories")
    if asked := {name for name in ("penalty", "balance") if settings.get(name)}:
        raise InvalidInput(f"{sorted(asked)} join the loss of this library's own decoder; leave them out here")
    config = _like(model)
    memories = [UltraMemV2(config, **settings) for _ in blocks]
    for number, (layer, block, memory) in enumerate(zip(layers or (), blocks, memories, strict=True)):
        assert block is not None
        memory.join(number, memories)
        with torch.no_grad():
            memory.init_weights(config)
            memory.out.weight.zero_()
        weight = next(block.parameters())
        layer.mlp = Beside(block, memory.to(weight.device, weight.dtype).train(model.training))
    return memories


def _like(model: PreTrainedModel) -> LaminaConfig:
    told: Any = model.config
    return LaminaConfig(
        vocab_size=told.vocab_size,
        hidden_size=told.hidden_size,
        num_hidden_layers=told.num_hidden_layers,
        num_heads=1,
        ffn_size=told.intermediate_size,
        norm_eps=told.rms_norm_eps,
    )
