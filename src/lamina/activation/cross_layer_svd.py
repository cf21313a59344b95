"""xKV: every token stays, in fewer numbers; neighbouring layers share one low-rank basis of their tokens.

xKV, arXiv 2503.18893: single tokens look unlike in neighbouring layers, but the spaces that all tokens span are
aligned, so that one factorisation of several layers side by side costs less than one of each. ``group=1`` is the
per-layer SVD that it is compared with.

What is unusual: ratios are of bytes, with bases, exact tokens and places charged, since at equal rank more layers can
never lose; a text too short to gain from factors stays as it is until it grows; and a tail that grew long is folded in
by one exact step instead of a new factorisation.

Prefill attends to exact keys and values; when a group's last layer has read, its tokens become coefficients that the
group shares and a basis of which each layer owns a block. Keys are factored with their positions off. Decoding rebuilds
keys, turns them, and never rebuilds values: ``p V = (p A) B``. Tokens of a layer stand in this order: the first
``sinks``, exact; those that are factored; the tail, exact.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from transformers import Cache, PreTrainedModel

from lamina.activation.budgeted import attention
from lamina.activation.budgeted.exact import ExactLayer
from lamina.activation.budgeted.factors import Factors, factorise
from lamina.errors import InvalidInput
from lamina.tensors.pack import WIDTHS
from lamina.tensors.rotary import Rotary

_VALUES_TO_KEYS = 1.5  # section 4: keys are of lower rank than values
_MOST = 8  # layers of a group: the most that the paper tries; the rank grows with them, and so does rebuilding keys


@dataclass(frozen=True, slots=True)
class XKV:
    """``ratio``: times fewer bytes than the dense cache, or instead ``rank_k`` and ``rank_v`` of each group.

    ``group``: neighbouring layers that share a basis; ``"auto"`` takes as many as keep the basis no larger than the
    coefficients, at most 8. ``tail``: newest tokens that are kept exact while decoding. ``sinks``: first tokens that
    stay exact, because they would take the largest singular vectors for themselves. ``bits``: 8, 4 or 2 to which the
    factors are rounded, within the same ratio; ``None``: as they are. Raises ``InvalidInput``.
    """

    ratio: float | None = None
    rank_k: int | None = None
    rank_v: int | None = None
    group: int | Literal["auto"] = "auto"
    tail: int = 256
    sinks: int = 4
    bits: int | None = None

    def __post_init__(self) -> None:
        ranks = (self.rank_k, self.rank_v)
        if (self.ratio is None) == (ranks == (None, None)) or (None in ranks and ranks != (None, None)):
            raise InvalidInput(f"ratio={self.ratio!r}, rank_k={self.rank_k!r}, rank_v={self.rank_v!r}: "
                               "give a ratio, or both ranks")  # fmt: skip
        if self.ratio is not None and not 1 < self.ratio < 1e4:
            raise InvalidInput(f"ratio={self.ratio!r}: give how many times fewer bytes, more than 1")
        if any(rank is not None and rank < 1 for rank in ranks) or self.tail < 0 or self.sinks < 0:
            raise InvalidInput(
                f"rank_k={self.rank_k!r}, rank_v={self.rank_v!r} must be 1 or more, "
                f"tail={self.tail!r} and sinks={self.sinks!r} not negative"
            )
        if self.bits not in (None, *WIDTHS):
            raise InvalidInput(f"bits={self.bits!r}: give one of {', '.join(map(str, WIDTHS))}, or None")
        if self.group != "auto" and self.group < 1:
            raise InvalidInput(f"group={self.group!r}: give 'auto', or 1 or more layers")

    def cache(self, model: PreTrainedModel) -> XKVCache:
        """An empty cache for ``model``. Raises ``InvalidInput`` for one without rotary positions."""
        return XKVCache(self, int(model.config.get_text_config(decoder=True).num_hidden_layers), Rotary.of(model))

    def groups(self, layers: int, tokens: int, width: int) -> list[range]:
        """Layers that share a basis, for a first text of ``tokens`` and keys of ``width`` numbers a layer."""
        size = self.group if self.group != "auto" else min(max(round(tokens / width), 1), _MOST)
        return [range(first, min(first + size, layers)) for first in range(0, layers, size)]

    def ranks(self, tokens: int, key_width: int, value_width: int, itemsize: int = 4) -> tuple[int, int] | None:
        """Ranks of keys and values for ``tokens`` factored tokens of a group, dense numbers of ``itemsize`` bytes;
        ``None`` while factors do not pay."""
        widths = key_width, value_width
        dense = tokens * sum(widths) * itemsize
        number, row = (itemsize, 0) if self.bits is None else (self.bits / 8, 8)  # bytes; a scale and an offset a row
        if self.ratio is None:
            assert self.rank_k is not None and self.rank_v is not None
            found = [self.rank_k, self.rank_v]
        else:
            each = dense / self.ratio / (1 + _VALUES_TO_KEYS)
            found = [
                int((share * each - row * tokens) / (number * (tokens + width) + row))
                for share, width in zip((1.0, _VALUES_TO_KEYS), widths, strict=True)
            ]
        step = 1 if self.bits is None else 8 // self.bits  # what fills whole bytes
        ranks = [min(rank, tokens, width) // step * step for rank, width in zip(found, widths, strict=True)]
        cost = sum(rank * (number * (tokens + width) + row) + row * tokens
                   for rank, width in zip(ranks, widths, strict=True))  # fmt: skip
        return (ranks[0], ranks[1]) if min(ranks) >= 1 and cost < dense else None


class XKVCache(Cache):
    """``nbytes`` are live bytes of factors, exact tokens and places; ``peak_nbytes`` the most that were ever held."""

    layers: list[ExactLayer]  # type: ignore[assignment]

    def __init__(self, policy: XKV, layers: int, rotary: Rotary) -> None:
        super().__init__(layers=[ExactLayer() for _ in range(layers)])
        self.policy, self.rotary = policy, rotary
        self.peak_nbytes = 0
        self.groups: list[range] = []
        self.factors: dict[int, tuple[Factors, Factors]] = {}  # of keys and values, by number of the group
        self.places: dict[int, Tensor] = {}  # of factored tokens, (b, n) int32, by number of the group; -1: padding

    # -- what attention asks ---------------------------------------------------------------------

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *_: Any, **__: Any
    ) -> tuple[Tensor, Tensor]:
        if attention.current.get().cache is not self:
            raise InvalidInput(
                "past_key_values=XKVCache: its factors are read by its policy; stay within its attach block"
            )
        if not self.groups:
            width = key_states.shape[1] * key_states.shape[3]
            self.groups = self.policy.groups(len(self.layers), key_states.shape[2], width)
        layer = self.layers[layer_idx]
        exact: tuple[Tensor, Tensor] = layer.update(key_states, value_states, attention.current.get().places)
        found = self.factors.get(self._group(layer_idx))
        if found is None or key_states.shape[-2] == 1:  # a single query is answered by ``attention``
            return exact
        return self._whole(layer_idx, found)

    def seen_by(self, layer: int) -> Tensor | None:
        places = self.kept(layer)
        return None if bool((places >= 0).all()) else places[:, None] >= 0

    def kept(self, layer: int) -> Tensor:
        """``(b, n)`` int32: where the tokens of ``layer`` stand, in the order they are stored; -1 is padding."""
        exact, sinks = self.layers[layer].places, self.policy.sinks
        folded = self.places.get(self._group(layer))
        return exact if folded is None else torch.cat([exact[:, :sinks], folded, exact[:, sinks:]], 1)

    @torch.no_grad()
    def attention(self, layer: int, query: Tensor, scaling: float) -> Tensor | None:
        """``(b, H, 1, d)`` for one query over factored tokens; ``None`` where stock attention does."""
        found = self.factors.get(self._group(layer))
        if found is None or query.shape[2] > 1:
            return None
        exact, sinks = self.layers[layer], self.policy.sinks
        folded = self._keys(layer, found[0])
        keys = torch.cat([exact.keys[:, :, :sinks], folded, exact.keys[:, :, sinks:]], -2)
        rows, heads, _, width = query.shape
        kv, groups = keys.shape[1], heads // keys.shape[1]
        scores = query.view(rows, kv, groups, width) @ keys.mT * scaling
        valid = self.seen_by(layer)
        if valid is not None:
            scores = scores.masked_fill(~valid[:, :, None], -torch.inf)
        weights = scores.softmax(-1, dtype=torch.promote_types(query.dtype, torch.float32)).to(query.dtype)
        tail = sinks + folded.shape[-2]
        first, middle, last = weights[..., :sinks], weights[..., sinks:tail], weights[..., tail:]
        basis = self._block(layer, found[1]).view(rows, -1, kv, exact.values.shape[-1]).transpose(1, 2)
        answer: Tensor = (middle @ found[1].coefficients[:, None]) @ basis
        answer = answer + first @ exact.values[:, :, :sinks] + last @ exact.values[:, :, sinks:]
        return answer.reshape(rows, heads, 1, -1)

    def reorder_cache(self, beam_idx: Tensor) -> None:
        self._rows(lambda part: part.index_select(0, beam_idx.to(part.device)))

    def batch_repeat_interleave(self, repeats: int) -> None:
        self._rows(lambda part: part.repeat_interleave(repeats, 0))

    def batch_select_indices(self, indices: Tensor) -> None:
        self._rows(lambda part: part[indices])

    def reset(self) -> None:
        self.__init__(self.policy, len(self.layers), self.rotary)  # type: ignore[misc]

    @torch.no_grad()
    def attended(self, layer: int, query: Tensor, _: float) -> None:
        """When the last layer of a group has read, its new tokens are factored if there are enough."""
        self.peak_nbytes = max(self.peak_nbytes, self.nbytes)
        number = self._group(layer)
        if layer == self.groups[number][-1]:
            new = self.layers[layer].keys.shape[-2] - self.policy.sinks
            if self._due(number, query.shape[2], new):
                self._fold(number, new)

    @property
    def nbytes(self) -> int:
        """Live bytes, from storages."""
        folded = sum(keys.nbytes + values.nbytes for keys, values in self.factors.values())
        places = sum(part.untyped_storage().nbytes() for part in self.places.values())
        return folded + places + sum(layer.nbytes for layer in self.layers)

    # -- inside ----------------------------------------------------------------------------------

    def _group(self, layer: int) -> int:
        return next(number for number, members in enumerate(self.groups) if layer in members)

    def _due(self, number: int, read: int, new: int) -> bool:
        """Whether ``new`` exact tokens are factored now that ``read`` more were: a first text at once, what follows it
        when it is longer than the tail."""
        return new > (self.policy.tail if number in self.factors or read == 1 else 0)

    def _rows(self, choose: Callable[[Tensor], Tensor]) -> None:
        """``choose`` rows of the batch in everything that is held."""
        for layer in self.layers:
            layer.rows(choose)
        self.places = {number: choose(places) for number, places in self.places.items()}
        self.factors = {n: (keys.rows(choose), values.rows(choose)) for n, (keys, values) in self.factors.items()}

    def _fold(self, number: int, new: int) -> None:
        """Factor the ``new`` exact tokens behind the sinks of a group, together with what is factored already; left
        as it is while factors would take more bytes than they save."""
        members, sinks, before = self.groups[number], self.policy.sinks, self.factors.get(number)
        ranks = self._ranks(number, new + (before[0].count if before else 0))
        if ranks is None:
            return
        places = self.layers[members[0]].places[:, sinks:]
        valid = places[..., None] >= 0
        keys = torch.cat([self._unrotated(layer) for layer in members], -1) * valid
        values = torch.cat([_flat(self.layers[layer].values[:, :, sinks:]) for layer in members], -1) * valid
        dtype = self.layers[members[0]].dtype
        self._hold(
            number,
            factorise(keys.to(dtype), ranks[0], before[0] if before else None),
            factorise(values, ranks[1], before[1] if before else None),
            torch.cat([self.places[number], places], 1) if before else places.clone(),
        )
        for layer in members:
            self.layers[layer].drop(sinks)

    def _hold(self, number: int, keys: Factors, values: Factors, places: Tensor) -> None:
        """Of a group from now on."""
        bits = self.policy.bits
        self.factors[number] = (keys, values) if bits is None else (keys.rounded(bits), values.rounded(bits))
        self.places[number] = places

    def _ranks(self, number: int, count: int) -> tuple[int, int] | None:
        """Of ``count`` factored tokens of a group."""
        members = self.groups[number]
        first = self.layers[members[0]]
        keys, values = (part.shape[1] * part.shape[3] * len(members) for part in (first.keys, first.values))
        return self.policy.ranks(count, keys, values, first.keys.element_size())

    def _unrotated(self, layer: int) -> Tensor:
        """``(b, new, H_kv d)`` of the exact tokens behind the sinks, positions off; every row by its own places."""
        exact, sinks = self.layers[layer], self.policy.sinks
        rows = [
            self.rotary.unrotate(row, places.clamp_min(0))
            for row, places in zip(exact.keys[:, :, sinks:], exact.places[:, sinks:], strict=True)
        ]
        return _flat(torch.stack(rows))

    def _block(self, layer: int, factors: Factors) -> Tensor:
        """``(b, r, e)``: the layer's columns of its group's basis."""
        members = self.groups[self._group(layer)]
        basis = factors.basis
        width = basis.shape[2] // len(members)
        at = (layer - members[0]) * width
        return basis[..., at : at + width]

    def _keys(self, layer: int, factors: Factors) -> Tensor:
        """``(b, H_kv, n, d)`` of the factored tokens, rotated."""
        exact = self.layers[layer].keys
        plain = factors.coefficients @ self._block(layer, factors)
        heads = plain.view(*plain.shape[:2], exact.shape[1], exact.shape[3]).transpose(1, 2)
        places = self.places[self._group(layer)].clamp_min(0)
        rows = [self.rotary.rotate(row, at) for row, at in zip(heads, places, strict=True)]
        return torch.stack(rows).to(exact.dtype)

    def _whole(self, layer: int, found: tuple[Factors, Factors]) -> tuple[Tensor, Tensor]:
        """All keys and values, rebuilt: for several queries at once."""
        exact, sinks = self.layers[layer], self.policy.sinks
        plain = found[1].coefficients @ self._block(layer, found[1])
        values = plain.view(*plain.shape[:2], exact.values.shape[1], exact.values.shape[3]).transpose(1, 2)
        middle = (self._keys(layer, found[0]), values)
        return (
            torch.cat([exact.keys[:, :, :sinks], middle[0], exact.keys[:, :, sinks:]], -2),
            torch.cat([exact.values[:, :, :sinks], middle[1], exact.values[:, :, sinks:]], -2),
        )


def _flat(states: Tensor) -> Tensor:
    """``(b, H, n, d)`` as ``(b, n, H d)``."""
    rows, heads, count, width = states.shape
    return states.transpose(1, 2).reshape(rows, count, heads * width)
