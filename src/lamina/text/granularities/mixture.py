"""Which of a new memory's candidates to link it to: the upper component of a mixture of two Gaussians.

"From Single to Multi-Granularity: Toward Long-Term Memory Association and Selection of Conversational Agents"
(MemGAS, arXiv 2505.19549), memory association: similarities to earlier memories are modelled as accepted and
rejected ones, and the split is fitted anew for each memory. The mixture is fitted by expectation-maximisation
(Dempster, Laird and Rubin, 1977) from a start at the quartiles, so that it needs no random numbers.

A mixture splits any scores, also those of a single hump, where the upper half means nothing. Beyond the paper,
``min_gap`` asks for means further apart than that many pooled standard deviations; else the top quartile is taken.

Components differ in width, and the wider one is likelier at *both* ends: far below everything, or far above. What a
memory is linked to must not depend on that, so the labels only say where the upper component begins: the lowest score
labelled with it above the lower one's mean. From there on all are accepted, and no lower one is.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.float64]
Mask = NDArray[np.bool_]

_FLOOR = 1e-6  # added to variances, as is customary: a component may hold equal scores
_TOLERANCE = 1e-4  # change of the mean log-likelihood at which the fit stops
_ROUNDS = 100
_SAME = 1e-9  # variance below which there is nothing to tell apart


def accept_set(scores: NDArray[np.floating], *, min_gap: float = 0.0) -> Mask:
    """Which of ``scores`` (m,) belong to the component with the higher mean: bool (m,).

    Whoever is accepted, everybody with a higher score is. Everything is accepted where there is nothing to split: two
    scores or fewer, or all the same. ``min_gap`` is in pooled standard deviations; 0 (the paper) trusts every split.
    """
    return np.asarray(accept_sets(np.asarray(scores)[None], min_gap=min_gap)[0])


def accept_sets(scores: NDArray[np.floating], *, min_gap: float = 0.0) -> Mask:
    """``accept_set`` of each row of ``scores`` (n, m), fitted side by side: bool (n, m)."""
    values = np.asarray(scores, np.float64)
    accepted = np.ones(values.shape, bool)
    if values.shape[1] > 2:
        split = values.var(axis=1) >= _SAME
        accepted[split] = _accepted(values[split], min_gap)
    return accepted


def _accepted(values: Scores, min_gap: float) -> Mask:
    if not len(values):
        return np.ones(values.shape, bool)
    weights, means, variances = _fit(values)
    joint = _log_joint(values, weights, means, variances)
    upper = means.argmax(axis=1)
    rows = np.arange(len(values))
    labelled = joint[rows, upper] > joint[rows, 1 - upper]
    lower_mean = np.where(labelled.all(axis=1), -np.inf, means.min(axis=1))
    begins = np.where(labelled & (values > lower_mean[:, None]), values, np.inf).min(axis=1)
    begins = np.minimum(begins, values.max(axis=1))
    if min_gap:
        unclear = np.ptp(means, axis=1) <= min_gap * np.sqrt((weights * variances).sum(axis=1))
        begins = np.where(unclear, np.quantile(values, 0.75, axis=1), begins)
    return np.asarray(values >= begins[:, None])


def _fit(values: Scores) -> tuple[Scores, Scores, Scores]:
    """Weights, means and variances of the two components of each row, each (n, 2)."""
    weights, means = np.full((len(values), 2), 0.5), np.quantile(values, [0.25, 0.75], axis=1).T.copy()
    variances = np.repeat(values.var(axis=1)[:, None] / 4 + _FLOOR, 2, axis=1)
    before = np.full(len(values), -np.inf)
    moving = np.arange(len(values))
    for _ in range(_ROUNDS):
        some = values[moving]
        joint = _log_joint(some, weights[moving], means[moving], variances[moving])
        total = np.logaddexp(joint[:, 0], joint[:, 1])
        share = np.exp(joint - total[:, None])
        mass = share.sum(axis=2) + 10 * np.finfo(np.float64).eps
        means[moving] = (share * some[:, None]).sum(axis=2) / mass
        variances[moving] = (share * (some[:, None] - means[moving][:, :, None]) ** 2).sum(axis=2) / mass + _FLOOR
        weights[moving] = mass / values.shape[1]
        likelihood = total.mean(axis=1)
        moved = np.abs(likelihood - before[moving]) >= _TOLERANCE
        before[moving] = likelihood
        moving = moving[moved]
        if not len(moving):
            break
    return weights, means, variances


def _log_joint(values: Scores, weights: Scores, means: Scores, variances: Scores) -> Scores:
    """log(weight) + log density of each score under each component, without the common constant: (n, 2, m)."""
    away = (values[:, None] - means[:, :, None]) ** 2 / variances[:, :, None]
    return np.asarray((np.log(weights) - 0.5 * np.log(variances))[:, :, None] - 0.5 * away)
