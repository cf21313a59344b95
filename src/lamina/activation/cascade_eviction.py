"""CAKE: a cache that holds a budget of bytes at every moment, spent on the layers and tokens that need it.

CAKE, arXiv 2503.12491 (ICLR 2025): each layer says how much it wants (section 3.2), each token how much it mattered
(mean and fluctuation of attention, section 3.3), and after every layer of the prefill the earlier ones give back what
the later one needs (the cascade, section 3.4), so that the budget and one whole layer are all that is ever held.

SnapKV, PyramidKV and StreamingLLM are special cases, by name below. What is unusual: the budget is bytes, with
positions and scores charged; shares are whole numbers that meet the total exactly; rows of a batch are scored each by
itself; and the budget holds over several chunks of a prefill, not over its first alone.

The cascade (algorithm 1): after layer ``m`` has read, layers up to ``m`` know their new preference, those behind it
still have that of the chunk before (none in the first); every layer is then cut to its share. Shares only shrink while
a text is read, so that the kept sets are nested and the end is that of one allocation over all layers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from transformers import Cache, PreTrainedModel

from lamina.activation.budgeted import attention, indicators, shares
from lamina.activation.budgeted.indicators import Indicator
from lamina.activation.budgeted.layer import EvictingLayer
from lamina.budget import parse_bytes, written
from lamina.errors import BudgetError, InvalidInput
from lamina.tensors.pack import WIDTHS

Allocation = Literal["cake", "uniform", "pyramid"]


@dataclass(frozen=True, slots=True)
class CAKE:
    """``budget``: bytes of the whole cache (``"6MiB"``), or with ``tokens`` given instead, tokens a layer on average.

    ``window``: the last tokens, which every layer keeps and whose queries judge the others. ``tau``: exponents
    ``(1/tau1, 1/tau2)`` of dispersion and shift. ``gamma``: weight of fluctuation. ``pool``: neighbours that share a
    score (odd). ``sinks``: first tokens that are never evicted. ``beta``: steepness of a pyramid. ``every``: tokens
    that leave a full layer at once while decoding (the paper: 1; more spares time and stays below the budget).
    ``bits``: 8, 4 or 2 to which keys and values are rounded, each token's by itself; ``None``: as they are.
    ``seed``: of random eviction. Raises ``InvalidInput``; ``BudgetError`` at the first read, for a budget under the
    window.
    """

    budget: int | str | None = None
    tokens: int | None = None
    window: int = 32
    tau: tuple[float, float] = (1.0, 1.0)
    gamma: float = 200.0
    pool: int = 5
    allocation: Allocation = "cake"
    indicator: Indicator = "cake"
    sinks: int = 0
    beta: float = 20.0
    every: int = 8
    bits: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if (self.budget is None) == (self.tokens is None):
            raise InvalidInput(f"budget={self.budget!r}, tokens={self.tokens!r}: give one of them")
        if self.budget is not None:
            object.__setattr__(self, "budget", parse_bytes("budget", self.budget))
        if self.window < 1 or self.sinks < 0 or self.pool < 1 or self.pool % 2 == 0:
            raise InvalidInput(
                f"window={self.window!r} must be 1 or more, sinks={self.sinks!r} 0 or more, pool={self.pool!r} odd"
            )
        if min(self.tau) <= 0 or self.gamma < 0 or min(self.beta, self.every) < 1:
            raise InvalidInput(
                f"tau={self.tau!r} must be positive, gamma={self.gamma!r} not negative, beta and every >= 1"
            )
        if self.bits not in (None, *WIDTHS):
            raise InvalidInput(f"bits={self.bits!r}: give one of {', '.join(map(str, WIDTHS))}, or None")
        if self.tokens is not None and self.tokens <= self.window + self.sinks:
            raise InvalidInput(
                f"tokens={self.tokens!r}: must be more than window and sinks ({self.window + self.sinks})"
            )

    def cache(self, model: PreTrainedModel) -> CakeCache:
        """An empty cache for ``model``."""
        return CakeCache(self, int(model.config.get_text_config(decoder=True).num_hidden_layers))

    def tokens_for(self, bytes_per_token: int, layers: int) -> int:
        """Tokens a layer on average, where one costs ``bytes_per_token`` in one layer. Raises ``BudgetError``."""
        if self.tokens is not None:
            return self.tokens
        assert isinstance(self.budget, int)
        found = self.budget // (bytes_per_token * layers)
        if found <= self.window + self.sinks:
            least = (self.window + self.sinks + 1) * bytes_per_token * layers
            raise BudgetError(
                f"budget={written(self.budget)} holds {found} tokens in each of {layers} layers, not more than the "
                f"window and sinks ({self.window + self.sinks}); give at least {written(least)}"
            )
        return found


class CakeCache(Cache):
    """``nbytes`` are live bytes, ``peak_nbytes`` the most that were ever held, counted after each layer's attention and
    before its eviction."""

    layers: list[EvictingLayer]  # type: ignore[assignment]

    def __init__(self, policy: CAKE, layers: int) -> None:
        super().__init__(layers=[EvictingLayer(policy.bits) for _ in range(layers)])
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
            self._mean = self.policy.tokens_for(
                _bytes_per_token(key_states, value_states, self.policy.bits), len(self.layers)
            )
        now = attention.current.get()
        found: tuple[Tensor, Tensor] = self.layers[layer_idx].update(key_states, value_states, now.places)
        return found

    def seen_by(self, layer: int) -> Tensor | None:
        found: Tensor | None = self.layers[layer].valid
        return found

    def attention(self, *_: object) -> None:
        """Stock attention does."""

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

    def state(self) -> dict[str, Tensor]:
        """What is known of the layers besides what they hold, for a cache that goes on later."""
        return {
            "mean": torch.tensor([self._mean]),
            "weights": torch.tensor([self._weights[n] for n in sorted(self._weights)], dtype=torch.float64),
            "budgets": torch.tensor(self._budgets),
            "drawn": self._generator.get_state(),
        }

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Take up ``state``. Raises ``KeyError``."""
        self._mean, self._budgets = int(tensors["mean"]), tensors["budgets"].tolist()
        self._weights = dict(enumerate(tensors["weights"].tolist()))
        self._generator.set_state(tensors["drawn"])

    # -- inside ----------------------------------------------------------------------------------

    def _prefilled(self, number: int, query: Tensor, scaling: float) -> None:
        layer, policy = self.layers[number], self.policy
        window = min(policy.window, layer.stored)
        seen = indicators.window_attention(query[:, :, -window:], layer.keys, layer.valid, scaling)
        seen = seen[..., : layer.stored - window]
        layer.scores = self._scored(seen, layer)
        layer.settle()
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
        return shares.pyramid(evictable, len(self.layers), self.policy.beta)

    def _decoded(self, layer: EvictingLayer, budget: int, query: Tensor, scaling: float) -> None:
        """Over its budget, the tokens that the newest query needs least leave each head."""
        evictable = layer.stored - self.policy.window
        if evictable > budget:
            seen = indicators.window_attention(query, layer.keys, layer.valid, scaling)[..., :evictable]
            layer.scores = self._scored(seen, layer)
        layer.settle()
        if evictable > budget:
            layer.keep(max(budget + 1 - self.policy.every, 0))

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


