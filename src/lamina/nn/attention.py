"""Causal attention with rotary positions and grouped heads: the mixer that forgets nothing, or all beyond a window.

RoFormer, arXiv 2104.09864; grouped queries, arXiv 2305.13245; sliding windows as in Mistral, arXiv 2310.06825. Keys are
kept with their positions on, next to which of them are real and where they stand, so rows padded on the left, chunks
of a prompt and single tokens all go one way.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lamina.errors import InvalidInput
from lamina.nn import initialization
from lamina.nn.config import LaminaConfig
from lamina.nn.context import BlockContext, LayerState

_STATE = ("attention.keys", "attention.values", "attention.places", "attention.real")


class CausalMixing(nn.Module):
    """Mixes values over time by queries and keys, wherever those come from; without weights of its own.

    ``window``: a query sees itself and the ``window - 1`` tokens before it; ``None``: all.
    """

    def __init__(self, config: LaminaConfig, *, window: int | None = None) -> None:
        super().__init__()
        if window is not None and (isinstance(window, bool) or not isinstance(window, int) or window < 1):
            raise InvalidInput(f"window={window!r}: give the tokens that a query sees, from 1, or None for all")
        if config.head_dim % 2:
            raise InvalidInput(f"head_dim={config.head_dim} is odd: rotary positions turn pairs of channels")
        self.heads, self.kv_heads, self.head_dim = config.num_heads, config.num_kv_heads, config.head_dim
        self.window, self.theta = window, config.rope_theta

    def mixed(self, query: Tensor, key: Tensor, value: Tensor, ctx: BlockContext) -> Tensor:
        """``query`` ``(batch, time, heads * head_dim)`` to the same; ``key`` and ``value`` have ``kv_heads``."""
        q, k, v = (each.view(*each.shape[:2], -1, self.head_dim).transpose(1, 2) for each in (query, key, value))
        q, k = (rotate(heads, ctx.positions, self.theta) for heads in (q, k))
        places, real = ctx.positions, ctx.mask
        past = ctx.state is not None and _STATE[0] in ctx.state.tensors
        if past:
            k, v, places, real = self._after_past(k, v, ctx)
        if past or self.window is not None or ctx.padded:
            seen = self._seen(ctx, places, real)
            found = F.scaled_dot_product_attention(q, k, v, attn_mask=seen[:, None], enable_gqa=True)
        else:
            found = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        if ctx.state is not None:
            self._keep(ctx.state, k, v, places, real)
        return found.transpose(1, 2).flatten(2)

    def _after_past(self, k: Tensor, v: Tensor, ctx: BlockContext) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        assert ctx.state is not None
        old = [ctx.state.tensors[name] for name in _STATE]
        keys, values = torch.cat([old[0], k], dim=2), torch.cat([old[1], v], dim=2)
        return keys, values, torch.cat([old[2], ctx.positions], dim=1), torch.cat([old[3], ctx.mask], dim=1)

    def _seen(self, ctx: BlockContext, places: Tensor, real: Tensor) -> Tensor:
        """bool ``(batch, queries, keys)``. Every query sees itself, padded ones too: none of them may be nothing."""
        time, keys = ctx.positions.shape[1], places.shape[1]
        apart = ctx.positions[:, :, None] - places[:, None]
        near = (apart >= 0) & real[:, None] & ctx.mask[:, :, None]
        if self.window is not None:
            near &= apart < self.window
        itself = torch.eye(time, dtype=torch.bool, device=near.device)
        return near | F.pad(itself, (keys - time, 0))

    def _keep(self, state: LayerState, k: Tensor, v: Tensor, places: Tensor, real: Tensor) -> None:
        """All keys, or from the first on that the next query of any row may see."""
        first = 0
        if self.window is not None:
            newest = places.masked_fill(~real, -1).amax(1, keepdim=True)
            wanted = (real & (places > newest + 1 - self.window)).any(0)
            first = int(wanted.int().argmax()) if bool(wanted.any()) else places.shape[1]
        kept = (k[:, :, first:], v[:, :, first:], places[:, first:], real[:, first:])
        state.tensors |= dict(zip(_STATE, kept, strict=True))

    def state_bytes(self, time: int, el: int = 4) -> int:
        """Bytes that a row of ``time`` tokens keeps, in elements of ``el`` bytes (and 9 for place and mark)."""
        kept = time if self.window is None else min(time, self.window - 1)
        return int(kept * (2 * self.kv_heads * self.head_dim * el + 9))

    def macs_of_mixing(self, time: int) -> int:
        """Multiply-adds of the mean token of ``time``: scores and values of what it sees."""
        widest = time if self.window is None else min(time, self.window)
        seen = (widest * (widest + 1) / 2 + (time - widest) * widest) / time
        return int(2 * self.heads * self.head_dim * seen)


class Attention(CausalMixing):
    """Queries, keys and values by a matrix each, and one after the mixing."""

    def __init__(self, config: LaminaConfig, *, window: int | None = None) -> None:
        super().__init__(config, window=window)
        width = config.hidden_size
        self.query = nn.Linear(width, self.heads * self.head_dim, bias=False)
        self.key = nn.Linear(width, self.kv_heads * self.head_dim, bias=False)
        self.value = nn.Linear(width, self.kv_heads * self.head_dim, bias=False)
        self.out = nn.Linear(self.heads * self.head_dim, width, bias=False)

    def init_weights(self, config: LaminaConfig) -> None:
        initialization.linear(self.out, config, residual=True)

    def forward(self, x: Tensor, ctx: BlockContext) -> Tensor:
        """``(batch, time, width)`` to the same."""
        y: Tensor = self.out(self.mixed(self.query(x), self.key(x), self.value(x), ctx))
        return y

    def macs_per_token(self, time: int) -> int:
        """Multiply-adds of the mean token of ``time``: the four matrices and the mixing."""
        matrices = sum(projection.weight.numel() for projection in (self.query, self.key, self.value, self.out))
        return matrices + self.macs_of_mixing(time)


def rotate(x: Tensor, positions: Tensor, theta: float) -> Tensor:
    """``x`` ``(batch, heads, time, d)`` turned by ``positions`` ``(batch, time)``; differentiable, dtype as ``x``."""
    half = x.shape[-1] // 2
    steps = torch.arange(half, device=x.device, dtype=torch.float64)
    angles = positions[:, None, :, None].double() * theta ** (-steps / half)
    cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    first, second = x[..., :half], x[..., half:]
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)
