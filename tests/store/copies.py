"""What the tests of backups share."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from lamina.cube.payload import Fingerprint, TensorPayload
from lamina.store import forgotten
from lamina.store.backup import Backup


def tensors(seed: int) -> TensorPayload:
    values = np.random.default_rng(seed).standard_normal(3000).astype(np.float32)
    return TensorPayload.from_numpy({"k": values}, Fingerprint("a", "w", "t", "f"))


def await_one(folder: Path, pattern: str) -> None:
    """Until something of that name, which was not there before, is in the folder."""
    before = set(folder.glob(pattern))
    while not set(folder.glob(pattern)) - before:
        time.sleep(0.001)


def noted(made: Backup) -> list[forgotten.Request]:
    """What the journal beside a backup says."""
    assert made.journal is not None and made.store is not None
    return forgotten.read(str(made.journal), made.store)
