"""The cache of CAKE: layers that evict, and the cascade that keeps all of them within the budget.

Algorithm 1 of arXiv 2503.12491. After layer ``m`` has read, layers up to ``m`` know their new preference, those behind
it still have that of the chunk before (none in the first); every layer is then cut to its share. Shares only shrink
while a chunk is read, so that the kept sets are nested and the end is that of one allocation over all layers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import Cache

from lamina.activation.budgeted import attention, indicators, shares
from lamina.activation.budgeted.layer import EvictingLayer

if TYPE_CHECKING:
    from lamina.activation.cascade_eviction import CAKE


class CakeCache(Cache):
    """``nbytes`` are live bytes, ``peak_nbytes`` the most that were ever held, counted after each layer's attention and
    before its eviction."""

    layers: list[EvictingLayer]  # type: ignore[assignment]

    def __init__(self, policy: CAKE, layers: int) -> None:
        super().__init__(layers=[EvictingLayer() for _ in range(layers)])
        self.policy = policy
        self.peak_nbytes = 0
        self._weights: dict[int, float] = {}  # of the layers that have read
        self._budgets: list[int] = []
        self._mean = 0  # tokens a layer on average; 0: not known yet
        self._generator = torch.Generator().manual_seed(policy.seed)

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *_: Any, **__: Any
    ) -> tuple[Tensor, Tensor]:
        if not self._mean:
            self._mean = self.policy.tokens_for(_bytes_per_token(key_states, value_states), len(self.layers))
        now = attention.current.get()
        found: tuple[Tensor, Tensor] = self.layers[layer_idx].update(key_states, value_states, now.places)
        return found

    def seen_by(self, layer: int) -> Tensor | None:
        found: Tensor | None = self.layers[layer].valid
        return found

    @torch.no_grad()
    def attended(self, layer: int, query: Tensor, scaling: float) -> None:
        """Score the tokens of ``layer`` by its last queries, and cut all layers to their shares."""
        self.peak_nbytes = max(self.peak_nbytes, self.nbytes)
        if query.shape[2] == 1 and len(self._weights) == len(self.layers):
            self._decoded(self.layers[layer], self._budgets[layer], query, scaling)
        else:
            self._prefilled(layer, query, scaling)

    def allocation(self) -> list[int]:
        """Tokens that each layer holds now, window included."""
        return [layer.stored for layer in self.layers]

    def kept(self, layer: int) -> Tensor:
        """``(b, H_kv, n)`` int32: where the kept tokens stand; -1 is padding."""
        found: Tensor = self.layers[layer].positions
        return found

    @property
    def nbytes(self) -> int:
        """Live bytes of keys, values, positions and scores, from their storages."""
        return sum(layer.nbytes for layer in self.layers)

    # -- inside ----------------------------------------------------------------------------------

    def _prefilled(self, number: int, query: Tensor, scaling: float) -> None:
        layer, policy = self.layers[number], self.policy
        window = min(policy.window, layer.stored)
        seen = indicators.window_attention(query[:, :, -window:], layer.keys, layer.valid, scaling)
        seen = seen[..., : layer.stored - window]
        layer.scores = self._scored(seen, layer)
        self._weights[number] = indicators.preference(seen).weight(policy.tau)
        self._cut(unread=layer.scores.shape[-1])

    def _cut(self, unread: int) -> None:
        """Share the budget, and cut each layer that has read to its share. CAKE shares among those that have read;
        a fixed allocation among all, of which those that have not will hold ``unread`` tokens to choose from."""
        evictable = (self._mean - self.policy.window) * len(self.layers)
        wanted = dict(enumerate(self._fixed(evictable))) or dict(sorted(self._weights.items()))
        caps = [self.layers[n].scores.shape[-1] if n in self._weights else unread for n in wanted]
        budgets = shares.proportional(evictable, list(wanted.values()), caps)
        for n, budget in zip(wanted, budgets, strict=True):
            if n in self._weights:
                self.layers[n].keep(budget)
        if sum(caps) < evictable:  # what fits wholly may grow until its shares are full
            budgets = shares.proportional(evictable, list(wanted.values()), [evictable] * len(caps))
        self._budgets = budgets

    def _fixed(self, evictable: int) -> list[float]:
        """Weights that hold before anything is read; none for CAKE."""
        if self.policy.allocation == "cake":
            return []
        if self.policy.allocation == "uniform":
            return [1.0] * len(self.layers)
        return shares.pyramid(evictable, len(self.layers), self.policy.window, self.policy.beta)

    def _decoded(self, layer: EvictingLayer, budget: int, query: Tensor, scaling: float) -> None:
        """Over its budget, the token that the newest query needs least leaves each head."""
        evictable = layer.stored - self.policy.window
        if evictable <= budget:
            return
        seen = indicators.window_attention(query, layer.keys, layer.valid, scaling)[..., :evictable]
        layer.scores = self._scored(seen, layer)
        layer.keep(budget)

    def _scored(self, seen: Tensor, layer: EvictingLayer) -> Tensor:
        policy = self.policy
        found = indicators.scores(
            seen,
            layer.keys.shape[1],
            policy.indicator,
            gamma=policy.gamma,
            pool=policy.pool,
            generator=self._generator,
        )
        if policy.sinks:
            first = layer.positions[..., : found.shape[-1]]
            found = found.masked_fill((first >= 0) & (first < policy.sinks), torch.inf)
        return found


def _bytes_per_token(keys: Tensor, values: Tensor) -> int:
    """In one layer: keys and values of all heads and rows, a position and a score each."""
    rows, heads = keys.shape[:2]
    wide = torch.promote_types(keys.dtype, torch.float32).itemsize
    return int(rows * heads * ((keys.shape[-1] + values.shape[-1]) * keys.element_size() + 4 + wide))
