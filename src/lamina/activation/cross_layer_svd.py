"""xKV: every token stays, in fewer numbers; neighbouring layers share one low-rank basis of their tokens.

xKV, arXiv 2503.18893: single tokens look unlike in neighbouring layers, but the spaces that all tokens span are
aligned, so that one factorisation of several layers side by side costs less than one of each. ``group=1`` is the
per-layer SVD that it is compared with.

What is unusual: ratios are of bytes, with bases, exact tokens and places charged, since at equal rank more layers can
never lose; a text too short to gain from factors stays as it is until it grows; and a tail that grew long is folded in
by one exact step instead of a new factorisation.

Prefill attends to exact keys and values; when a group's last layer has read, its tokens become coefficients that the
group shares and a basis of which each layer owns a block; exact keys go before values are factored. Keys are factored
with their positions off. Decoding rebuilds keys (``budgeted.reading``), all of them, or those that a query needs
(``budgeted.landmarks``), or once, to be held within a bound. Tokens of a layer stand in this order: the first
``sinks``, exact; those that are factored; the tail, exact.

Models with latent attention (MLA, arXiv 2405.04434) cache a latent and a small rotated key: the latents of a group are
factored, and have no positions to take off; the rotated keys stay.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor
from transformers import Cache, PreTrainedModel

from lamina.activation.budgeted import attention, ranks
from lamina.activation.budgeted.exact import ExactLayer
from lamina.activation.budgeted.factors import Factors, factorise
from lamina.activation.budgeted.landmarks import Landmarks
from lamina.activation.budgeted.reading import FactoredLayer, Turning
from lamina.activation.budgeted.stacks import Stack
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
    factors are rounded, within the same ratio; ``None``: as they are.

    A decoding step rebuilds every key. ``select``: it rebuilds about this many factored tokens instead, those it looks
    at most, by landmarks that take a sixteenth of the dense cache. ``rebuilt``: bytes in which rebuilt keys may be held
    from step to step, whole groups of layers. Both are charged beside the ratio. Raises ``InvalidInput``.
    """

    ratio: float | None = None
    rank_k: int | None = None
    rank_v: int | None = None
    group: int | Literal["auto"] = "auto"
    tail: int = 256
    sinks: int = 4
    bits: int | None = None
    select: int | None = None
    rebuilt: int = 0

    def __post_init__(self) -> None:
        given = (self.rank_k, self.rank_v)
        for name in ("rank_k", "rank_v", "tail", "sinks", "select", "rebuilt", "group"):
            value = getattr(self, name)
            if value not in (None, "auto") and (isinstance(value, bool) or not isinstance(value, int)):
                raise InvalidInput(f"{name}={value!r}: give a whole number")
        if self.ratio is not None and (isinstance(self.ratio, bool) or not isinstance(self.ratio, int | float)):
            raise InvalidInput(f"ratio={self.ratio!r}: give a number")
        if (self.ratio is None) == (given == (None, None)) or (None in given and given != (None, None)):
            raise InvalidInput(f"ratio={self.ratio!r}, rank_k={self.rank_k!r}, rank_v={self.rank_v!r}: "
                               "give a ratio, or both ranks")  # fmt: skip
        if self.ratio is not None and not 1 < self.ratio < 1e4:
            raise InvalidInput(f"ratio={self.ratio!r}: give how many times fewer bytes, more than 1")
        if any(rank is not None and rank < 1 for rank in given) or self.tail < 0 or self.sinks < 0:
            raise InvalidInput(f"rank_k={self.rank_k!r}, rank_v={self.rank_v!r} must be 1 or more, "
                               f"tail={self.tail!r} and sinks={self.sinks!r} not negative")  # fmt: skip
        if self.bits not in (None, *WIDTHS):
            raise InvalidInput(f"bits={self.bits!r}: give one of {', '.join(map(str, WIDTHS))}, or None")
        if self.group != "auto" and self.group < 1:
            raise InvalidInput(f"group={self.group!r}: give 'auto', or 1 or more layers")
        if self.rebuilt < 0 or (self.select is not None and (self.select < 1 or self.rebuilt)):
            raise InvalidInput(f"select={self.select!r}, rebuilt={self.rebuilt!r}: give tokens to rebuild at a step, "
                               "or bytes to hold rebuilt keys in")  # fmt: skip

    def cache(self, model: PreTrainedModel) -> XKVCache:
        """An empty cache for ``model``. Raises ``InvalidInput`` for one with neither rotary positions nor latents."""
        config = model.config.get_text_config(decoder=True)
        return XKVCache(self, int(config.num_hidden_layers), None if ranks.caches_latents(model) else Rotary.of(model))

    def groups(self, layers: int, tokens: int, width: int) -> list[range]:
        """Layers that share a basis, for a first text of ``tokens`` and keys of ``width`` numbers a layer."""
        size = self.group if self.group != "auto" else min(max(round(tokens / width), 1), _MOST)
        return [range(first, min(first + size, layers)) for first in range(0, layers, size)]

    def ranks(self, tokens: int, key_width: int, value_width: int, itemsize: int = 4) -> tuple[int, int] | None:
        """Ranks of keys and values for ``tokens`` factored tokens of a group, dense numbers of ``itemsize`` bytes;
        ``None`` while factors do not pay."""
        widths, bits = (key_width, value_width), self.bits
        dense = tokens * sum(widths) * itemsize
        if self.ratio is None:
            asked = (self.rank_k or 0, self.rank_v or 0)
            found = [ranks.limited(rank, tokens, width, bits) for rank, width in zip(asked, widths, strict=True)]
        else:
            each = dense / self.ratio / (1 + _VALUES_TO_KEYS)
            rooms = (each, each * _VALUES_TO_KEYS)
            found = [ranks.within(room, tokens, e, itemsize, bits) for room, e in zip(rooms, widths, strict=True)]
        cost = sum(ranks.cost(rank, tokens, width, itemsize, bits) for rank, width in zip(found, widths, strict=True))
        return (found[0], found[1]) if min(found) >= 1 and cost < dense else None

    def rank_of_latents(self, tokens: int, width: int, beside: int, itemsize: int = 4) -> int | None:
        """The same for a group of latents of ``width`` numbers in all, with ``beside`` that stay: within the ratio of
        both, or ``rank_k``. Raises ``InvalidInput`` for a ratio that what stays alone passes."""
        dense = tokens * width * itemsize
        if self.ratio is None:
            rank = ranks.limited(self.rank_k or 0, tokens, width, self.bits)
        else:
            stays = tokens * beside * itemsize
            if (dense + stays) / self.ratio <= stays:
                raise InvalidInput(f"ratio={self.ratio!r}: rotated keys, which stay beside the latents, alone pass it; "
                                   f"give less than {(width + beside) / beside:.1f}")  # fmt: skip
            rank = ranks.within((dense + stays) / self.ratio - stays, tokens, width, itemsize, self.bits)
        return rank if rank >= 1 and ranks.cost(rank, tokens, width, itemsize, self.bits) < dense else None


