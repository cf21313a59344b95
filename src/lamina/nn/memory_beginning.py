"""How a memory layer begins: its output as large as that of the feed-forward block beside it.

UltraMemV2, arXiv 2508.18756, appendix A. With matrices of variance ``2 / (5 d)`` and a table of variance ``s^2``

    variance(memory) = 0.16 E[score^2] s^4 pre_value_dim top_m value_dim / d

and ``s`` follows from what the feed-forward block gives. The paper puts in its own block's,
``0.064 (inner / d) / (2 layers)``; here it is that of this trunk's, whose matrices begin otherwise. Scores are
simulated, since what is selected is not what is drawn; the gain of the norms makes their mean 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from lamina.nn.config import LaminaConfig
from lamina.nn.initialization import spread
from lamina.nn.tucker_scores import leading, scored, selected

_TOKENS, _CORES = 64, 8  # simulated: thousands of scores


def matrix_spread(width: int) -> float:
    """The standard deviation of every matrix of the layer: what it gives has variance 0.4."""
    return math.sqrt(2 / (5 * width))


def value_spread(target: float, width: int, top_m: int, value_dim: int, pre_value_dim: int, squares: float) -> float:
    """The standard deviation of both tables for an output of variance ``target``; ``squares``: E[score^2]."""
    return float((target * width / (0.16 * squares * pre_value_dim * top_m * value_dim)) ** 0.25)


def feed_forward_variance(config: LaminaConfig) -> float:
    """Of what SwiGLU writes at first into the stream, reading channels of variance 1."""
    inside = config.hidden_size * spread(config.hidden_size, config) ** 2
    at = torch.linspace(-8, 8, 2001, dtype=torch.float64, device="cpu")
    density = (-at.square() / 2).exp()
    opened = (torch.nn.functional.silu(at * math.sqrt(inside)).square() * density).sum() / density.sum()
    outside = config.ffn_size * spread(config.ffn_size, config) ** 2 / (2 * config.num_hidden_layers)
    return float(opened * inside * outside)


@dataclass(frozen=True, slots=True)
class Scores:
    """Of the cells that a fresh layer selects: the mean and the mean square, for factor scores of variance 1."""

    mean: float
    squares: float

    @classmethod
    def simulated(cls, keys: int, top_m: int, candidates: int, rank: int, cores: int) -> Scores:
        """Factor scores are as good as normal: products of independent vectors."""
        drawn = torch.Generator("cpu").manual_seed(0)
        factors = torch.randn(_TOKENS, 2, keys, rank, generator=drawn, device="cpu")
        found = []
        for _ in range(_CORES):
            core = torch.rand(cores, rank, rank, generator=drawn, device="cpu")
            by_row, by_column = leading(core)
            cells = selected(factors, core, by_row, by_column, top_m, candidates)
            found.append(scored(factors, core, *cells))
        scores = torch.stack(found)
        return cls(float(scores.mean()), float(scores.square().mean()))

    def gain(self, key_dim: int) -> float:
        """Of the norms of queries and keys alike, for which the mean score is 1: a factor score is then the product of
        two vectors of length ``gain * sqrt(key_dim)``, and a score is made of two of those."""
        return float((self.mean * key_dim) ** -0.25)

    @property
    def squares_at_gain(self) -> float:
        """E[score^2] with that gain."""
        return self.squares / self.mean**2
