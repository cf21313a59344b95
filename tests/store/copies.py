"""What the tests of backups share."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from lamina.cube.payload import Fingerprint, TensorPayload


def tensors(seed: int) -> TensorPayload:
    values = np.random.default_rng(seed).standard_normal(3000).astype(np.float32)
    return TensorPayload.from_numpy({"k": values}, Fingerprint("a", "w", "t", "f"))


def await_one(folder: Path, pattern: str) -> None:
    """Until something of that name, which was not there before, is in the folder."""
    before = set(folder.glob(pattern))
    while not set(folder.glob(pattern)) - before:
        time.sleep(0.001)
