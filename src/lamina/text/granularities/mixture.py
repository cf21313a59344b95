"""Which of a new memory's candidates to link it to: the upper component of a mixture of two Gaussians.

"From Single to Multi-Granularity: Toward Long-Term Memory Association and Selection of Conversational Agents"
(MemGAS, arXiv 2505.19549), memory association: similarities to earlier memories are modelled as accepted and
rejected ones, and the split is fitted anew for each memory. The mixture is fitted by expectation-maximisation
(Dempster, Laird and Rubin, 1977) from a start at the quartiles, so that it needs no random numbers.

A mixture splits any scores, also those of a single hump, where the upper half means nothing. Beyond the paper,
``min_gap`` asks for means further apart than that many pooled standard deviations; else the top quartile is taken.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.float64]

_FLOOR = 1e-6  # added to variances, as is customary: a component may hold equal scores
_TOLERANCE = 1e-4  # change of the mean log-likelihood at which the fit stops
_ROUNDS = 100
_SAME = 1e-9  # variance below which there is nothing to tell apart


def accept_set(scores: NDArray[np.floating], *, min_gap: float = 0.0) -> NDArray[np.bool_]:
    """Which of ``scores`` (m,) belong to the component with the higher mean: bool (m,).

    Everything is accepted where there is nothing to split: two scores or fewer, or all the same. ``min_gap`` is in
    pooled standard deviations; 0 (the paper) trusts every split.
    """
    values = np.asarray(scores, np.float64)
    if len(values) <= 2 or values.var() < _SAME:
        return np.ones(len(values), bool)
    weights, means, variances = _fit(values)
    high = int(np.argmax(means))
    if min_gap and abs(means[1] - means[0]) <= min_gap * np.sqrt(weights @ variances):
        return np.asarray(values >= np.quantile(values, 0.75))
    joint = _log_joint(values, weights, means, variances)
    return np.asarray(joint[:, high] > joint[:, 1 - high])


def _fit(values: Scores) -> tuple[Scores, Scores, Scores]:
    """Weights, means and variances of the two components, each (2,)."""
    weights, means = np.full(2, 0.5), np.quantile(values, [0.25, 0.75])
    variances = np.full(2, values.var() / 4 + _FLOOR)
    before = -np.inf
    for _ in range(_ROUNDS):
        joint = _log_joint(values, weights, means, variances)
        total = np.logaddexp(joint[:, 0], joint[:, 1])
        share = np.exp(joint - total[:, None])
        mass = share.sum(axis=0) + 10 * np.finfo(np.float64).eps
        weights, means = mass / len(values), share.T @ values / mass
        variances = (share * (values[:, None] - means) ** 2).sum(axis=0) / mass + _FLOOR
        if abs(total.mean() - before) < _TOLERANCE:
            break
        before = float(total.mean())
    return weights, means, variances


def _log_joint(values: Scores, weights: Scores, means: Scores, variances: Scores) -> Scores:
    """log(weight) + log density of each score under each component, without the common constant: (m, 2)."""
    away = (values[:, None] - means) ** 2 / variances
    return np.asarray(np.log(weights) - 0.5 * (np.log(variances) + away))
