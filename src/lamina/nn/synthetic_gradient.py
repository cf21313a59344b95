"""What the future will want of a state, guessed: gradients across a boundary that nothing is stored beyond.

Decoupled Neural Interfaces, arXiv 1608.05343. The module learns to predict the gradient of all later losses with
respect to the state at a boundary, from what is known there. Its last layer begins at zero, so training begins as plain
truncated backpropagation. What is unusual: beside the state it sees the inputs of the window that just ended and two
fading traces of random features of the whole past. What should have been stored is not in the state as long as storing
is not learned, so a guess from the state alone begins blind.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lamina.errors import InvalidInput

FADING = (0.85, 0.97)  # of the traces
_FEATURES = 96


class InputTraces(nn.Module):
    """Fading means of fixed random features ``relu(R x + b)`` of the inputs so far: constant bytes, nothing learned."""

    def __init__(self, inputs: int, *, features: int = _FEATURES, seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.weight: Tensor
        self.bias: Tensor
        self.register_buffer("weight", torch.randn(features, inputs, generator=generator))
        self.register_buffer("bias", torch.randn(features, generator=generator))

    @property
    def width(self) -> int:
        return len(FADING) * len(self.bias)

    def begin(self, batch: int) -> Tensor:
        """Traces ``(batch, width)`` of no input."""
        return self.bias.new_zeros(batch, self.width)

    def after(self, traces: Tensor, x: Tensor) -> Tensor:
        """``traces`` after one more input ``(batch, inputs)``."""
        seen = F.linear(x, self.weight, self.bias).relu().repeat(1, len(FADING))
        kept = torch.tensor(FADING, dtype=x.dtype, device=x.device).repeat_interleave(len(self.bias))
        return kept * traces + (1 - kept) * seen


class SyntheticGradient(nn.Module):
    """A state ``(batch, state_dim)`` and its conditions ``(batch, cond_dim)`` to a gradient ``(batch, state_dim)``, of
    the sum of all later losses of the row. Two layers; raises ``InvalidInput`` for sizes below one."""

    def __init__(self, state_dim: int, cond_dim: int, hidden: int = 256) -> None:
        super().__init__()
        if min(state_dim, hidden) < 1 or cond_dim < 0:
            raise InvalidInput(f"state_dim={state_dim!r}, cond_dim={cond_dim!r}, hidden={hidden!r}: give sizes from 1")
        self.state_dim, self.cond_dim = state_dim, cond_dim
        self.inner = nn.Linear(state_dim + cond_dim, hidden)
        self.out = nn.Linear(hidden, state_dim)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, state: Tensor, conditions: Tensor) -> Tensor:
        if state.shape[-1] != self.state_dim or conditions.shape[-1] != self.cond_dim:
            raise InvalidInput(
                f"state of {state.shape[-1]} and conditions of {conditions.shape[-1]} numbers: this one was made for "
                f"{self.state_dim} and {self.cond_dim}"
            )
        guess: Tensor = self.out(self.inner(torch.cat([state, conditions], dim=-1)).relu())
        return guess
