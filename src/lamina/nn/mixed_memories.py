"""MoM: a few matrices keep the past, and each token writes only to those it belongs to.

MoM: Linear Sequence Modeling with Mixture-of-Memories, arXiv 2502.13685. A router sends each token to ``top_k`` of
``memories``; those are written by the gated delta rule and read with one query for all, a memory that was not chosen
is not touched at all, and one more memory (``shared``) sees every token. So topics do not overwrite each other, at
the multiply-adds of ``top_k + 1`` states and the same bytes at any length:

    4 * (memories + 1) * heads * key_dim * value_dim, and (memories + 1) tails of the short convolution

What is unusual: the convolution runs along the tokens of each memory alone and begins anew in every segment (run over
segments laid end to end it would mix rows, and a row's future into its past); equal router scores are settled by
order, so that a text read token by token is routed as when it is read at once.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import initialization

from lamina.errors import InvalidInput
from lamina.nn import initialization as beginning
from lamina.nn.config import LaminaConfig
from lamina.nn.context import BlockContext
from lamina.nn.linear_recurrence import CHUNK
from lamina.nn.routing.routed_segments import Segments, remember
from lamina.nn.short_convolution import ShortConvolution

_WRITES = 2.0  # bias of the write gate, ours: at first nearly all is written, as in GatedDelta
_RATES = (1e-3, 0.1)  # of decay at first, times ``decay``; log-uniform, as published
_LEAST = 1e-4


class Projections(nn.Module):
    """What each of ``memories`` makes of a token, side by side: ``keys + values`` channels, then ``heads`` strengths of
    writing and ``heads`` rates of decay. One alone serves any number of memories."""

    def __init__(self, width: int, memories: int, keys: int, values: int, heads: int) -> None:
        super().__init__()
        self.content, self.heads = keys + values, heads
        self.weight = nn.Parameter(torch.empty(memories, self.content + 2 * heads, width))
        self.write_bias = nn.Parameter(torch.empty(memories * heads))

    def init_weights(self, config: LaminaConfig) -> None:
        initialization.normal_(self.weight, 0.0, beginning.spread(config.hidden_size, config))
        initialization.constant_(self.write_bias, _WRITES)

    def streams(self, x: Tensor, memories: int) -> Tensor:
        """Keys and values of all tokens for all memories, ``(batch, memories, time, content)``."""
        every = F.linear(x, self.weight[:, : self.content].flatten(0, 1))
        return every.view(*x.shape[:2], -1, self.content).transpose(1, 2).expand(-1, memories, -1, -1)


class MoM(nn.Module):
    """``memories`` of which each token goes to ``top_k``, and one for all if ``shared``. ``heads`` of keys of
    ``key_dim`` and values of ``value_dim`` (defaults: the configuration's heads and ``head_dim``).

    ``scope`` of the convolution of ``taps`` (0: none): along each memory's own ``"segment"``, or along the whole
    ``"stream"`` before tokens are routed (then every token is projected for every memory). ``one_projection``: all
    routed memories have keys, values and gates in common. ``aux``: weight of the router's loss (each layer its share of
    it); 1e-2 in the published code, 1e-3 where the paper recalls best. ``decay``: at first up to this times 0.1 fades
    from a state at each of its tokens.

    Raises ``InvalidInput`` for sizes that do not fit each other.
    """

    def __init__(
        self,
        config: LaminaConfig,
        *,
        memories: int = 4,
        top_k: int = 2,
        shared: bool = True,
        heads: int | None = None,
        key_dim: int | None = None,
        value_dim: int | None = None,
        taps: int = 4,
        scope: Literal["segment", "stream"] = "segment",
        one_projection: bool = False,
        aux: float = 1e-3,
        decay: float = 16.0,
        chunk: int = CHUNK,
    ) -> None:
        super().__init__()
        self.heads = config.num_heads if heads is None else heads
        self.key_dim = config.head_dim if key_dim is None else key_dim
        self.value_dim = config.head_dim if value_dim is None else value_dim
        self.memories, self.top_k, self.scope, self.aux, self.decay = memories, top_k, scope, aux, decay
        self.chunk, self.layers = chunk, config.num_hidden_layers
        self._check(taps)
        width, keys, values = config.hidden_size, self.heads * self.key_dim, self.heads * self.value_dim
        self.router = nn.Linear(width, memories, bias=False)
        self.query = nn.Linear(width, keys, bias=False)
        self.routed = Projections(width, 1 if one_projection else memories, keys, values, self.heads)
        self.common = Projections(width, 1, keys, values, self.heads) if shared else None
        self.log_decay = nn.Parameter(torch.empty(self.heads))
        self.fade_bias = nn.Parameter(torch.empty(self.heads))
        self.conv = ShortConvolution(2 * keys + values, taps) if taps else None
        self.norm = nn.RMSNorm(self.value_dim, config.norm_eps)
        self.gate = nn.Linear(width, values, bias=False)
        self.out = nn.Linear(values, width, bias=False)

    def _check(self, taps: int) -> None:
        if not 1 <= self.top_k <= self.memories:
            raise InvalidInput(f"top_k={self.top_k!r}: give how many of the memories={self.memories!r} a token goes to")
        if min(self.heads, self.key_dim, self.value_dim, self.chunk) < 1 or taps < 0:
            told = f"heads={self.heads!r}, key_dim={self.key_dim!r}, value_dim={self.value_dim!r}, chunk={self.chunk!r}"
            raise InvalidInput(f"{told}, taps={taps!r}: give sizes from 1, and taps from 0")
        if self.scope not in ("segment", "stream"):
            raise InvalidInput(f"scope={self.scope!r}: the convolution runs along each 'segment' or along the 'stream'")
        if not (self.aux >= 0 and self.decay > 0):
            raise InvalidInput(f"aux={self.aux!r}, decay={self.decay!r}: give a weight from 0 and a rate above 0")

    def init_weights(self, config: LaminaConfig) -> None:
        beginning.linear(self.out, config, residual=True)
        low, high = torch.tensor(_RATES).log().tolist()
        rate = torch.empty(self.heads).uniform_(low, high).exp().clamp(min=_LEAST)
        initialization.copy_(self.fade_bias, rate + (-(-rate).expm1()).log())  # softplus of it is the rate
        share = torch.empty(self.heads).uniform_(0.0, self.decay).clamp(min=_LEAST)
        initialization.copy_(self.log_decay, share.log())

    def forward(self, x: Tensor, ctx: BlockContext) -> Tensor:
        """``(batch, time, width)`` to the same. Tells ``shares``, of tokens that go to each memory ``(memories,)``,
        and ``chosen`` ``(batch, time, top_k)``."""
        chosen, weight = self._route(x, ctx)
        segments = Segments.of(chosen, ctx.mask, self.memories, chunk=self.chunk)
        by_memory = x.new_zeros(*ctx.mask.shape, self.memories).scatter(2, chosen, weight)
        share = segments.take(by_memory).gather(1, segments.memory[:, None])
        q = self.query(x)
        read = segments.add(share * self._read("routed", x, q, self.routed, segments, ctx))
        if self.common is not None:
            everything = Segments.of(torch.zeros_like(chosen[..., :1]), ctx.mask, 1, chunk=self.chunk)
            read = read + everything.add(self._read("shared", x, q, self.common, everything, ctx))
        gated = self.norm(read.view(*x.shape[:2], self.heads, -1)).flatten(2) * F.silu(self.gate(x))
        y: Tensor = self.out(gated)
        return y

    def _route(self, x: Tensor, ctx: BlockContext) -> tuple[Tensor, Tensor]:
        """The memories of each token, the likeliest first, and their shares, which sum to 1."""
        wide = x if x.dtype == torch.float64 else x.float()
        with torch.autocast(x.device.type, enabled=False):
            p = (wide @ self.router.weight.to(wide.dtype).mT).softmax(-1)
        ordered, memories = p.sort(dim=-1, descending=True, stable=True)
        likely, chosen = ordered[..., : self.top_k], memories[..., : self.top_k]
        real = ctx.mask[..., None]
        tokens = real.sum().clamp(min=1)
        shares = (F.one_hot(chosen, self.memories) * real[..., None]).sum((0, 1)) / tokens  # of the s-th choices
        ctx.tell("shares", shares.sum(0))
        ctx.tell("chosen", chosen)
        if self.training and self.aux:
            mean = (p * real).sum((0, 1)) / tokens
            ctx.aux.append(self.aux / self.layers * self.memories * (shares.to(p.dtype) * mean).sum())
        return chosen, (likely / likely.sum(-1, keepdim=True)).to(x.dtype)

    def _read(
        self, name: str, x: Tensor, q: Tensor, part: Projections, segments: Segments, ctx: BlockContext
    ) -> Tensor:
        """Writes the entries into their memories and returns what they read, ``(n, heads * value_dim)``."""
        kept = {} if ctx.state is None else ctx.state.tensors
        state, tail = f"mom.{name}.states", f"mom.{name}.tails"
        along = self._along_streams if self.conv is not None and self.scope == "stream" else self._along_segments
        mixed, gates, tails = along(x, q, part, segments, ctx.mask, kept.get(tail))
        sizes = [self.heads * self.key_dim, self.heads * self.key_dim, self.heads * self.value_dim]
        queries, keys, values = (
            each.view(*mixed.shape[:3], self.heads, -1) for each in torch.split(mixed, sizes, dim=-1)
        )
        queries, keys = (F.normalize(each, dim=-1) for each in (queries, keys))
        b, a = gates.chunk(2, dim=-1)
        b = (b + part.write_bias.view(-1, 1, self.heads)).sigmoid()
        a = -self.log_decay.exp() * F.softplus(a + self.fade_bias)
        scaled = queries * self.key_dim**-0.5
        read, states = remember(scaled, keys, values, b, a, segments, kept.get(state), chunk=self.chunk)
        if ctx.state is not None:
            ctx.state.tensors |= {state: states} | ({} if tails is None else {tail: tails})
        return read.flatten(1)

    def _along_segments(
        self, x: Tensor, q: Tensor, part: Projections, segments: Segments, _: Tensor, tails: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Blocks ``(batch, memories, length, channels)`` of queries, keys and values after the convolution, of gates,
        and the ``tails`` it goes on with ``(batch, memories, taps - 1, channels)``. No token is projected for a memory
        that it does not go to."""
        entries = torch.cat([segments.take(q), segments.project(x, part.weight)], dim=-1)
        block, gates = torch.split(segments.pack(entries), [q.shape[-1] + part.content, 2 * self.heads], dim=-1)
        if self.conv is None:
            return block, gates, None
        block, tails = self._convolved(self.conv, block, tails, segments.lengths)
        return F.silu(block), gates, tails

    def _along_streams(
        self, x: Tensor, q: Tensor, part: Projections, segments: Segments, mask: Tensor, tails: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """The same, convolved along the whole of each row."""
        assert self.conv is not None
        own = part.streams(x, segments.memories)
        streams = torch.cat([q[:, None].expand(-1, segments.memories, -1, -1), own], dim=-1) * mask[:, None, :, None]
        ends = torch.full_like(segments.lengths, mask.shape[1])
        streams, tails = self._convolved(self.conv, streams, tails, ends)
        by_token = F.silu(streams).transpose(1, 2).flatten(0, 2)
        entries = by_token.index_select(0, segments.token * segments.memories + segments.memory)
        block = segments.pack(torch.cat([entries, segments.project(x, part.weight[:, part.content :])], dim=-1))
        return block[..., : entries.shape[1]], block[..., entries.shape[1] :], tails

    def _convolved(
        self, conv: ShortConvolution, block: Tensor, tails: Tensor | None, lengths: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Each (row, memory) of ``block`` ``(batch, memories, length, channels)`` alone, after its own tail; and the
        tails after the first ``lengths`` of it."""
        before = conv.taps - 1
        if tails is None:
            tails = block.new_zeros(*block.shape[:2], before, block.shape[3])
        y, _ = conv(block.flatten(0, 1), tails.flatten(0, 1))
        joined = torch.cat([tails.to(block.dtype), block], dim=2)
        last = lengths[..., None] + torch.arange(before, device=block.device)
        return y.view_as(block), joined.gather(2, last[..., None].expand(-1, -1, -1, block.shape[3]))

    def state_bytes(self, time: int, el: int = 4) -> int:  # noqa: ARG002 - the same at any length
        """Bytes that a row keeps; the matrices are float32 whatever ``el``, the tails in elements of ``el`` bytes."""
        tail = 0 if self.conv is None else (self.conv.taps - 1) * self.conv.channels * el
        kept = self.memories + (self.common is not None)
        return kept * (4 * self.heads * self.key_dim * self.value_dim + tail)

    def _projected(self) -> int:
        """Weights of the projections that one token meets."""
        content, width = self.routed.content, self.query.in_features
        sets = len(self.routed.weight)
        chosen = min(self.top_k, sets)
        whole = sets if self.conv is not None and self.scope == "stream" else chosen
        common = 0 if self.common is None else self.common.weight.numel()
        return (whole * content + chosen * 2 * self.heads) * width + common

    def macs_per_token(self, time: int) -> int:  # noqa: ARG002
        """Matrices, convolutions, and four products with each state that the token goes to."""
        own = sum(each.weight.numel() for each in (self.router, self.query, self.gate, self.out)) + self._projected()
        met = self.top_k + (self.common is not None)
        streams = self.memories + (self.common is not None) if self.scope == "stream" else met
        conv = 0 if self.conv is None else streams * self.conv.macs_per_token(1)
        return own + conv + 4 * met * self.heads * self.key_dim * self.value_dim

    def bytes_read_per_token(self) -> int:
        """All parameters, less the projections of memories that the token does not go to."""
        projections = [self.routed] if self.common is None else [self.routed, self.common]
        unread = sum(each.weight.numel() for each in projections) - self._projected()
        return sum(each.nbytes for each in self.parameters()) - unread * self.routed.weight.element_size()
