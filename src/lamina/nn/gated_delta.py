"""Gated DeltaNet (arXiv 2412.06464): one matrix a head is all that the mixer keeps of the past.

The state has the same bytes at any length: ``heads * key_dim * value_dim`` float32, and the tails of the three short
convolutions. What is written under a key that is there already replaces it; what is not decayed stays.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import initialization

from lamina.errors import InvalidInput
from lamina.nn import initialization as beginning
from lamina.nn.config import LaminaConfig
from lamina.nn.context import BlockContext
from lamina.nn.linear_recurrence import CHUNK, gated_delta_chunk
from lamina.nn.short_convolution import ShortConvolution

_WRITES = 2.0  # bias of the write gate: at first nearly all is written
_DECAY = 0.02  # A: at first nearly nothing fades, or no long gap is ever bridged in a short training


class GatedDelta(nn.Module):
    """``heads`` (default: the configuration's) of keys of ``key_dim`` and values of ``value_dim`` (default: its
    ``head_dim``). ``taps`` of the convolutions on queries, keys and values; 0 for none."""

    def __init__(
        self,
        config: LaminaConfig,
        *,
        heads: int | None = None,
        key_dim: int | None = None,
        value_dim: int | None = None,
        taps: int = 4,
        chunk: int = CHUNK,
    ) -> None:
        super().__init__()
        self.heads = config.num_heads if heads is None else heads
        self.key_dim = config.head_dim if key_dim is None else key_dim
        self.value_dim = config.head_dim if value_dim is None else value_dim
        if min(self.heads, self.key_dim, self.value_dim) < 1 or taps < 0:
            raise InvalidInput(f"heads={heads!r}, key_dim={key_dim!r}, value_dim={value_dim!r}, taps={taps!r}: too few")
        self.chunk = chunk
        width, keys, values = config.hidden_size, self.heads * self.key_dim, self.heads * self.value_dim
        self.query = nn.Linear(width, keys, bias=False)
        self.key = nn.Linear(width, keys, bias=False)
        self.value = nn.Linear(width, values, bias=False)
        self.strength = nn.Linear(width, self.heads)
        self.fade = nn.Linear(width, self.heads)
        self.log_decay = nn.Parameter(torch.empty(self.heads))
        self.conv = ShortConvolution(2 * keys + values, taps) if taps else None
        self.norm = nn.RMSNorm(self.value_dim, config.norm_eps)
        self.gate = nn.Linear(width, values, bias=False)
        self.out = nn.Linear(values, width, bias=False)

    def init_weights(self, config: LaminaConfig) -> None:
        initialization.constant_(self.strength.bias, _WRITES)
        initialization.zeros_(self.fade.bias)
        initialization.constant_(self.log_decay, torch.tensor(_DECAY).log().item())
        beginning.linear(self.out, config, residual=True)

    def forward(self, x: Tensor, ctx: BlockContext) -> Tensor:
        """``(batch, time, width)`` to the same."""
        kept = {} if ctx.state is None else ctx.state.tensors
        real = ctx.mask[..., None]
        mixed = torch.cat([self.query(x), self.key(x), self.value(x)], dim=-1) * real
        tail = None
        if self.conv is not None:
            mixed, tail = self.conv(mixed, kept.get("delta.tail"))
            mixed = F.silu(mixed)
        keys = self.heads * self.key_dim
        q, k, v = torch.split(mixed, [keys, keys, self.heads * self.value_dim], dim=-1)
        q, k = (F.normalize(self._by_head(each, self.key_dim), dim=-1) for each in (q, k))
        b = (self.strength(x).sigmoid() * real).transpose(1, 2)
        a = (-self.log_decay.exp() * F.softplus(self.fade(x)) * real).transpose(1, 2)
        values = self._by_head(v, self.value_dim)
        scaled = q * self.key_dim**-0.5
        read, state = gated_delta_chunk(scaled, k, values, b, a, kept.get("delta.state"), chunk=self.chunk)
        if ctx.state is not None:
            ctx.state.tensors |= {"delta.state": state} | ({} if tail is None else {"delta.tail": tail})
        gated = self.norm(read.transpose(1, 2)).flatten(2) * F.silu(self.gate(x))
        y: Tensor = self.out(gated)
        return y

    def _by_head(self, x: Tensor, size: int) -> Tensor:
        return x.view(*x.shape[:-1], self.heads, size).transpose(1, 2)

    def state_bytes(self, time: int, el: int = 4) -> int:  # noqa: ARG002 - the same at any length
        """Bytes that a row keeps; the matrices are float32 whatever ``el``, the tails in elements of ``el`` bytes."""
        tail = 0 if self.conv is None else (self.conv.taps - 1) * self.conv.channels * el
        return 4 * self.heads * self.key_dim * self.value_dim + tail

    def macs_per_token(self, time: int) -> int:  # noqa: ARG002
        """Matrices, convolution, and four products with the state (as step by step: fade, error, write, read)."""
        matrices = (self.query, self.key, self.value, self.strength, self.fade, self.gate, self.out)
        own = sum(each.weight.numel() for each in matrices)
        conv = 0 if self.conv is None else self.conv.macs_per_token(1)
        return own + conv + 4 * self.heads * self.key_dim * self.value_dim
