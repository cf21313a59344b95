"""An embedder that keeps nothing of what it encodes.

Notes, names and tags are encoded too, and are no memories of the store: when what they were made from is forgotten,
nobody can ask the embedder's cache to forget them. So it is told to right after encoding.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from lamina.llm.base import Embedder


class Transient:
    """An ``Embedder`` in front of another, whose cache is emptied of every text again."""

    def __init__(self, embedder: Embedder) -> None:
        self.name = embedder.name
        self._embedder = embedder

    @property
    def dimension(self) -> int:
        return self._embedder.dimension

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """See ``Embedder.encode``."""
        vectors = self._embedder.encode(texts)
        self._embedder.forget(texts)
        return vectors

    def forget(self, texts: Iterable[str]) -> None:
        """See ``Embedder.forget``."""
        self._embedder.forget(texts)
