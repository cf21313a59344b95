"""What the memories chosen for a question become: the soft tokens that stand before it.

``weighted_sum`` is CMT's own (arXiv 2412.07393): one memory that is the average of the chosen, by their weights.
``CrossAttention`` is the aggregator of MAC (Tack et al., arXiv 2403.04317): question tokens look for what they need
among all tokens of the chosen memories, in several blocks of attention and a feed-forward layer. It can take different
facts from different documents, where a sum mixes them.

Unusual: attention here adds the log of a memory's weight to the scores of its tokens, so that what was found to match
better, or to be newer, counts as it does in the sum, and the matching learns from reading; and what the tokens gather
is added to the weighted sum, from 0 in the beginning, so that learning starts with a memory that can be read.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lamina.activation.documents.objective import spread

BLOCKS, HEADS = 4, 8
_LEAST = 1e-6  # of a weight: at 0 its logarithm has no gradient


def weighted_sum(memories: Tensor, places: Tensor, weights: Tensor) -> Tensor:
    """``(n, tokens, width)`` of ``memories`` (documents, tokens, width) by ``weights`` (n, k) of ``places`` (n, k)."""
    return torch.einsum("nd,dtw->ntw", spread(places, weights, len(memories)), memories)


class Block(nn.Module):
    """``x + attention(x to the memories)``, then ``x + feed-forward(x)``, each on normalised input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        inner = HEADS * max(1, width // HEADS)
        self.ask, self.look = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query = nn.Linear(width, inner, bias=False)
        self.key_value = nn.Linear(width, 2 * inner, bias=False)
        self.out = nn.Linear(inner, width, bias=False)
        self.think = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, x: Tensor, tokens: Tensor, bias: Tensor) -> Tensor:
        """``x`` (n, t, width), ``tokens`` (n, s, width), ``bias`` (n, s) added to every score of a token."""
        keys, values = self.key_value(self.look(tokens)).chunk(2, -1)
        query, key, value = (
            y.unflatten(-1, (HEADS, -1)).transpose(1, 2) for y in (self.query(self.ask(x)), keys, values)
        )
        found = F.scaled_dot_product_attention(query, key, value, attn_mask=bias[:, None, None])
        x = x + self.out(found.transpose(1, 2).flatten(2))
        return x + self.think(x)  # type: ignore[no-any-return]


class CrossAttention(nn.Module):
    """``tokens`` learned tokens behind a question, whose last states cross-attend what was found.

    Soft tokens are of size ``scale``; initial weights come from torch's current seed.
    """

    def __init__(self, tokens: int, width: int, scale: float) -> None:
        super().__init__()
        self.scale = scale
        self.question_tokens = nn.Parameter(scale * torch.randn(tokens, width))
        self.blocks = nn.ModuleList(Block(width) for _ in range(BLOCKS))
        self.normal, self.out = nn.LayerNorm(width), nn.Linear(width, width, bias=False)
        nn.init.zeros_(self.out.weight)

    def forward(self, asked: Tensor, memories: Tensor, places: Tensor, weights: Tensor) -> Tensor:
        """As ``weighted_sum``, for the states ``asked`` (n, tokens, width) of the question tokens."""
        tokens = memories[places].flatten(1, 2)
        bias = weights.clamp(min=_LEAST).log().repeat_interleave(memories.shape[1], 1)
        x = asked
        for block in self.blocks:
            x = block(x, tokens, bias)
        return weighted_sum(memories, places, weights) + self.scale * cast("Tensor", self.out(self.normal(x)))
