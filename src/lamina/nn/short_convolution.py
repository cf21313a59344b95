"""A short causal convolution along time, channel by channel: what lets one token carry its neighbour.

Associative recall needs it wherever the mixer itself cannot compare a token with the one before (H3, arXiv 2212.14052).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers import initialization

from lamina.nn.config import LaminaConfig


class ShortConvolution(nn.Module):
    """``(batch, time, channels)`` to the same; tap ``taps - 1`` is the token itself, before the first stand zeros."""

    def __init__(self, channels: int, taps: int = 4) -> None:
        super().__init__()
        self.channels, self.taps = channels, taps
        self.conv = nn.Conv1d(channels, channels, taps, groups=channels, bias=False)

    def init_weights(self, config: LaminaConfig) -> None:  # noqa: ARG002 - the protocol of blocks
        """Taps N(0, 1 / taps)."""
        initialization.normal_(self.conv.weight, 0.0, self.taps**-0.5)

    def forward(self, x: Tensor, tail: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The convolution after ``tail`` ``(batch, taps - 1, channels)``, what came before ``x`` (default: zeros),
        and the tail for what comes after. Padded tokens must be zeros."""
        if tail is None:
            tail = x.new_zeros(x.shape[0], self.taps - 1, self.channels)
        whole = torch.cat([tail.to(x.dtype), x], dim=1)
        y: Tensor = self.conv(whole.transpose(1, 2)).transpose(1, 2)
        return y, whole[:, whole.shape[1] - (self.taps - 1) :]

    def macs_per_token(self, time: int) -> int:  # noqa: ARG002 - the same at any length
        return self.taps * self.channels
