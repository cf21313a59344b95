"""The accept set is what a mixture of two Gaussians, fitted by another program text, calls its upper component."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from lamina.text.granularities.mixture import accept_set, accept_sets


def reference(values: list[float]) -> list[bool]:
    """Textbook EM in plain floats: a 2-means start, as scikit-learn's GaussianMixture, densities multiplied out."""
    low, high = min(values), max(values)
    for _ in range(100):
        near = [abs(v - high) < abs(v - low) for v in values]
        ups = [v for v, up in zip(values, near, strict=True) if up]
        downs = [v for v, up in zip(values, near, strict=True) if not up]
        low, high = sum(downs) / len(downs), sum(ups) / len(ups)
    share = [float(up) for up in near]
    for _ in range(300):
        parts = []
        for weights in (share, [1 - s for s in share]):
            mass = sum(weights)
            mean = sum(w * v for w, v in zip(weights, values, strict=True)) / mass
            variance = sum(w * (v - mean) ** 2 for w, v in zip(weights, values, strict=True)) / mass + 1e-6
            parts.append((mass / len(values), mean, variance))
        density = [
            [w * math.exp(-((v - m) ** 2) / (2 * s)) / math.sqrt(2 * math.pi * s) for w, m, s in parts] for v in values
        ]
        share = [up / (up + down) for up, down in density]
    (_, first, _), (_, second, _) = parts
    return [(s > 0.5) == (first >= second) for s in share]


def mixed(seed: int, size: int, gap: float) -> NDArray[np.float64]:
    rng = np.random.default_rng(seed)
    above = rng.random(size) < rng.uniform(0.15, 0.6)
    return np.where(above, rng.normal(0.3 + gap, 0.05, size), rng.normal(0.3, 0.04, size))


@pytest.mark.parametrize("seed", range(20))
def test_it_labels_separated_scores_as_the_reference_does(seed: int) -> None:
    scores = mixed(seed, 30, 0.35)
    assert accept_set(scores).tolist() == reference(scores.tolist())


@settings(max_examples=50)
@given(st.integers(0, 500), st.integers(3, 40), st.floats(0.0, 0.4))
def test_the_best_score_is_accepted_whatever_the_order_and_the_zero(seed: int, size: int, gap: float) -> None:
    scores = mixed(seed, size, gap)
    taken = accept_set(scores)
    assert taken.shape == scores.shape
    assert taken[scores.argmax()]
    shift, order = accept_set(scores + 1.0), np.random.default_rng(seed).permutation(size)
    assert accept_set(scores[order]).tolist() == taken[order].tolist()  # order does not matter
    assert shift.tolist() == taken.tolist()  # nor where zero is


@pytest.mark.parametrize("min_gap", [0.0, 1.0])
def test_no_score_is_accepted_while_a_higher_one_is_not(min_gap: float) -> None:
    """Skewed scores make one component wide: it is likelier at both ends."""
    rng = np.random.default_rng(1)
    sets = np.concatenate([rng.gamma(2, 0.1, (300, 30)), rng.normal(0.4, 0.1, (300, 30)), rng.beta(2, 5, (300, 30))])
    for scores, taken in zip(sets, accept_sets(sets, min_gap=min_gap), strict=True):
        assert taken.any()
        assert taken.all() or scores[taken].min() > scores[~taken].max()


def test_sets_side_by_side_are_sets_one_by_one() -> None:
    rng = np.random.default_rng(2)
    sets = rng.normal(0.4, 0.1, (40, 30))
    sets[7] = 0.5
    for min_gap in (0.0, 1.0):
        together = accept_sets(sets, min_gap=min_gap)
        assert together.tolist() == [accept_set(scores, min_gap=min_gap).tolist() for scores in sets]
    assert accept_sets(np.empty((0, 30))).shape == (0, 30)
    assert accept_sets(np.empty((3, 0))).shape == (3, 0)


@pytest.mark.parametrize("scores", [[], [0.3], [0.1, 0.9], [0.5] * 7, [0.5, 0.5 + 1e-7, 0.5]])
def test_where_nothing_can_be_split_everything_is_accepted(scores: list[float]) -> None:
    assert accept_set(np.asarray(scores)).tolist() == [True] * len(scores)


def test_a_single_hump_is_not_split_in_the_middle() -> None:
    hump = np.random.default_rng(3).normal(0.3, 0.05, 30)
    assert accept_set(hump, min_gap=3.0).sum() == 8  # the top quartile
    two = np.concatenate([np.full(25, 0.2) + np.linspace(0, 0.02, 25), np.full(5, 0.8) + np.linspace(0, 0.02, 5)])
    assert accept_set(two, min_gap=3.0).tolist() == [False] * 25 + [True] * 5


def test_float32_scores_are_compared_in_double_precision() -> None:
    scores = mixed(1, 30, 0.35).astype(np.float32)
    assert accept_set(scores).tolist() == accept_set(scores.astype(np.float64)).tolist()
