"""How weights begin: one place, so that arms of a comparison begin alike.

Through transformers' own functions, which leave alone what was loaded from a checkpoint. Matrices are drawn with a
standard deviation of ``1/sqrt(fan_in)`` in narrow models (below 256 channels) and 0.02 in wide ones; what writes into
the residual stream is smaller by ``sqrt(2 layers)`` (GPT-2), so that the stream does not grow with depth.
"""

from __future__ import annotations

from torch import nn
from transformers import initialization

from lamina.nn.config import LaminaConfig

_NARROW = 256  # channels below which 0.02 would leave a signal too small


def spread(fan_in: int, config: LaminaConfig) -> float:
    """The standard deviation for a matrix that reads ``fan_in`` channels."""
    return fan_in**-0.5 if config.hidden_size < _NARROW else 0.02


def linear(module: nn.Linear, config: LaminaConfig, *, residual: bool = False) -> None:
    """``residual``: its output joins the stream."""
    scale = (2 * config.num_hidden_layers) ** -0.5 if residual else 1.0
    initialization.normal_(module.weight, 0.0, scale * spread(module.in_features, config))
    if module.bias is not None:
        initialization.zeros_(module.bias)


def default(module: nn.Module, config: LaminaConfig) -> None:
    """What no block has rules of its own for: matrices, embeddings, norms."""
    if isinstance(module, nn.Linear):
        linear(module, config)
    elif isinstance(module, nn.Embedding):
        initialization.normal_(module.weight, 0.0, 0.02)
    elif isinstance(module, nn.RMSNorm | nn.LayerNorm):
        for name, parameter in module.named_parameters():
            (initialization.zeros_ if name == "bias" else initialization.ones_)(parameter)