def snapkv(budget: int | str | None = None, **options: Any) -> CAKE:
    """SnapKV, arXiv 2404.14469: every layer the same, tokens by mean attention."""
    return CAKE(budget, allocation="uniform", indicator="snapkv", **options)


def pyramidkv(budget: int | str | None = None, **options: Any) -> CAKE:
    """PyramidKV, arXiv 2406.02069: SnapKV's tokens, early layers more than late ones."""
    return CAKE(budget, allocation="pyramid", indicator="snapkv", **options)


def streaming_llm(budget: int | str | None = None, *, sinks: int = 4, **options: Any) -> CAKE:
    """StreamingLLM, arXiv 2309.17453: the first ``sinks`` tokens and the latest (positions stay the original ones)."""
    return CAKE(budget, allocation="uniform", indicator="recent", sinks=sinks, **options)


def random_eviction(budget: int | str | None = None, **options: Any) -> CAKE:
    """What chance keeps, the window aside: the least that a method must beat."""
    return CAKE(budget, allocation="uniform", indicator="random", **options)


def _bytes_per_token(keys: Tensor, values: Tensor, bits: int | None) -> int:
    """In one layer: keys and values of all heads and rows, a position and a score each; where they are rounded, a
    scale and an offset of each key and value."""
    rows, heads = keys.shape[:2]
    wide = torch.promote_types(keys.dtype, torch.float32).itemsize
    width = keys.shape[-1] + values.shape[-1]
    numbers = width * keys.element_size() if bits is None else width * bits // 8 + 4 * 4
    return int(rows * heads * (numbers + 4 + wide))
