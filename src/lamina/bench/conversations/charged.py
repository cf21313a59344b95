"""An embedder that computes each vector once and charges everybody for it.

Sixteen systems embed the same turns and questions. What one of them had computed the next one gets from a table, and
the seconds that it took then are added to what it *owes*: so every system pays for its own embedding, and nobody
waits for it twice. A table lives as long as one comparison.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from lamina.llm.embed import LocalEmbedder


class ChargedEmbedder:
    """``embedder`` behind a table. ``owed`` grows by the seconds of every vector that was not computed anew."""

    def __init__(self, embedder: LocalEmbedder) -> None:
        self.name = embedder.name
        self.owed = 0.0
        self._embedder = embedder
        self._rows: dict[str, tuple[NDArray[np.float32], float]] = {}

    @property
    def dimension(self) -> int:
        return self._embedder.dimension

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """As ``Embedder.encode``. A text that stands several times among ``texts`` is charged once."""
        distinct = list(dict.fromkeys(texts))
        new = [text for text in distinct if text not in self._rows]
        self.owed += sum(self._rows[text][1] for text in distinct if text in self._rows)
        if new:
            begin = time.perf_counter()
            rows = self._embedder.encode(new)
            each = (time.perf_counter() - begin) / len(new)
            self._rows |= {text: (row, each) for text, row in zip(new, rows, strict=True)}
        out = np.empty((len(texts), self.dimension), np.float32)
        for place, text in enumerate(texts):
            out[place] = self._rows[text][0]
        return out

    def forget(self, texts: Iterable[str]) -> None:
        """Nothing: the table is everybody's, and goes with the comparison."""

    def count_tokens(self, text: str) -> int:
        return self._embedder.count_tokens(text)
