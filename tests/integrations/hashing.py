"""An embedder for tests of what is stored, not of what is found: equal texts are equal, others unrelated."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


class HashEmbedder:
    name, dimension = "hash", 8

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        seeds = [sum(text.encode()) for text in texts]
        rows = np.stack([np.random.default_rng(seed).standard_normal(8) for seed in seeds])
        return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)

    def forget(self, texts: object) -> None: ...