class XKVCache(Cache):
    """``nbytes`` are live bytes of factors, exact tokens and places, and of landmarks and rebuilt keys once a step made
    them; ``peak_nbytes`` the most that were ever held. ``rotary`` ``None``: keys are latents, values rotated keys."""

    layers: list[ExactLayer]  # type: ignore[assignment]

    def __init__(self, policy: XKV, layers: int, rotary: Rotary | None) -> None:
        super().__init__(layers=[ExactLayer() for _ in range(layers)])
        self.policy, self.rotary = policy, rotary
        self.peak_nbytes = 0
        self.groups: list[range] = []
        self.factors: dict[int, tuple[Factors, ...]] = {}  # of keys and values, or latents, by number of the group
        self.places: dict[int, Tensor] = {}  # of factored tokens, (b, n) int32, by number of the group; -1: padding
        self._turning: Turning | None = None  # of the step that runs
        self._landmarks: dict[int, Landmarks | None] = {}  # of layers that were asked
        self._rebuilt: dict[int, Tensor] = {}  # keys of layers, as long as their factors stay

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
        if self._group(layer_idx) not in self.factors or (key_states.shape[-2] == 1 and self.rotary is not None):
            return exact  # a single query is answered by ``attention``
        return self._whole(layer_idx)

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
        if self._group(layer) not in self.factors or query.shape[2] > 1 or self.rotary is None:
            return None
        exact, factored = self.layers[layer], self._read(layer)
        rows, heads, _, width = query.shape
        query = (query * scaling).view(rows, factored.heads, heads // factored.heads, width)
        chosen = self._chosen(layer, factored, query)
        if chosen is not None:
            middle = factored.chosen_scores(query, chosen)
            places = factored.turning.places[:, None].expand(-1, factored.heads, -1).gather(2, chosen)
        else:
            keys = self._held_keys(layer)
            middle = factored.scores(query) if keys is None else query @ keys.mT
            places = factored.turning.places[:, None]
        beside = exact.keys.shape[-2]
        scores = torch.cat([query @ exact.keys.mT, middle], -1)
        places = torch.cat([exact.places[:, None].expand(-1, places.shape[1], -1), places], -1)
        scores = scores.masked_fill(places[:, :, None] < 0, -torch.inf)
        weights = scores.softmax(-1, dtype=torch.promote_types(query.dtype, torch.float32)).to(query.dtype)
        first, middle = weights[..., :beside], weights[..., beside:]
        answer = factored.answer(middle) if chosen is None else factored.chosen_answer(middle, chosen)
        return (first @ exact.values + answer).reshape(rows, heads, 1, -1)

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
        if layer == len(self.layers) - 1:
            self._turning = None
        number = self._group(layer)
        if layer == self.groups[number][-1]:  # until here bytes only grew
            self.peak_nbytes = max(self.peak_nbytes, self.nbytes)
            new = self.layers[layer].keys.shape[-2] - self.policy.sinks
            if self._due(number, query.shape[2], new):
                self._fold(number, new)

    @property
    def nbytes(self) -> int:
        """Live bytes, from storages."""
        folded = sum(part.nbytes for held in self.factors.values() for part in held)
        folded += sum(marks.nbytes for marks in self._landmarks.values() if marks is not None)
        parts = (*self.places.values(), *self._rebuilt.values())
        return folded + sum(part.untyped_storage().nbytes() for part in parts) + sum(one.nbytes for one in self.layers)

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
        self.factors = {number: tuple(part.rows(choose) for part in held) for number, held in self.factors.items()}
        self._forget(*self.factors)

    def _fold(self, number: int, new: int) -> None:
        """Factor the ``new`` exact tokens behind the sinks of a group, together with what is factored already; left
        as it is while factors would take more bytes than they save."""
        members, sinks, before = self.groups[number], self.policy.sinks, self.factors.get(number)
        allowed = self._ranks(number, new + (before[0].count if before else 0))
        if allowed is None:
            return
        places = self.layers[members[0]].places[:, sinks:].clone()
        found = []
        for kind, (rank, plain) in enumerate(zip(allowed, (self._plain_keys, self._plain_values), strict=False)):
            parts = [partial(plain, layer, places) for layer in members]
            first = parts[0](slice(0, 1))
            stack = Stack(parts, len(places), new, first.shape[2] * len(members))
            found.append(self._rounded(factorise(stack, rank, before[kind] if before else None)))
            for layer in members:  # before the next is factored
                drop = self.layers[layer].drop_values if kind else self.layers[layer].drop_keys
                drop(sinks)
        self._hold(number, tuple(found), torch.cat([self.places[number], places], 1) if before else places)

    def _rounded(self, factors: Factors) -> Factors:
        return factors if self.policy.bits is None else factors.rounded(self.policy.bits)

    def _hold(self, number: int, factors: tuple[Factors, ...], places: Tensor) -> None:
        """Of a group from now on."""
        self.factors[number], self.places[number] = factors, places
        self._forget(number)

    def _forget(self, *groups: int) -> None:
        """What was made of factors that are gone."""
        self._turning = None
        for layer in (layer for number in groups for layer in self.groups[number]):
            self._landmarks.pop(layer, None)
            self._rebuilt.pop(layer, None)

    def _ranks(self, number: int, count: int) -> tuple[int, ...] | None:
        """Of ``count`` factored tokens of a group."""
        members = self.groups[number]
        first = self.layers[members[0]]
        keys, values = (part.shape[1] * part.shape[3] * len(members) for part in (first.keys, first.values))
        if self.rotary is not None:
            return self.policy.ranks(count, keys, values, first.keys.element_size())
        rank = self.policy.rank_of_latents(count, keys, values, first.keys.element_size())
        return None if rank is None else (rank,)

    def _plain_keys(self, layer: int, places: Tensor, at: slice) -> Tensor:
        """``(b, t, H_kv d)``: of a slice of the exact tokens behind the sinks, positions off; nothing for padding."""
        keys, places = self.layers[layer].keys[:, :, self.policy.sinks :][:, :, at], places[:, at]
        if self.rotary is not None:
            pairs = zip(keys, places, strict=True)
            keys = torch.stack([self.rotary.unrotate(row, own.clamp_min(0)) for row, own in pairs]).to(keys.dtype)
        return _flat(keys) * (places[..., None] >= 0)

    def _plain_values(self, layer: int, places: Tensor, at: slice) -> Tensor:
        """The same of values."""
        values = self.layers[layer].values[:, :, self.policy.sinks :][:, :, at]
        return _flat(values) * (places[:, at, None] >= 0)

    def _read(self, layer: int) -> FactoredLayer:
        """What ``layer`` has of its group's factors."""
        number = self._group(layer)
        members, found, places = self.groups[number], self.factors[number], self.places[number]
        if self._turning is None or not torch.equal(self._turning.places, places):
            self._turning = Turning.of(places, self.rotary)
        exact = self.layers[layer]
        values = found[1] if len(found) > 1 else None
        return FactoredLayer(
            found[0], values, layer - members[0], len(members), exact.keys.shape[1], self._turning, exact.dtype
        )

    def _chosen(self, layer: int, factored: FactoredLayer, query: Tensor) -> Tensor | None:
        """``(b, H_kv, t)``: tokens that a query reads; ``None``: all."""
        if self.policy.select is None:
            return None
        if layer not in self._landmarks:
            self._landmarks[layer] = Landmarks.of(factored, self.policy.select)
        marks = self._landmarks[layer]
        return None if marks is None else marks.tokens(query)

    def _held_keys(self, layer: int) -> Tensor | None:
        """Rebuilt keys of ``layer``, made with those of its whole group if all of them may be held."""
        if layer not in self._rebuilt:
            members, factored, keys = self.groups[self._group(layer)], self._read(layer), self.layers[layer].keys
            need = len(members) * factored.count * keys[:, :, 0].numel() * keys.element_size()
            if need + sum(part.nbytes for part in self._rebuilt.values()) > self.policy.rebuilt:
                return None
            self._rebuilt |= {member: self._read(member).all_keys() for member in members}
        return self._rebuilt[layer]

    def _whole(self, layer: int) -> tuple[Tensor, Tensor]:
        """All keys and values, rebuilt: for several queries at once."""
        exact, sinks, factored, held = self.layers[layer], self.policy.sinks, self._read(layer), self._held_keys(layer)
        keys = factored.all_keys() if held is None else held
        whole = torch.cat([exact.keys[:, :, :sinks], keys, exact.keys[:, :, sinks:]], -2)
        if factored.values is None:
            return whole, exact.values
        values = factored.all_values()
        return whole, torch.cat([exact.values[:, :, :sinks], values, exact.values[:, :, sinks:]], -2)


def _flat(states: Tensor) -> Tensor:
    """``(b, H, n, d)`` as ``(b, n, H d)``."""
    rows, heads, count, width = states.shape
    return states.transpose(1, 2).reshape(rows, count, heads * width)
