"""The gated feed-forward block (SwiGLU, arXiv 2002.05202)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from lamina.nn import initialization
from lamina.nn.config import LaminaConfig
from lamina.nn.context import BlockContext


class SwiGLU(nn.Module):
    """``down(silu(gate(x)) * up(x))``. ``size``: inner channels, default the configuration's ``ffn_size``."""

    def __init__(self, config: LaminaConfig, *, size: int | None = None) -> None:
        super().__init__()
        inner = config.ffn_size if size is None else size
        self.gate = nn.Linear(config.hidden_size, inner, bias=False)
        self.up = nn.Linear(config.hidden_size, inner, bias=False)
        self.down = nn.Linear(inner, config.hidden_size, bias=False)

    def init_weights(self, config: LaminaConfig) -> None:
        initialization.linear(self.down, config, residual=True)

    def forward(self, x: Tensor, ctx: BlockContext) -> Tensor:  # noqa: ARG002 - the protocol of blocks
        """``(batch, time, width)`` to the same."""
        y: Tensor = self.down(F.silu(self.gate(x)) * self.up(x))
        return y
