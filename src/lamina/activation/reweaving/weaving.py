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
_SALIENCE_BIAS = -0.43  # softplus of it is half a unit of score for each of salience


class View(NamedTuple):
    """How ``n`` positions see the places of a ``Kept``, all ``(B, n, places)``: bool ``readable``, what salience each
    has by then, and ``age``, the logarithm of one more than its age in tokens. Every inject layer shares it."""

    readable: Tensor
    salience: Tensor
    age: Tensor

    @classmethod
    def of(cls, kept: Kept, readable: Tensor, positions: Tensor) -> View:
        """Of what is ``readable`` from ``positions`` ``(n,)``."""
        age = (positions[:, None] - kept.positions[:, None]).clamp_min(0)
        dtype = kept.codes.dtype
        return cls(readable, fade(kept.salience[:, None], age).to(dtype), age.to(dtype).log1p())


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

    def forward(self, hidden: Tensor, kept: Kept, view: View) -> Woven:
        """``hidden`` ``(B, n, d)`` at the positions that ``view`` of ``kept`` is made for."""
        state = F.rms_norm(hidden, hidden.shape[-1:])
        weights = self._weights(state, kept, view)
        gate = self.gate(state).softmax(-1)
        used = gate[..., :-1].permute(0, 2, 1)[:, :, None]  # (B, layers, 1, n)
        codes = self._split(kept.codes).permute(0, 2, 3, 1, 4)
        mixed = (weights @ codes) * used[..., None]  # (B, layers, heads, n, code_dim / heads)
        # Decoding all layers is one product: the sum over them is part of it.
        rebuilt = mixed.permute(0, 3, 1, 2, 4).flatten(2) @ self.decoder.flatten(0, 1)
        read = (used.detach()[..., None, :] @ weights.detach()).sum((1, 2, 3)) / self.heads
        return Woven(self.out(rebuilt), gate[..., -1], read)

    def reconstruct(self, codes: Tensor) -> Tensor:
        """``D_c z``: codes ``(B, n, layers, code_dim)`` as states ``(B, n, layers, d)`` of the inject layer."""
        return torch.einsum("bnme,med->bnmd", codes, self.decoder)

    def _split(self, codes: Tensor) -> Tensor:
        """``(..., code_dim)`` as ``(..., heads, code_dim / heads)``."""
        return codes.reshape(*codes.shape[:-1], self.heads, codes.shape[-1] // self.heads)

    def _weights(self, state: Tensor, kept: Kept, view: View) -> Tensor:
        """``(B, layers, heads, n, places)``; what is missing from a sum of 1 went to the null key."""
        query = self._split(self.query(state)).transpose(1, 2) * (self.key.shape[-1] // self.heads) ** -0.5
        keys = self._split(kept.codes.transpose(1, 2) @ self.key).permute(0, 1, 3, 4, 2)
        null = self._split(self.null)[None, ..., None].expand(len(keys), -1, -1, -1, -1)
        # Were either sign allowed, the salience of what is useful to read could be learned downwards.
        bias = (
            -F.softplus(self.age) * view.age[:, None]
            + F.softplus(self.salience)[:, None, None] * view.salience[:, None]
        )
        bias = F.pad(bias.masked_fill(~view.readable[:, None], -torch.inf), (0, 1))
        scores: Tensor = query[:, None] @ torch.cat([keys, null], -1) + bias[:, None]
        return scores.softmax(-1)[..., :-1]
