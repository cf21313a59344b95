"""Gives a trained model of attention a memory of constant size: windows of attention, Synaptic Resonance beside them.

The branch begins with a factor of 0 (ReZero, arXiv 2003.04887), so the new model says what the old one would with those
windows; on texts no longer than a window, exactly what the old one says. What lies further back is for the branch to
learn.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch

from lamina.errors import InvalidInput
from lamina.nn.config import LaminaConfig
from lamina.nn.decoder import LaminaForCausalLM

_OURS = "synaptic_resonance"


def retrofit(model: LaminaForCausalLM, layers: Collection[int], window: int, **settings: Any) -> LaminaForCausalLM:
    """A new model with the weights of ``model``; its ``layers`` attend to ``window`` tokens and have a branch of
    ``settings`` (of ``SynapticResonance``). Branches are drawn from torch's generator.

    Raises ``InvalidInput`` for layers that there are not, or whose mixer is not attention.
    """
    old = model.config
    assert isinstance(old, LaminaConfig)
    count = old.num_hidden_layers
    mixers = [old.name_of("mixer", layer) for layer in range(count)]
    for layer in layers:
        if not 0 <= layer < count or mixers[layer] != "attention":
            raise InvalidInput(f"layers={sorted(layers)!r}: layer {layer} is no attention; mixers are {mixers}")
    told = old.to_dict() | {
        "mixer": [_OURS if layer in layers else name for layer, name in enumerate(mixers)],
        "block": {**old.block, _OURS: {**settings, "window": window, "scale": 0.0}},
    }
    made = LaminaForCausalLM(LaminaConfig(**told))
    made.to(model.lm_head.weight.dtype)
    moved = {f"model.layers.{layer}.mixer.": f"model.layers.{layer}.mixer.attention." for layer in layers}
    weights = made.state_dict()
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            before = next((prefix for prefix in moved if name.startswith(prefix)), None)
            weights[name if before is None else moved[before] + name.removeprefix(before)].copy_(tensor)
    made.train(model.training)
    return made
