"""B'MOJO: one softmax over what is near, what fades and what was surprising (arXiv 2407.06324).

A query sees three kinds of keys, all by the same softmax, so that none is averaged in with a weight of its own:

- in context: the ``window`` tokens up to itself;
- fading: what a linear state had read up to each of the ``window`` tokens before those, so its reach has no end;
- eidetic: the ``eidetic`` tokens beyond the window that the state had predicted worst, verbatim.

How badly is ``e_j = mean((P f_{j-1} - x_j)^2)``: ``f`` the state's output, ``x`` of RMS 1 (or large tokens would be the
surprising ones), and ``P`` learns by that very error alone, so that the selection cannot be gamed. What is eidetic
changes every ``update_every`` places of the text, for all tokens from there on, so that a text read at once and one
read token by token see the same keys. The paper tells what is selected; this rule and its timing are ours. What a row
keeps does not grow with the text (``state_bytes``), and a token costs ``2 * window + eidetic`` keys.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lamina.errors import InvalidInput
from lamina.nn import initialization
from lamina.nn.config import LaminaConfig
from lamina.nn.context import BlockContext
from lamina.nn.costs import macs_per_token
from lamina.nn.eidetic.innovation_store import NOWHERE, InnovationStore, holdings, taken
from lamina.nn.eidetic.joint_softmax import Asking, Source, mixed
from lamina.nn.eidetic.place_grid import PlaceGrid
from lamina.nn.gated_delta import GatedDelta

Select = Literal["innovation", "random", "recent", "oracle"]
Position = Literal["absolute", "clamp"]

_WINDOW, _FADING, _SCORES, _SUMMARY = "bmojo.window", "bmojo.fading", "bmojo.scores", "bmojo.summary"
_GOLDEN = 0.6180339887498949  # multiples of it modulo 1 are spread evenly


class Heads(nn.Module):
    """Queries, keys and values by a matrix each; with ``qk_norm`` queries and keys of every head have RMS 1."""

    def __init__(self, config: LaminaConfig, qk_norm: bool) -> None:
        super().__init__()
        self.size, width = config.head_dim, config.hidden_size
        self.query = nn.Linear(width, config.num_heads * self.size, bias=False)
        self.key = nn.Linear(width, config.num_kv_heads * self.size, bias=False)
        self.value = nn.Linear(width, config.num_kv_heads * self.size, bias=False)
        self.query_norm = nn.RMSNorm(self.size, config.norm_eps) if qk_norm else None
        self.key_norm = nn.RMSNorm(self.size, config.norm_eps) if qk_norm else None

    def asked(self, x: Tensor) -> Tensor:
        """``(batch, time, heads, head_dim)``."""
        query = torch.unflatten(self.query(x), -1, (-1, self.size))
        normed: Tensor = query if self.query_norm is None else self.query_norm(query)
        return normed

    def kept(self, x: Tensor) -> Tensor:
        """Keys without positions, and values: ``(batch, time, 2, kv_heads, head_dim)``."""
        key, value = (torch.unflatten(matrix(x), -1, (-1, self.size)) for matrix in (self.key, self.value))
        return torch.stack([key if self.key_norm is None else self.key_norm(key), value], dim=2)


class BMojo(nn.Module):
    """``window`` tokens in context and as many summaries, ``eidetic`` tokens kept (0: B'MOJO-F), chosen anew every
    ``update_every`` places (default: ``window``).

    ``ssm``: what fades, "gated_delta" with ``ssm_settings``, any causal block, or ``None`` for nothing.
    ``tie_weights``: summaries and tokens have their projections in common. ``select``: what is kept, the tokens that
    were predicted worst, or for comparison a random or the most recent ones, or those of the largest score in
    ``ctx.route`` ``(batch, time)`` ("oracle"). ``threshold``: a score that a kept token must exceed. ``position`` of
    kept tokens: where they stood, or "clamp", no further away than ``2 * window``, so that a text longer than any in
    training shows no new angles. ``innovation_weight`` of the loss of ``P``.

    Tells ``stats``: "positions" int64 ``(batch, chunks, eidetic)``, the places of what each chunk saw verbatim;
    "scores" and "seen" ``(batch, time)``, the innovations and the keys that each query saw.

    Raises ``InvalidInput`` for settings that do not fit each other.
    """

    def __init__(
        self,
        config: LaminaConfig,
        *,
        window: int = 64,
        eidetic: int = 0,
        update_every: int | None = None,
        ssm: str | nn.Module | None = "gated_delta",
        ssm_settings: Mapping[str, Any] | None = None,
        tie_weights: bool = True,
        qk_norm: bool = False,
        select: Select = "innovation",
        threshold: float | None = None,
        position: Position = "absolute",
        innovation_weight: float = 1.0,
    ) -> None:
        super().__init__()
        self.window, self.eidetic = window, eidetic
        self.every = window if update_every is None else update_every
        self.select, self.threshold, self.position = select, threshold, position
        self.innovation_weight = innovation_weight
        self._check(config, ssm)
        self.theta, self.kv_heads, self.head_dim = config.rope_theta, config.num_kv_heads, config.head_dim
        width = config.hidden_size
        self.heads = Heads(config, qk_norm)
        self.fading = GatedDelta(config, **dict(ssm_settings or {})) if isinstance(ssm, str) else ssm
        self.norm = nn.RMSNorm(width, config.norm_eps) if self.fading else None
        self.fading_heads = None if tie_weights or self.fading is None else Heads(config, qk_norm)
        self.predict = nn.Linear(width, width, bias=False) if self.fading and eidetic else None
        self.out = nn.Linear(config.num_heads * config.head_dim, width, bias=False)

    def _check(self, config: LaminaConfig, ssm: str | nn.Module | None) -> None:
        if isinstance(self.window, bool) or self.window < 2:
            raise InvalidInput(f"window={self.window!r}: give the tokens that a query sees in context, from 2")
        if isinstance(self.eidetic, bool) or self.eidetic < 0:
            raise InvalidInput(f"eidetic={self.eidetic!r}: give the tokens that are kept, or 0 for none")
        if isinstance(self.every, bool) or not 1 <= self.every <= self.window:
            raise InvalidInput(f"update_every={self.every!r}: give 1 to window={self.window}, or tokens would be lost")
        if isinstance(ssm, str) and ssm != "gated_delta":
            raise InvalidInput(f"ssm={ssm!r}: give 'gated_delta', a block, or None for no fading memory")
        if self.select not in ("innovation", "random", "recent", "oracle"):
            raise InvalidInput(f"select={self.select!r}: give 'innovation', 'random', 'recent' or 'oracle'")
        if self.position not in ("absolute", "clamp"):
            raise InvalidInput(f"position={self.position!r}: give 'absolute' or 'clamp'")
        if self.eidetic and ssm is None and self.select == "innovation":
            raise InvalidInput("select='innovation' asks what the state did not predict: give an ssm, or eidetic=0")
        if config.head_dim % 2:
            raise InvalidInput(f"head_dim={config.head_dim} is odd: rotary positions turn pairs of channels")

    def init_weights(self, config: LaminaConfig) -> None:
        initialization.linear(self.out, config, residual=True)

    def forward(self, x: Tensor, ctx: BlockContext) -> Tensor:
        """``(batch, time, width)`` to the same. Raises ``InvalidInput`` for rows padded on the right, and for no scores
        in ``ctx.route`` with ``select="oracle"``."""
        kept = {} if ctx.state is None else ctx.state.tensors
        grid = PlaceGrid.of(ctx, self.every)
        asking = self._asking(self.heads, x, grid)
        tokens = _after(kept.get(_WINDOW), self.heads.kept(x))
        state = {_WINDOW: _last(tokens, self._reach)}
        sources, summary = [asking.near(tokens, self.window)], None
        if self.fading is not None and self.norm is not None:
            summary = self.norm(self.fading(x, ctx))
            heads = self.heads if self.fading_heads is None else self.fading_heads
            faded = _after(kept.get(_FADING), heads.kept(summary))
            own = asking if heads is self.heads else self._asking(heads, x, grid)
            sources.append(own.near(faded, self.window, back=self.window))
            state[_FADING] = _last(faded, 2 * self.window - 1)
        if self.eidetic:
            scores = _after(kept.get(_SCORES), self._scores(x, summary, kept, ctx))
            store = InnovationStore.of(kept) if _WINDOW in kept else InnovationStore.empty(tokens, self.eidetic)
            source, store = self._verbatim(asking, tokens, scores, store, ctx)
            sources.append(source)
            state |= store.as_tensors() | {_SCORES: _last(scores, self._reach)}
            state |= {} if summary is None else {_SUMMARY: summary[:, -1:]}
        if ctx.state is not None:
            ctx.state.tensors |= state
        ctx.tell("seen", grid.give(torch.cat([source.seen for source in sources], dim=-1).sum(-1).flatten(1)))
        y: Tensor = self.out(grid.give(mixed(sources)) * ctx.mask[..., None])
        return y

    def _asking(self, heads: Heads, x: Tensor, grid: PlaceGrid) -> Asking:
        return Asking.of(heads.asked(x), self.kv_heads, grid, self.theta)

    @property
    def _reach(self) -> int:
        """Past tokens that are still needed: in context, and those that no store was offered yet."""
        return self.window - 1 + (self.every if self.eidetic else 0)

    def _scores(self, x: Tensor, summary: Tensor | None, kept: Mapping[str, Tensor], ctx: BlockContext) -> Tensor:
        """float32 ``(batch, time)``: the larger, the rather a token is kept."""
        error = None
        if self.predict is not None and summary is not None:
            before = _after(kept.get(_SUMMARY, torch.zeros_like(summary[:, :1])), summary[:, :-1]).detach()
            predicted = self.predict(before * (ctx.positions > 0)[..., None])
            error = (predicted - F.rms_norm(x.detach(), x.shape[-1:])).square().mean(-1).float()
            if self.training:
                ctx.aux.append(self.innovation_weight * (error * ctx.mask).sum() / ctx.mask.sum().clamp(min=1))
            ctx.tell("scores", error)
        if self.select == "recent":
            return ctx.positions.float()
        if self.select == "random":  # the same however a text is cut, and another in every row
            all_read = (x if summary is None else summary).detach().double().sum(-1)
            return (1e3 * all_read + _GOLDEN * ctx.positions).remainder(1.0).float()
        if self.select == "oracle":
            if not isinstance(ctx.route, Tensor) or ctx.route.shape != ctx.mask.shape:
                raise InvalidInput(
                    f"route={type(ctx.route).__name__}: give scores {tuple(ctx.mask.shape)} to an oracle"
                )
            return ctx.route.float()
        assert error is not None
        score: Tensor = error.detach()
        return score

    def _verbatim(
        self, asking: Asking, tokens: Tensor, scores: Tensor, store: InnovationStore, ctx: BlockContext
    ) -> tuple[Source, InnovationStore]:
        """What the store holds when each chunk begins, and the store in the last chunk of each row."""
        grid = asking.grid
        low = 1 - self.window - self.every  # at the beginning of a chunk these have left the window since the last one
        fresh, worth = grid.take(tokens, low, grid.length), grid.take(scores, low, grid.length)
        places = grid.places(low, grid.length)
        offered = (grid.first - 1).div(self.every, rounding_mode="floor") * self.every - self.window
        new = places > offered[:, None]
        if self.threshold is not None:
            new &= worth > self.threshold
        places = torch.cat([store.places, places.where(new, NOWHERE)], dim=1)
        worth, pairs = torch.cat([store.scores, worth], dim=1), torch.cat([store.pairs, fresh], dim=1)
        held = holdings(worth, places, self.eidetic, self.every)
        where = taken(places, held.flatten(1))
        ctx.tell("positions", torch.unflatten(where, 1, (grid.chunks, -1)))
        last = ((grid.newest - grid.start).clamp(min=0) // self.every)[:, None]
        now = taken(held, last)[:, 0]
        there = taken(places, now)
        store = InnovationStore(taken(pairs, now), there, taken(worth, now).masked_fill(there < 0, -torch.inf))
        farthest = 2 * self.window if self.position == "clamp" else None
        return asking.of_chunks(taken(pairs, held.flatten(1)), where, farthest), store

    def state_bytes(self, time: int, el: int = 4) -> int:
        """Bytes that a row keeps after ``time`` tokens, in elements of ``el`` bytes: tokens in context and on their way
        to the store, summaries, and the store; places are 8 bytes, scores 4."""
        pair = 2 * self.kv_heads * self.head_dim * el
        total = min(time, self._reach) * (pair + (4 if self.eidetic else 0)) + self.eidetic * (pair + 12)
        if self.fading is not None:
            own = getattr(self.fading, "state_bytes", None)
            total += min(time, 2 * self.window - 1) * pair + (0 if own is None else own(time, el))
            total += self.out.out_features * el if self.eidetic else 0
        return int(total)

    def macs_per_token(self, time: int) -> int:
        """Multiply-adds of the mean token of ``time``: matrices, the state, and the keys that are seen."""
        own: int = sum(each.weight.numel() for each in (self.out, self.predict) if each is not None)
        own += macs_per_token(self.heads, time)
        if self.fading is not None:
            own += macs_per_token(self.fading, time)
            heads = self.heads if self.fading_heads is None else self.fading_heads
            own += heads.key.weight.numel() + heads.value.weight.numel()
            own += 0 if self.fading_heads is None else self.fading_heads.query.weight.numel()
        return own + int(2 * self.out.in_features * self.keys_seen(time))

    def keys_seen(self, time: int) -> float:
        """By the mean query of ``time``, without a threshold; never more than ``2 * window + eidetic``."""
        settled = min(time, 2 * self.window + self.eidetic + self.every)
        total = 0
        for place in range(settled):
            total += min(place + 1, self.window)
            total += 0 if self.fading is None else min(max(place + 1 - self.window, 0), self.window)
            total += min(max(place // self.every * self.every - self.window + 1, 0), self.eidetic)
        most = (1 if self.fading is None else 2) * self.window + self.eidetic
        return (total + (time - settled) * most) / time


def _after(past: Tensor | None, new: Tensor) -> Tensor:
    return new if past is None else torch.cat([past.to(new.dtype), new], dim=1)


def _last(tensor: Tensor, count: int) -> Tensor:
    return tensor[:, max(0, tensor.shape[1] - count) :]
