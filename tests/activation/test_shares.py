"""Sharing tokens among layers: exact, capped, in proportion, and never more for one layer because another came."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamina.activation.budgeted.shares import proportional, pyramid
from lamina.errors import InvalidInput

WEIGHTS = st.lists(st.integers(0, 50).map(float), min_size=1, max_size=8)


def naive(total: int, weights: list[float], caps: list[int]) -> list[int]:
    """Seat by seat, in fractions."""
    largest = max(weights)
    claims = [Fraction(max(w, 1e-9 * largest)) if largest else Fraction(1) for w in weights]
    seats = [0] * len(caps)
    for _ in range(min(total, sum(caps))):
        open_ = [i for i in range(len(caps)) if seats[i] < caps[i]]
        best = max(open_, key=lambda i: (claims[i] / (seats[i] + Fraction(1, 2)), -i))
        seats[best] += 1
    return seats


@given(st.integers(0, 60), WEIGHTS, st.data())
def test_it_is_sainte_lague_with_caps(total: int, weights: list[float], data: st.DataObject) -> None:
    caps = data.draw(st.lists(st.integers(0, 20), min_size=len(weights), max_size=len(weights)))
    assert proportional(total, weights, caps) == naive(total, weights, caps)


@given(st.integers(0, 500), st.lists(st.floats(0, 1e6), min_size=2, max_size=12), st.integers(1, 90))
def test_another_layer_takes_and_never_gives(total: int, weights: list[float], cap: int) -> None:
    before = proportional(total, weights[:-1], [cap] * (len(weights) - 1))
    after = proportional(total, weights, [cap] * len(weights))
    assert all(new <= old for new, old in zip(after, before, strict=False))
    assert sum(after) == min(total, cap * len(weights)) and max(after) <= cap


@given(st.lists(st.floats(1.0, 1e3), min_size=2, max_size=12), st.integers(2, 60))
def test_sharing_step_by_step_ends_where_sharing_at_once_does(weights: list[float], cap: int) -> None:
    total, held = 10 * len(weights), []
    for count in range(1, len(weights) + 1):
        held = proportional(total, weights[:count], [*held, cap])
    assert held == proportional(total, weights, [cap] * len(weights))


def test_shares_are_near_the_exact_ones() -> None:
    assert proportional(100, [1.0, 2.0, 7.0], [1000] * 3) == [10, 20, 70]
    assert proportional(100, [1.0, 2.0, 7.0], [1000, 1000, 30]) == [23, 47, 30]
    assert proportional(7, [0.0, 0.0], [10, 10]) == [4, 3]


@pytest.mark.parametrize(
    ("total", "weights", "caps"),
    [(-1, [1.0], [1]), (1, [1.0], [1, 2]), (1, [float("nan")], [2]), (1, [-1.0], [2]), (1, [float("inf")], [2])],
)
def test_nonsense_is_refused(total: int, weights: list[float], caps: list[int]) -> None:
    with pytest.raises(InvalidInput, match="cannot be shared"):
        proportional(total, weights, caps)


def test_a_pyramid_is_a_straight_line_with_the_given_mean_and_least() -> None:
    line = pyramid(1200, 4, 20.0)
    assert sum(line) == pytest.approx(1200)
    assert [round(a - b, 9) for a, b in pairwise(line)] == [round(line[0] - line[1], 9)] * 3
    assert line[-1] == 300 / 20
