"""How much a token belongs to what is being read: the gate of Synaptic Resonance.

A trace ``c`` follows the features ``u`` of those tokens that resonate with it, and of no others. So the gate asks not
what a token is, but whether it fits the context so far; the same token passes in one text and is shut out in another:

    near_t  = cos(u_t, c_{t-1})
    m_t     = m_{t-1} + 0.01 (near_t - m_{t-1})                            m_0 = 0
    r_t     = sigmoid(sharpness * (near_t - clamp(base + m_t, -0.5, 0.9)))
    c_t     = c_{t-1} + (1 - keep) r_t (u_t - c_{t-1})                     c_0 small, learned

``m`` is a homeostatic threshold, as in the rule of Bienenstock, Cooper and Munro (1982): where everything resonates it
rises, so the gate does not stay open or shut when texts change. Time goes token by token, for ``r`` hangs on ``c``; it
is a few operations on ``features`` numbers a head, and little beside what the gate controls.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import initialization

from lamina.nn.config import LaminaConfig

DRIFT = 0.01  # of the threshold, a token
LOWEST, HIGHEST = -0.5, 0.9  # threshold: a cosine that few tokens miss, and one that few reach
SHARPNESS, KEEP = 4.0, 0.9  # at first
SMALL = 0.02  # size of the trace at first: the tokens of the text soon outweigh it
_TINY = 1e-18


class ContextGate(nn.Module):
    """Gates of ``heads`` heads from ``features`` of each token. ``follows=False``: the trace stands still at ``c_0``
    and there is no homeostasis, so that a gate depends on its token alone (an ablation with the same matrices)."""

    def __init__(self, width: int, heads: int, features: int, *, follows: bool = True) -> None:
        super().__init__()
        self.heads, self.features, self.follows = heads, features, follows
        self.relevance = nn.Linear(width, heads * features, bias=False)
        self.start = nn.Parameter(torch.empty(heads, features))
        self.sharpness = nn.Parameter(torch.empty(heads))  # before a softplus
        self.base = nn.Parameter(torch.empty(heads))
        self.keep = nn.Parameter(torch.empty(heads)) if follows else None  # before a sigmoid

    def init_weights(self, config: LaminaConfig) -> None:  # noqa: ARG002 - the protocol of blocks
        """The trace begins anywhere on a sphere, the threshold at 0: a gate that begins shut learns nothing."""
        initialization.normal_(self.start, 0.0, self.features**-0.5)
        initialization.constant_(self.sharpness, torch.tensor(SHARPNESS).expm1().log().item())
        initialization.zeros_(self.base)
        if self.keep is not None:
            initialization.constant_(self.keep, torch.tensor(KEEP).logit().item())

    def begin(self, rows: int) -> tuple[Tensor, Tensor]:
        """Trace ``(rows, heads, features)`` and ``m`` ``(rows, heads)`` before the first token."""
        trace = (SMALL * wide(self.start)).expand(rows, -1, -1)
        return trace, trace.new_zeros(rows, self.heads)

    def forward(
        self, x: Tensor, real: Tensor, trace: Tensor | None = None, drift: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Gates ``(batch, time, heads)`` in [0, 1] of ``x`` ``(batch, time, width)``, 0 where ``real`` (bool
        ``(batch, time)``) is false, and the trace and ``m`` after the last token; float32, or float64 for such ``x``.
        ``trace`` and ``drift`` (that is ``m``): as they stood after the token before; default: ``begin``."""
        if trace is None or drift is None:
            trace, drift = self.begin(x.shape[0])
        u = F.normalize(wide(self.relevance(x)).view(*x.shape[:2], self.heads, self.features), dim=-1)
        sharpness, base = F.softplus(wide(self.sharpness)), wide(self.base)
        if self.keep is None:
            near = (u * F.normalize(trace, dim=-1)[:, None]).sum(-1)
            gate = (sharpness * (near - base.clamp(LOWEST, HIGHEST))).sigmoid()
            return gate * real[..., None], trace, drift
        moves = wide(self.keep).neg().sigmoid()
        gates: list[Tensor] = []
        # Unbound at once: the gradient of a slice would be a whole sequence of zeros for every token.
        for features, counted in zip(u.unbind(1), real.to(u.dtype)[..., None].unbind(1), strict=True):
            near = (features * trace).sum(-1) * ((trace * trace).sum(-1) + _TINY).rsqrt()
            drift = drift + DRIFT * counted * (near - drift)
            gate = (sharpness * (near - (base + drift).clamp(LOWEST, HIGHEST))).sigmoid() * counted
            trace = torch.lerp(trace, features, (moves * gate)[..., None])
            gates.append(gate)
        return torch.stack(gates, dim=1), trace, drift


def wide(x: Tensor) -> Tensor:
    """float32, or float64 as it is."""
    return x if x.dtype == torch.float64 else x.float()
