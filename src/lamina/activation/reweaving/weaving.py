"""One place where Contextual Memory Reweaving gives a model its own earlier states back.

Attention of the present hidden state to the codes of each captured layer; what the heads gather is decoded to a hidden
state once (the reconstruction), the layers are mixed with "nothing" as one of them, and the sum goes through a matrix
that is zero at first: an untaught ``Reweave`` changes no bit of its model.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lamina.activation.reweaving.buffer import Kept, fade

_NULL_BIAS = 2.0  # "use nothing" is the default
_AGE_BIAS = -4.0  # next to no penalty for age
_SALIENCE_BIAS = 0.5


class Woven(NamedTuple):
    """``added`` ``(B, n, d)``, ``unused`` ``(B, n)`` the weight of nothing, ``read`` ``(B, places)`` how many
    positions' worth of reading each place had."""

    added: Tensor
    unused: Tensor
    read: Tensor


class Reweave(nn.Module):
    """Weights for one inject layer; ``layers`` captured layers, codes of ``code_dim``, ``heads`` over each."""

    def __init__(self, width: int, layers: int, code_dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, code_dim, bias=False)
        self.key = nn.Parameter(torch.randn(layers, code_dim, code_dim) * code_dim**-0.5)
        self.null = nn.Parameter(torch.zeros(layers, code_dim))
        self.decoder = nn.Parameter(torch.randn(layers, code_dim, width) * code_dim**-0.5)
        self.gate = nn.Linear(width, layers + 1)
        self.out = nn.Linear(width, width, bias=False)
        self.age = nn.Parameter(torch.tensor(_AGE_BIAS))
        self.salience = nn.Parameter(torch.full((heads,), _SALIENCE_BIAS))
        nn.init.normal_(self.query.weight, std=width**-0.5)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.gate.weight)
        with torch.no_grad():
            self.gate.bias.copy_(torch.tensor([0.0] * layers + [_NULL_BIAS]))

    def forward(self, hidden: Tensor, kept: Kept, readable: Tensor, positions: Tensor) -> Woven:
        """``hidden`` ``(B, n, d)`` at ``positions`` ``(n,)``; ``readable`` ``(B, n, places)``."""
        state = F.rms_norm(hidden, hidden.shape[-1:])
        weights = self._weights(state, kept, readable, positions)
        gate = self.gate(state).softmax(-1)
        codes = self._split(kept.codes)
        mixed = torch.einsum("bmhnp,bpmhe->bnmhe", weights, codes).flatten(-2)
        rebuilt = torch.einsum("bnme,med->bnd", mixed * gate[..., :-1, None], self.decoder)
        read = torch.einsum("bmhnp,bnm->bp", weights.detach(), gate[..., :-1].detach()) / self.heads
        return Woven(self.out(rebuilt), gate[..., -1], read)

    def reconstruct(self, codes: Tensor) -> Tensor:
        """``D_c z``: codes ``(B, n, layers, code_dim)`` as states ``(B, n, layers, d)`` of the inject layer."""
        return torch.einsum("bnme,med->bnmd", codes, self.decoder)

    def _split(self, codes: Tensor) -> Tensor:
        """``(..., code_dim)`` as ``(..., heads, code_dim / heads)``."""
        return codes.view(*codes.shape[:-1], self.heads, codes.shape[-1] // self.heads)

    def _weights(self, state: Tensor, kept: Kept, readable: Tensor, positions: Tensor) -> Tensor:
        """``(B, layers, heads, n, places)``; what is missing from a sum of 1 went to the null key."""
        query = self._split(self.query(state)) * (self.key.shape[-1] // self.heads) ** -0.5
        keys = self._split(torch.einsum("bpme,mef->bpmf", kept.codes, self.key))
        scores = torch.einsum("bnhe,bpmhe->bmhnp", query, keys)
        null = torch.einsum("bnhe,mhe->bmhn", query, self._split(self.null))
        age = (positions[:, None] - kept.positions[:, None]).clamp_min(0)
        bias = -F.softplus(self.age) * torch.log1p(age.to(scores.dtype))
        salient = fade(kept.salience[:, None], age).to(scores.dtype)
        bias = bias[:, None] + self.salience[:, None, None] * salient[:, None]
        scores = (scores + bias[:, None]).masked_fill(~readable[:, None, None], -torch.inf)
        return torch.cat([scores, null[..., None]], -1).softmax(-1)[..., :-1]
