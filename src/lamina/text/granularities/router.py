"""How much to trust each granularity for one question: by how sure its scores are.

MemGAS (arXiv 2505.19549), entropy-based router. The scores of one granularity over all sessions become
probabilities, ``p = softmax(s / temperature)``; a granularity whose probability sits on few sessions has a low
entropy ``H = -sum p log p`` (nats) and gets a high weight, ``w = (1/H) / sum(1/H)``.

The released code weighs by ``(1 - H) / sum(1 - H)`` instead. With more than a few sessions every H is above 1, both
terms are negative, and the *less* certain granularity weighs more. ``released_weights`` is there to reproduce it.

Entropy depends on the unit of the scores: cosines between 0.1 and 0.5 at temperature 0.2 give all but uniform
probabilities, whatever they say. ``standardized`` scores, in standard deviations over the sessions, do not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from lamina.errors import InvalidInput

Scores = NDArray[np.float64]

_CERTAIN = 1e-6  # nats: keeps the weight of a granularity that names one session finite


def standardized(scores: NDArray[np.floating]) -> Scores:
    """Each row of ``scores`` (granularities, sessions) less its mean, in its standard deviations; zeros if constant."""
    values = np.asarray(scores, np.float64)
    spread = values.std(axis=1, keepdims=True)
    away = values - values.mean(axis=1, keepdims=True)
    return np.asarray(np.divide(away, spread, out=np.zeros_like(values), where=spread > 1e-12))


def log_probabilities(scores: NDArray[np.floating], temperature: float) -> Scores:
    """Logarithm of the softmax of each row of ``scores`` (granularities, sessions).

    Raises ``InvalidInput`` for a temperature that is not positive.
    """
    if not (temperature > 0 and np.isfinite(temperature)):
        raise InvalidInput(f"temperature={temperature!r}: pass a positive number, in the unit of the scores")
    logits = np.asarray(scores, np.float64) / temperature
    logits = logits - logits.max(axis=1, keepdims=True)
    return np.asarray(logits - np.log(np.exp(logits).sum(axis=1, keepdims=True)))


def entropies(scores: NDArray[np.floating], temperature: float) -> Scores:
    """Entropy in nats of the softmax of each row of ``scores`` (granularities, sessions): (granularities,)."""
    log_p = log_probabilities(scores, temperature)
    return np.asarray(-(np.exp(log_p) * log_p).sum(axis=1))


def entropy_weights(scores: NDArray[np.floating], temperature: float) -> Scores:
    """Weight of each row of ``scores`` (granularities, sessions), as the paper has it: they sum to 1.

    With one session nothing is uncertain, and all weigh the same.
    """
    surprise = 1.0 / np.maximum(entropies(scores, temperature), _CERTAIN)
    return np.asarray(surprise / surprise.sum())


def released_weights(scores: NDArray[np.floating], temperature: float) -> Scores:
    """Weights as the released code computes them, which favours the uncertain; uniform where they do not exist."""
    left = 1.0 - entropies(scores, temperature)
    if abs(left.sum()) < _CERTAIN:
        return uniform_weights(scores, temperature)
    return np.asarray(left / left.sum())


def uniform_weights(scores: NDArray[np.floating], temperature: float) -> Scores:  # noqa: ARG001 - the common signature
    """The ablation: every granularity weighs the same."""
    return np.full(len(scores), 1.0 / len(scores))


ROUTERS: Mapping[str, Callable[[Scores, float], Scores]] = {
    "entropy": entropy_weights,
    "uniform": uniform_weights,
    "released": released_weights,
}
