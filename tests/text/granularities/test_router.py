"""The router trusts what is sure, in the paper's formula; weights move when a granularity says nothing."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamina.errors import InvalidInput
from lamina.text.granularities.router import (
    entropies,
    entropy_weights,
    released_weights,
    standardized,
    uniform_weights,
)

RNG = np.random.default_rng(0)


def naive_entropy(row: list[float], temperature: float) -> float:
    exp = [math.exp(value / temperature) for value in row]
    return -sum(e / sum(exp) * math.log(e / sum(exp)) for e in exp)


@given(st.lists(st.lists(st.floats(-2, 2), min_size=5, max_size=5), min_size=1, max_size=5), st.floats(0.2, 3))
def test_weights_are_inverse_entropies(rows: list[list[float]], temperature: float) -> None:
    naive = [naive_entropy(row, temperature) for row in rows]
    assert entropies(np.asarray(rows), temperature) == pytest.approx(naive, abs=1e-9)
    inverse = [1 / max(h, 1e-6) for h in naive]
    weights = entropy_weights(np.asarray(rows), temperature)
    assert weights == pytest.approx([value / sum(inverse) for value in inverse], rel=1e-3)
    assert weights.sum() == pytest.approx(1.0)


def test_a_granularity_made_uninformative_loses_weight() -> None:
    scores = RNG.normal(size=(4, 25))
    scores[:, 3] += 3.0  # all four are sure of one session
    before = entropy_weights(standardized(scores), 0.5)
    scores[2] = RNG.normal(size=25) * 0.01 + 0.3  # noise, whatever its scale
    after = entropy_weights(standardized(scores), 0.5)
    assert after[2] < 0.75 * before[2]
    assert (np.delete(after, 2) > np.delete(before, 2)).all()
    scores[2] = 0.3
    assert entropy_weights(standardized(scores), 0.5).argmin() == 2


def test_raw_cosines_give_all_but_equal_weights_and_standardized_ones_do_not() -> None:
    scores = 0.2 + 0.1 * RNG.random((4, 30))
    scores[1, 7] = 0.55  # one granularity knows
    assert np.ptp(entropy_weights(scores, 0.2)) < 0.02
    assert np.ptp(entropy_weights(standardized(scores), 0.5)) > 0.1


def test_the_released_formula_prefers_the_uncertain() -> None:
    scores = np.stack([np.eye(10)[0] * 5, np.zeros(10)])
    assert entropy_weights(scores, 1.0)[0] > 0.5 > released_weights(scores + np.asarray([[0.0], [0.0]]), 2.0)[0]
    h = entropies(scores, 2.0)
    assert released_weights(scores, 2.0) == pytest.approx((1 - h) / (1 - h).sum())


def test_one_session_weighs_all_alike_and_a_constant_row_is_zero() -> None:
    assert entropy_weights(np.asarray([[0.2], [0.9]]), 0.5).tolist() == [0.5, 0.5]
    assert standardized(np.asarray([[2.0, 2.0, 2.0]])).tolist() == [[0.0, 0.0, 0.0]]
    assert uniform_weights(np.zeros((4, 2)), 1.0).tolist() == [0.25] * 4
    z = standardized(RNG.normal(5, 3, (2, 40)))
    assert z.mean(axis=1) == pytest.approx([0, 0], abs=1e-12)
    assert z.std(axis=1) == pytest.approx([1, 1])


def test_an_impossible_temperature_is_refused() -> None:
    for temperature in (0.0, -1.0, math.nan):
        with pytest.raises(InvalidInput, match="temperature"):
            entropy_weights(np.zeros((2, 3)), temperature)
