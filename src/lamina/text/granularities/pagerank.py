"""Personalised PageRank over an undirected, unweighted graph given as a list of edges.

Haveliwala, "Topic-Sensitive PageRank" (2002). With ``P = D^-1 A``, restart vector ``v`` and damping ``d``:
``x = d (P^T x + v * sum of x over nodes without edges) + (1 - d) v``, solved by iteration from ``v``. The error
shrinks by ``d`` a step, so at MemGAS's damping of 0.1 a dozen steps reach 1e-12.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from lamina.errors import InvalidInput

Scores = NDArray[np.float64]


def personalized_pagerank(
    edges: NDArray[np.integer], restart: NDArray[np.floating], damping: float, *, tolerance: float = 1e-10
) -> Scores:
    """Probability of each node, float64 (nodes,), summing to 1; zeros if ``restart`` is all zero.

    ``edges`` (m, 2) names the ends of each edge; ``restart`` (nodes,) need not be normalised. Raises
    ``InvalidInput`` for damping outside [0, 1) or a restart vector with negative or non-finite values.
    """
    jump = np.asarray(restart, np.float64)
    if not 0 <= damping < 1:
        raise InvalidInput(f"damping={damping!r}: pass a probability below 1")
    if not np.isfinite(jump).all() or (jump < 0).any():
        raise InvalidInput("restart holds negative or non-finite values: pass a weight for each node")
    total = jump.sum()
    if not total:
        return np.zeros(len(jump))
    jump = jump / total
    tail, head = np.concatenate([edges, edges[:, ::-1]]).T
    degree = np.bincount(tail, minlength=len(jump))
    alone = degree == 0
    share = 1.0 / np.maximum(degree, 1)
    x = jump
    for _ in range(1 + math.ceil(math.log(tolerance) / math.log(damping)) if damping else 0):
        spread = np.bincount(head, weights=(x * share)[tail], minlength=len(jump))
        x = damping * (spread + x[alone].sum() * jump) + (1 - damping) * jump
    return np.asarray(x)
