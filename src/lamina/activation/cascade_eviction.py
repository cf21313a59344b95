"""CAKE: a cache that holds a budget of bytes at every moment, spent on the layers and tokens that need it.

CAKE, arXiv 2503.12491 (ICLR 2025): each layer says how much it wants (section 3.2), each token how much it mattered
(mean and fluctuation of attention, section 3.3), and after every layer of the prefill the earlier ones give back what
the later one needs (the cascade, section 3.4), so that the budget and one whole layer are all that is ever held.

SnapKV, PyramidKV and StreamingLLM are special cases, by name below. What is unusual: the budget is bytes, with
positions and scores charged; shares are whole numbers that meet the total exactly; rows of a batch are scored each by
itself; and the budget holds over several chunks of a prefill, not over its first alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from lamina._optional import require
from lamina.budget import parse_bytes, written
from lamina.errors import BudgetError, InvalidInput

if TYPE_CHECKING:
    from lamina.activation.budgeted.cascade import CakeCache
    from lamina.activation.budgeted.indicators import Indicator

Allocation = Literal["cake", "uniform", "pyramid"]


@dataclass(frozen=True, slots=True)
class CAKE:
    """``budget``: bytes of the whole cache (``"6MiB"``), or with ``tokens`` given instead, tokens a layer on average.

    ``window``: the last tokens, which every layer keeps and whose queries judge the others. ``tau``: exponents
    ``(1/tau1, 1/tau2)`` of dispersion and shift. ``gamma``: weight of fluctuation. ``pool``: neighbours that share a
    score (odd). ``sinks``: first tokens that are never evicted. ``beta``: steepness of a pyramid. ``seed``: of random
    eviction. Raises ``InvalidInput``; ``BudgetError`` at the first read, for a budget under the window.
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
        if min(self.tau) <= 0 or self.gamma < 0 or self.beta < 1:
            raise InvalidInput(f"tau={self.tau!r} must be positive, gamma={self.gamma!r} not negative, beta >= 1")
        if self.tokens is not None and self.tokens <= self.window + self.sinks:
            raise InvalidInput(
                f"tokens={self.tokens!r}: must be more than window and sinks ({self.window + self.sinks})"
            )

    def cache(self, config: Any) -> CakeCache:
        """An empty cache for a model of ``config``."""
        require("transformers", "an evicting cache")
        from lamina.activation.budgeted.cascade import CakeCache

        return CakeCache(self, int(config.get_text_config(decoder=True).num_hidden_layers))

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
