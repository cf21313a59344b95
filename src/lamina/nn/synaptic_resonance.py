"""Synaptic Resonance: fast weights that are rewritten while a text is read, as far as a token belongs to its context.

After "Exploring Synaptic Resonance in Large Language Models", arXiv 2502.10699, whose abstract alone is known to us: it
fixes that pathways are adjusted by contextual relevance, in training and in inference. The equations are our own. Each
head keeps a matrix ``S`` in float32, the same bytes at any length, written by the gate ``r`` of
``lamina.nn.plasticity.context_resonance`` (no label says what is relevant) and a learned rate ``eta``:

    x'_t = conv(x)_t        k, q = unit vectors of x'_t        v_t, eta_t = sigmoid(.) of x'_t
    S_t  = (1 - fade r_t) S_{t-1} + eta_t r_t k_t e_t^T        e_t = v_t - S_{t-1}^T k_t   (rule "hebb": v_t)
    y_t  = W_o (RMSNorm(S_t^T q_t) * silu(W_g x'_t))

What does not resonate neither writes nor erodes. Keys are unit vectors and ``eta r <= 1``, so under the delta rule no
write lets the state grow along its key by more than the value. Without the trace this is Gated DeltaNet.

Its place is beside attention over a ``window``: attention has what is near, ``S`` what is far. Both read the same input
and their sum joins the residual stream, so it stands in the mixer's slot (and usually in every other layer). It writes
in inference too; ``plastic`` set to False keeps ``S`` as it is, to see what a model owes to writing.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import initialization

from lamina.errors import InvalidInput
from lamina.nn import costs
from lamina.nn import initialization as beginning
from lamina.nn.attention import Attention
from lamina.nn.config import LaminaConfig
from lamina.nn.context import BlockContext
from lamina.nn.linear_recurrence import CHUNK
from lamina.nn.plasticity.context_resonance import ContextGate, wide
from lamina.nn.plasticity.fast_weights import RULES, Rule, fast_weight_chunks
from lamina.nn.short_convolution import ShortConvolution

Gate = Literal["resonance", "token", "none"]
_NEAREST = 0.5**0.5  # of the token and of the one before it, at first: their sum keeps its size
GATES: tuple[Gate, ...] = ("resonance", "token", "none")
_STATE, _TRACE, _DRIFT, _TAIL = (f"resonance.{name}" for name in ("state", "trace", "drift", "tail"))


class SynapticResonance(nn.Module):
    """``heads`` of keys of ``key_dim`` and values of ``value_dim`` (defaults: the configuration's heads, ``head_dim``),
    with ``context_dim`` features of relevance a head.

    ``rule``: "delta" replaces what was bound to a key, "hebb" adds to it. ``gate``: "resonance", or for comparison
    "token" (the trace stands still) and "none" (r = 1). ``fade``: share of the past that a resonant write erases at
    first, learned from there; 0: none ever. ``taps`` of the convolution before everything; 0 for none. ``window``:
    tokens of the attention beside it; ``None``: no attention. ``scale``: the learned factor on the branch at first, 1
    from scratch, 0 beside the attention of a model that was trained without the branch
    (``lamina.nn.plasticity.retrofit``).

    Raises ``InvalidInput`` for settings that are none of these.
    """

    def __init__(
        self,
        config: LaminaConfig,
        *,
        heads: int | None = None,
        key_dim: int | None = None,
        value_dim: int | None = None,
        context_dim: int = 32,
        rule: Rule = "delta",
        gate: Gate = "resonance",
        fade: float = 0.0,
        taps: int = 4,
        window: int | None = None,
        scale: float = 1.0,
        plastic: bool = True,
        chunk: int = CHUNK,
    ) -> None:
        super().__init__()
        self.heads = config.num_heads if heads is None else heads
        self.key_dim = config.head_dim if key_dim is None else key_dim
        self.value_dim = config.head_dim if value_dim is None else value_dim
        self.rule, self.fade, self.scale_at_first, self.plastic, self.chunk = rule, fade, scale, plastic, chunk
        self._check(context_dim, gate, taps)
        width, keys, values = config.hidden_size, self.heads * self.key_dim, self.heads * self.value_dim
        self.conv = ShortConvolution(width, taps) if taps else None
        self.query, self.key = nn.Linear(width, keys, bias=False), nn.Linear(width, keys, bias=False)
        self.value = nn.Linear(width, values, bias=False)
        self.rate = nn.Linear(width, self.heads, bias=False)
        resonates = gate == "resonance"
        self.gate = None if gate == "none" else ContextGate(width, self.heads, context_dim, follows=resonates)
        self.faded = nn.Parameter(torch.empty(self.heads)) if fade else None  # before a sigmoid
        self.norm = nn.RMSNorm(self.value_dim, config.norm_eps)
        self.out_gate = nn.Linear(width, values, bias=False)
        self.out = nn.Linear(values, width, bias=False)
        self.scale = nn.Parameter(torch.empty(()))
        self.attention = None if window is None else Attention(config, window=window)

    def _check(self, context_dim: int, gate: str, taps: int) -> None:
        sizes = {"heads": self.heads, "key_dim": self.key_dim, "value_dim": self.value_dim}
        for name, size in {**sizes, "context_dim": context_dim, "chunk": self.chunk}.items():
            if isinstance(size, bool) or not isinstance(size, int) or size < 1:
                raise InvalidInput(f"{name}={size!r}: give a whole number from 1")
        if self.rule not in RULES:
            raise InvalidInput(f"rule={self.rule!r}: give one of {', '.join(RULES)}")
        if gate not in GATES:
            raise InvalidInput(f"gate={gate!r}: give one of {', '.join(GATES)}")
        if not 0 <= self.fade < 1:
            raise InvalidInput(f"fade={self.fade!r}: give the share that a write erases, from 0 to below 1")
        if isinstance(taps, bool) or taps < 0:
            raise InvalidInput(f"taps={taps!r}: give the taps of the convolution, or 0 for none")

    def init_weights(self, config: LaminaConfig) -> None:
        """Queries begin as keys, and each token as half the one before: so what was bound to a key is found from the
        first step on, and there is something for the gate to learn from."""
        beginning.linear(self.out, config, residual=True)
        initialization.copy_(self.query.weight, self.key.weight)
        if self.conv is not None:
            taps = torch.zeros_like(self.conv.conv.weight)
            taps[..., -2:] = _NEAREST
            initialization.copy_(self.conv.conv.weight, taps)
        initialization.constant_(self.scale, self.scale_at_first)
        if self.faded is not None:
            initialization.constant_(self.faded, torch.tensor(self.fade).logit().item())

    def forward(self, x: Tensor, ctx: BlockContext) -> Tensor:
        """``(batch, time, width)`` to the same. Tells ``gates`` ``(batch, time, heads)``, ``r`` above, and ``energy``
        ``(batch, heads)``, the norm of ``S`` after the last token.

        Raises ``InvalidInput`` for a state of another shape or of half precision, or one that is not finite any more.
        """
        y: Tensor = self.scale.to(x.dtype) * self._branch(x, ctx)
        return y if self.attention is None else y + self.attention(x, ctx)

    def _branch(self, x: Tensor, ctx: BlockContext) -> Tensor:
        near = self._convolved(x * ctx.mask[..., None], ctx)
        r = self._gates(near, ctx)
        ctx.tell("gates", r)
        q, k, v = (self._by_head(each(near)) for each in (self.query, self.key, self.value))
        b, a = self._strengths(near, r)
        before = self._state(v, ctx)
        read, state = fast_weight_chunks(
            self.rule, F.normalize(q, dim=-1), F.normalize(k, dim=-1), v, b, a, before, chunk=self.chunk
        )
        ctx.tell("energy", state.flatten(2).norm(dim=-1))
        self._keep(state, ctx)
        gated = self.norm(read.to(x.dtype).transpose(1, 2)).flatten(2) * F.silu(self.out_gate(near))
        y: Tensor = self.out(gated)
        return y

    def _convolved(self, x: Tensor, ctx: BlockContext) -> Tensor:
        if self.conv is None:
            return x
        y: Tensor
        y, tail = self.conv(x, None if ctx.state is None else ctx.state.tensors.get(_TAIL))
        if ctx.state is not None:
            ctx.state.tensors[_TAIL] = tail
        return y

    def _gates(self, near: Tensor, ctx: BlockContext) -> Tensor:
        """``r`` ``(batch, time, heads)``; nothing at padding, which so neither writes nor moves the trace."""
        if self.gate is None:
            return wide(ctx.mask[..., None].to(near.dtype)).expand(-1, -1, self.heads)
        kept = {} if ctx.state is None else ctx.state.tensors
        r, trace, drift = self.gate(near, ctx.mask, kept.get(_TRACE), kept.get(_DRIFT))
        if ctx.state is not None and self.gate.follows:
            ctx.state.tensors |= {_TRACE: trace, _DRIFT: drift}
        gates: Tensor = r
        return gates

    def _strengths(self, near: Tensor, r: Tensor) -> tuple[Tensor, Tensor]:
        """Strength of writing and log of what is left of the past, each ``(batch, heads, time)``."""
        if not self.plastic:
            nothing = torch.zeros_like(r).transpose(1, 2)
            return nothing, nothing
        b = wide(self.rate(near)).sigmoid() * r
        a = torch.zeros_like(r) if self.faded is None else torch.log1p(-wide(self.faded).sigmoid() * r)
        return b.transpose(1, 2), a.transpose(1, 2)

    def _state(self, v: Tensor, ctx: BlockContext) -> Tensor:
        shape = (v.shape[0], self.heads, self.key_dim, self.value_dim)
        if ctx.state is None or (kept := ctx.state.tensors.get(_STATE)) is None:
            return wide(v).new_zeros(shape)
        if kept.shape != shape or kept.dtype not in (torch.float32, torch.float64):
            told = f"{_STATE} of layer {ctx.layer} is {tuple(kept.shape)}, {kept.dtype}"
            raise InvalidInput(f"{told}: give {shape} in float32, for half precision drifts within hundreds of writes")
        return kept.to(wide(v).dtype)

    def _keep(self, state: Tensor, ctx: BlockContext) -> None:
        if not bool(torch.isfinite(state).all()):
            heads = (~torch.isfinite(state)).flatten(2).any(-1).any(0).nonzero()[:, 0].tolist()
            raise InvalidInput(f"layer {ctx.layer}, heads {heads}: the state is not finite; lower the rate of learning")
        if ctx.state is not None:
            ctx.state.tensors[_STATE] = state

    def _by_head(self, x: Tensor) -> Tensor:
        return x.view(*x.shape[:2], self.heads, -1).transpose(1, 2)

    def state_bytes(self, time: int, el: int = 4) -> int:
        """Bytes that a row keeps; all but the tail of the convolution and the window are float32 whatever ``el``."""
        traced = self.gate is not None and self.gate.follows
        own = self.key_dim * self.value_dim + (self.gate.features + 1 if self.gate is not None and traced else 0)
        tail = 0 if self.conv is None else (self.conv.taps - 1) * self.conv.channels * el
        beside = 0 if self.attention is None else self.attention.state_bytes(time, el)
        return 4 * self.heads * own + tail + beside

    def macs_per_token(self, time: int) -> int:
        """Matrices, convolution, three products with the state (error, write, read) and two with the trace."""
        own = sum(
            each.weight.numel() for each in (self.query, self.key, self.value, self.rate, self.out_gate, self.out)
        )
        if self.gate is not None:
            own += self.gate.relevance.weight.numel() + 2 * self.heads * self.gate.features
        conv = 0 if self.conv is None else self.conv.macs_per_token(time)
        beside = 0 if self.attention is None else costs.macs_per_token(self.attention, time)
        return own + conv + beside + (3 if self.rule == "delta" else 2) * self.heads * self.key_dim * self.value_dim
