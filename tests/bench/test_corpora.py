"""Text of Python's own library: the modules in order, cut where it is said, and what is held out is not taught."""

from __future__ import annotations

import sysconfig
from pathlib import Path

import numpy as np
import pytest

from lamina.bench.corpora import library_sources
from lamina.errors import InvalidInput, NotFound


def test_it_is_the_modules_in_the_order_of_their_names() -> None:
    taught, held = library_sources(100_000, 0.05)
    assert (len(taught), len(held), taught.dtype) == (95_000, 5_000, np.uint8)
    first = min(Path(sysconfig.get_paths()["stdlib"]).glob("*.py")).read_bytes()
    assert bytes(taught).startswith(first[:95_000])
    whole, nothing = library_sources(100_000, 0.0)
    assert len(nothing) == 0
    assert np.array_equal(np.concatenate([taught, held]), whole)


def test_four_million_bytes_are_there() -> None:
    taught, held = library_sources()
    assert (len(taught), len(held)) == (3_800_000, 200_000)


@pytest.mark.parametrize(("size", "share"), [(0, 0.1), (10, -0.1), (10, 1.1)])
def test_wrong_sizes_are_told(size: int, share: float) -> None:
    with pytest.raises(InvalidInput, match=f"size={size}"):
        library_sources(size, share)


def test_more_than_there_is_is_told() -> None:
    with pytest.raises(NotFound, match="ask for less"):
        library_sources(10**12)
