"""Which cached tokens will still matter: scores from the attention of the last queries, larger is kept longer.

CAKE, arXiv 2503.12491, section 3 (preference of a layer, indicator of a token); SnapKV, arXiv 2404.14469 (the mean
alone). Everything is computed in float32 at least: variances of attention vanish in half precision.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

Indicator = Literal["cake", "snapkv", "recent", "random"]


def window_attention(query: Tensor, key: Tensor, valid: Tensor | None, scaling: float) -> Tensor:
    """``softmax(Q K^T)`` of the last ``w`` queries, ``(b, H, w, n)`` over ``n`` keys, causal at the lower right.

    ``query (b, H, w, d)``, ``key (b, H_kv, n, d)`` both rotated; ``valid (b, H_kv, n)`` is False for padding.
    A query that sees nothing attends nowhere.
    """
    batch, heads, count, width = query.shape
    groups, total = heads // key.shape[1], key.shape[2]
    wide = torch.promote_types(query.dtype, torch.float32)
    folded = query.to(wide).reshape(batch, key.shape[1], groups * count, width)
    scores = (folded @ key.to(wide).transpose(-1, -2) * scaling).view(batch, key.shape[1], groups, count, total)
    future = torch.arange(total, device=key.device) > torch.arange(total - count, total, device=key.device)[:, None]
    hidden = future if valid is None else future | ~valid[:, :, None, None, :]
    attention = scores.masked_fill(hidden, -torch.inf).softmax(-1)
    return torch.nan_to_num(attention, nan=0.0).view(batch, heads, count, total)


@dataclass(frozen=True, slots=True)
class Preference:
    """How much a layer wants of the budget, per row of the batch: spatial dispersion ``D`` and temporal shift ``V``."""

    dispersion: Tensor
    shift: Tensor

    def weight(self, tau: tuple[float, float]) -> float:
        """``D^(1/tau1) V^(1/tau2)``, averaged over rows."""
        return float((self.dispersion ** (1 / tau[0]) * self.shift ** (1 / tau[1])).mean())


def preference(attention: Tensor) -> Preference:
    """``D = -sum A log(A + 1e-10)`` and ``V = sum Var(A)`` over the queries (unbiased; 0 for one query), of
    ``attention (b, H, w, n)`` without the window's own columns."""
    dispersion = -(attention * (attention + 1e-10).log()).sum((1, 2, 3))
    return Preference(dispersion.clamp_min(0.0), _variance(attention).sum((1, 2)))


def scores(
    attention: Tensor, kv_heads: int, indicator: Indicator, *, gamma: float, pool: int, generator: torch.Generator
) -> Tensor:
    """A score of each of ``n`` tokens for each key-value head, ``(b, H_kv, n)``, from ``attention (b, H, w, n)``.

    ``cake``: mean plus ``gamma`` times variance over queries; ``snapkv``: the mean; both averaged over ``pool``
    neighbours (odd) and over the query heads of a group. ``recent``: the later the better; ``random``: by chance.
    """
    batch, heads, _, count = attention.shape
    if not count:
        return attention.new_zeros((batch, kv_heads, 0))
    if indicator == "recent":
        return torch.arange(count, dtype=attention.dtype).to(attention.device).expand(batch, kv_heads, count).clone()
    if indicator == "random":
        drawn = torch.rand((batch, kv_heads, count), generator=generator, dtype=attention.dtype)
        return drawn.to(attention.device)
    score = attention.mean(2)
    if indicator == "cake":
        score = score + gamma * _variance(attention)
    score = F.avg_pool1d(score, pool, stride=1, padding=pool // 2)
    return score.view(batch, kv_heads, heads // kv_heads, count).mean(2)


def _variance(attention: Tensor) -> Tensor:
    """Unbiased, over the queries."""
    if attention.shape[2] < 2 or not attention.numel():
        return torch.zeros_like(attention[:, :, 0])
    return attention.var(2)
