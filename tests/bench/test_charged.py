"""Vectors are computed once, and everybody pays for them."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lamina.bench.conversations.charged import ChargedEmbedder
from lamina.bench.synthetic import WordVectors


class Slow(WordVectors):
    """Takes a known time and counts what it is asked for."""

    asked = 0

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.asked += len(texts)
        time.sleep(0.02 * len(texts))
        return super().encode(texts)

    def count_tokens(self, text: str) -> int:
        return len(text.split())


def test_the_second_one_owes_what_the_first_one_waited_for() -> None:
    slow = Slow()
    charged = ChargedEmbedder(slow)  # type: ignore[arg-type]
    first = charged.encode(["one two", "three", "three"])
    assert charged.owed == 0 and slow.asked == 2
    again = charged.encode(["three", "one two", "three", "four"])
    assert slow.asked == 3 and charged.owed >= 0.04
    assert np.array_equal(again[[1, 0]], first[:2]) and np.array_equal(again[0], again[2])
    assert np.array_equal(first, WordVectors().encode(["one two", "three", "three"]))


def test_what_one_system_forgets_the_next_one_still_finds() -> None:
    charged = ChargedEmbedder(Slow())  # type: ignore[arg-type]
    charged.encode(["one"])
    charged.forget(["one"])
    charged.encode(["one"])
    assert charged.owed > 0
