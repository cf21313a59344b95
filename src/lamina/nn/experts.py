"""A mixture of experts without dropped tokens: many narrow feed-forward blocks, of which each token reads a few.

Switch Transformer, arXiv 2101.03961 (the loss that keeps experts in use), with several experts a token whose weights
add up to one. Fine-grained experts (arXiv 2401.06066) are a matter of ``experts`` and ``size``. It stands beside memory
layers as their fair rival: also many parameters, few of them read.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import initialization

from lamina.errors import InvalidInput
from lamina.nn.config import LaminaConfig
from lamina.nn.context import BlockContext
from lamina.nn.initialization import spread


class MixtureOfExperts(nn.Module):
    """``experts`` SwiGLU blocks of ``size`` inner channels, the ``top_k`` likeliest for each token. ``balance``: weight
    of the loss that spreads tokens over experts."""

    def __init__(
        self, config: LaminaConfig, *, experts: int = 8, top_k: int = 2, size: int | None = None, balance: float = 1e-2
    ) -> None:
        super().__init__()
        inner = config.ffn_size if size is None else size
        if not 1 <= top_k <= experts:
            raise InvalidInput(f"top_k={top_k!r}: give from 1 to experts={experts!r}")
        if inner < 1 or balance < 0:
            raise InvalidInput(f"size={size!r}, balance={balance!r}: give inner channels from 1, and a weight from 0")
        self.top_k, self.balance = top_k, balance
        width = config.hidden_size
        self.router = nn.Linear(width, experts, bias=False)
        self.gate = nn.Parameter(torch.empty(experts, inner, width))
        self.up = nn.Parameter(torch.empty(experts, inner, width))
        self.down = nn.Parameter(torch.empty(experts, width, inner))

    def init_weights(self, config: LaminaConfig) -> None:
        for weight in (self.gate, self.up):
            initialization.normal_(weight, 0.0, spread(config.hidden_size, config))
        scale = (2 * config.num_hidden_layers) ** -0.5
        initialization.normal_(self.down, 0.0, scale * spread(self.down.shape[-1], config))

    def forward(self, x: Tensor, ctx: BlockContext) -> Tensor:
        """``(batch, time, width)`` to the same. Padded tokens are not routed: nothing is added to them."""
        tokens = x[ctx.mask]
        chances = self.router(tokens).softmax(-1, dtype=torch.promote_types(x.dtype, torch.float32))
        weight, chosen = chances.topk(self.top_k, dim=-1)
        weight = (weight / weight.sum(-1, keepdim=True)).to(x.dtype)
        mixed = torch.zeros_like(tokens)
        for expert in chosen.unique().tolist():
            row, place = (chosen == expert).nonzero(as_tuple=True)
            read = tokens[row]
            answer = (F.silu(read @ self.gate[expert].T) * (read @ self.up[expert].T)) @ self.down[expert].T
            mixed = mixed.index_add(0, row, weight[row, place, None] * answer)
        if self.balance and self.training and len(tokens):
            ctx.aux.append(self.balance * balancing(chances, chosen))
        ctx.tell("experts", chosen)
        return torch.zeros_like(x).masked_scatter(ctx.mask[..., None], mixed)

    def bytes_read_per_token(self) -> int:
        """The router, and the experts that a token is sent to."""
        one = sum(each[0].nbytes for each in (self.gate, self.up, self.down))
        return int(self.router.weight.nbytes + self.top_k * one)

    def macs_per_token(self, time: int) -> int:  # noqa: ARG002 - the same at any length
        one = sum(each[0].numel() for each in (self.gate, self.up, self.down))
        return int(self.router.weight.numel() + self.top_k * one)


def balancing(chances: Tensor, chosen: Tensor) -> Tensor:
    """Switch's loss, summed over the choices: ``experts * sum_s sum_e f_se P_e``, with ``f_se`` the share of tokens
    whose ``s``-th choice is ``e`` (no gradient) and ``P_e`` the mean chance of ``e``; ``top_k`` at best.

    ``chances`` ``(tokens, experts)``, ``chosen`` int64 ``(tokens, top_k)``."""
    experts = chances.shape[-1]
    shares = F.one_hot(chosen, experts).to(chances.dtype).mean(0)
    return experts * (shares.sum(0) * chances.mean(0)).sum()
