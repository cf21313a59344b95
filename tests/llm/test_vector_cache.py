"""The cache: each text once, oldest out first, nothing left of what was forgotten."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamina.errors import InvalidInput
from lamina.llm.vector_cache import VectorCache, checked


def numbers(texts: list[str]) -> np.ndarray:
    return np.array([[len(text), sum(map(ord, text))] for text in texts], np.float32).reshape(-1, 2)


class Counting:
    def __init__(self) -> None:
        self.seen: list[str] = []

    def __call__(self, texts: list[str]) -> np.ndarray:
        self.seen += texts
        return numbers(texts)


@given(st.lists(st.lists(st.text(max_size=3), max_size=12), max_size=8), st.integers(0, 6))
def test_rows_equal_the_uncached_ones_and_the_bound_holds(calls, size):
    cache = VectorCache(size)
    for texts in calls:
        np.testing.assert_array_equal(cache.rows(texts, 2, numbers), numbers(texts))
        assert len(cache) <= size


def test_a_text_is_computed_once_even_within_one_call():
    cache, compute = VectorCache(10), Counting()
    cache.rows(["a", "b", "a"], 2, compute)
    cache.rows(["b", "a"], 2, compute)
    assert compute.seen == ["a", "b"]


def test_least_recently_used_goes_first():
    cache, compute = VectorCache(2), Counting()
    cache.rows(["a", "b"], 2, compute)
    cache.rows(["a"], 2, compute)
    cache.rows(["c"], 2, compute)  # drops b
    cache.rows(["a", "c", "b"], 2, compute)
    assert compute.seen == ["a", "b", "c", "b"]


def test_forget_drops_only_what_is_named():
    cache, compute = VectorCache(10), Counting()
    cache.rows(["secret", "kept"], 2, compute)
    cache.forget(["secret", "never seen"])
    assert len(cache) == 1
    cache.rows(["kept", "secret"], 2, compute)
    assert compute.seen == ["secret", "kept", "secret"]


def test_forgetting_during_the_computation_wins():
    cache = VectorCache(10)

    def compute(texts: list[str]) -> np.ndarray:
        cache.forget(["secret"])
        return numbers(texts)

    cache.rows(["secret"], 2, compute)
    assert len(cache) == 0


def test_the_caller_cannot_change_what_is_kept():
    cache = VectorCache(10)
    cache.rows(["a"], 2, numbers)[:] = -1
    np.testing.assert_array_equal(cache.rows(["a"], 2, numbers), numbers(["a"]))


def test_negative_size_is_refused():
    with pytest.raises(InvalidInput, match="cache_size=-1"):
        VectorCache(-1)


def test_checked_replaces_what_cannot_be_encoded():
    assert checked(["a\ud800b"]) == ["a?b"]
