"""Evict, then factorise: the tokens that matter, in few numbers each.

CAKE (arXiv 2503.12491) chooses tokens and xKV (arXiv 2503.18893) stores them. Layers that share a basis must keep the
same tokens, so that here a *group* of layers is what has a preference and a share of the budget: the mean of its
layers'. Within a group a token's score is the mean over layers and heads, each layer's scaled to one sum.

The cascade stays: when a later group has read, earlier ones give tokens back, which is dropping rows of coefficients
and factoring the small rest anew, exactly. What is left of them after the last group meets the budget, bases, sinks,
tail and places included.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from lamina.activation.budgeted import indicators, ranks, shares
from lamina.activation.cascade_eviction import CAKE
from lamina.activation.cross_layer_svd import XKV, XKVCache
from lamina.errors import BudgetError, InvalidInput
from lamina.tensors.rotary import Rotary

_SCORE = 8  # bytes of a token's score at most


@dataclass(frozen=True, slots=True)
class EvictedBases:
    """``evict`` says which tokens stay and how many bytes there are, ``factor`` how they are stored (a ``ratio``; its
    ``tail`` is part of the budget). Raises ``InvalidInput`` for ranks instead of a ratio, for a pyramid, for bits in
    ``evict``.
    """

    evict: CAKE
    factor: XKV

    def __post_init__(self) -> None:
        if self.factor.ratio is None:
            raise InvalidInput(
                f"factor={self.factor!r}: give a ratio; a rank says nothing about unknown numbers of tokens"
            )
        if self.evict.allocation == "pyramid":
            raise InvalidInput(f"evict={self.evict!r}: a pyramid gives layers of a group unlike shares; use another")
        if self.evict.bits is not None:
            raise InvalidInput(f"evict={self.evict!r}: give bits to the factors, which are what is stored")

    def cache(self, model: PreTrainedModel) -> EvictedBasesCache:
        """An empty cache for ``model``. Raises ``InvalidInput`` for one that caches latents: what attends to them has
        keys of another kind, which say nothing of where a group's bytes are."""
        if ranks.caches_latents(model):
            raise InvalidInput(f"model={type(model).__name__}: caches latents; give XKV alone")
        return EvictedBasesCache(
            self, int(model.config.get_text_config(decoder=True).num_hidden_layers), Rotary.of(model)
        )

    def tokens_for(self, bytes_per_token: int, layers: int, rows: int = 1) -> int:
        """Factored tokens a layer on average, where a dense one costs ``bytes_per_token`` in one layer, all ``rows`` of
        the batch together. Raises ``BudgetError`` where sinks, tail and window alone are over the budget."""
        if self.evict.tokens is not None:
            return self.evict.tokens
        ratio, budget, exact = self.factor.ratio, self.evict.budget, self.factor.sinks + self.factor.tail
        assert ratio is not None and isinstance(budget, int)
        each = bytes_per_token / ratio + rows * (4 + _SCORE)
        found = int((budget / layers - exact * (bytes_per_token + 4 * rows)) / each)
        if found <= self.evict.window:
            least = int(layers * ((self.evict.window + 1) * each + exact * (bytes_per_token + 4 * rows))) + 1
            raise BudgetError(
                f"budget={budget} bytes: sinks, tail and window alone take {least}; give as much, or a shorter tail "
                f"than {self.factor.tail}"
            )
        return found


class EvictedBasesCache(XKVCache):
    """``nbytes`` and ``peak_nbytes`` as xKV's."""

    def __init__(self, policy: EvictedBases, layers: int, rotary: Rotary) -> None:
        super().__init__(policy.factor, layers, rotary)
        self.evict, self.composed = policy.evict, policy
        self._mean = 0  # factored tokens a layer on average; 0: not known yet
        self._weights: dict[int, list[float]] = {}  # of the layers of a group that have read
        self._scores: dict[int, Tensor] = {}  # (b, n) of a group's tokens, in the order of ``kept``
        self._generator = torch.Generator().manual_seed(policy.evict.seed)

    def allocation(self) -> list[int]:
        """Tokens that each layer holds now."""
        return [self.kept(layer).shape[1] for layer in range(len(self.layers))]

    def state(self) -> dict[str, Tensor]:
        """What is known of the groups besides what they hold, for a cache that goes on later."""
        found = {f"group.{number:03d}.score": score for number, score in self._scores.items()}
        weights = [sum(of) / len(of) for _, of in sorted(self._weights.items())]
        return found | {
            "mean": torch.tensor([self._mean]),
            "weights": torch.tensor(weights, dtype=torch.float64),
            "drawn": self._generator.get_state(),
        }

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Take up ``state``. Raises ``KeyError``."""
        self._mean = int(tensors["mean"])
        self._weights = {number: [weight] for number, weight in enumerate(tensors["weights"].tolist())}
        self._scores = {number: tensors[f"group.{number:03d}.score"] for number in self._weights}
        self._generator.set_state(tensors["drawn"])

    @torch.no_grad()
    def attended(self, layer: int, query: Tensor, scaling: float) -> None:
        number = self._group(layer)
        exact = self.layers[layer]
        if not self._mean:
            rows, heads, _, width = exact.keys.shape
            each = rows * heads * (width + exact.values.shape[-1]) * exact.keys.element_size()
            self._mean = self.composed.tokens_for(each, len(self.layers), rows)
        new = exact.keys.shape[-2] - self.policy.sinks
        if self._due(number, query.shape[2], new):
            self._score(number, layer, query, scaling)
        super().attended(layer, query, scaling)

    def reset(self) -> None:
        self.__init__(self.composed, len(self.layers), self.rotary)  # type: ignore[misc]

    @property
    def nbytes(self) -> int:
        """Live bytes, scores included."""
        return super().nbytes + sum(score.untyped_storage().nbytes() for score in self._scores.values())

    # -- inside ----------------------------------------------------------------------------------

    def _rows(self, choose: Callable[[Tensor], Tensor]) -> None:
        super()._rows(choose)
        self._scores = {number: choose(score) for number, score in self._scores.items()}

    def _score(self, number: int, layer: int, query: Tensor, scaling: float) -> None:
        """Add what ``layer`` says of its group's tokens and of how much the group wants."""
        keys = self._whole(layer)[0] if number in self.factors else self.layers[layer].keys
        window = min(self.evict.window, query.shape[2], keys.shape[2])
        seen = indicators.window_attention(query[:, :, -window:], keys, self.seen_by(layer), scaling)
        evict = self.evict
        score = indicators.scores(
            seen, keys.shape[1], evict.indicator, gamma=evict.gamma, pool=evict.pool, generator=self._generator
        ).mean(1)
        score = score / score.sum(-1, keepdim=True).clamp_min(1e-30)
        first = layer == self.groups[number][0]
        self._scores[number] = score if first else self._scores[number] + score
        older = seen[..., : seen.shape[-1] - window]
        weight = indicators.preference(older).weight(evict.tau)
        self._weights[number] = [weight] if first else [*self._weights[number], weight]

    def _fold(self, number: int, new: int) -> None:
        """Factor a group; then it and all before it are cut to their shares."""
        super()._fold(number, new)
        if number not in self.factors:
            return
        sinks, count = self.policy.sinks, self.factors[number][0].count
        self._scores[number] = self._protected(self._scores[number][:, sinks : sinks + count], self.places[number])
        read = sorted(self._weights)
        caps = [self.factors[n][0].count if n in self.factors else 0 for n in read]
        for n, budget in zip(read, self._budgets(read, caps), strict=True):
            if n in self.factors and budget < self.factors[n][0].count:
                self._cut(n, budget)

    def _protected(self, score: Tensor, places: Tensor) -> Tensor:
        """The newest ``window`` tokens outrank all others, padding none."""
        newest = places.max(-1, keepdim=True).values - self.evict.window
        return score.masked_fill(places > newest, torch.inf).masked_fill(places < 0, -torch.inf)

    def _budgets(self, read: list[int], caps: list[int]) -> list[int]:
        """Factored tokens of each group that has read; together not more than all layers may hold."""
        sizes = [len(self.groups[n]) for n in read]
        weights = [sum(self._weights[n]) / len(self._weights[n]) for n in read]
        if self.evict.allocation != "cake":
            weights = [1.0] * len(read)
            total = self._mean * len(read)
        else:
            total = self._mean * len(self.groups)
        least = [min(self.evict.window, cap) for cap in caps]
        while True:
            rest = max(total - sum(least), 0)
            more = shares.proportional(rest, weights, [cap - low for cap, low in zip(caps, least, strict=True)])
            found = [low + high for low, high in zip(least, more, strict=True)]
            held = sum(count * size for count, size in zip(found, sizes, strict=True))
            over = held - self._mean * len(self.layers)
            if over <= 0 or not rest:
                return found
            total -= max(over // max(sizes), 1)

    def _cut(self, number: int, budget: int) -> None:
        chosen = self._scores[number].topk(budget, -1).indices.sort(-1).values
        allowed = self._ranks(number, budget)
        keys, values = self.factors[number]
        if allowed is None:  # so few tokens that only fewer numbers of each would pay
            allowed = keys.rank, values.rank
        factors = tuple(
            self._rounded(part.kept(chosen, rank)) for part, rank in zip((keys, values), allowed, strict=True)
        )
        self._hold(number, factors, self.places[number].gather(1, chosen))
        self._scores[number] = self._scores[number].gather(1, chosen)
