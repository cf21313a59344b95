"""The hash of a model's weights, read again when they have changed.

Reading hundreds of megabytes for every cube would cost more than the cubes; trusting the first reading for ever would
let a cube made before a training pass as one of the model after it. torch counts the writes to every tensor; as long
as no count moved and no tensor was replaced, the hash stands. What goes around the counts (``parameter.data``) is not
seen.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from lamina._optional import require

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module


class WeightsHash:
    """Of ``model``, parameters and persistent buffers, by name, dtype and shape."""

    def __init__(self, model: Module) -> None:
        self._model = model
        self._seen: list[tuple[str, int, int]] | None = None
        self._hash = ""

    def last(self) -> str:
        """As it was read last: of the bare weights, while something lies over them that is named beside it."""
        return self._hash or self.read()

    def read(self) -> str:
        """sha256 in hex; about 0.5 s a GB when something changed."""
        tensors = sorted(self._model.state_dict(keep_vars=True).items())
        seen = [(name, tensor.data_ptr(), _writes(tensor)) for name, tensor in tensors]
        if seen != self._seen:
            self._hash, self._seen = _hashed(tensors), seen
        return self._hash


def _writes(tensor: Tensor) -> int:
    """How often it was written to; one made for inference alone is not counted."""
    return -1 if tensor.is_inference() else tensor._version


def _hashed(tensors: list[tuple[str, Tensor]]) -> str:
    torch = require("torch", "hashing weights")
    digest = hashlib.sha256()
    for name, tensor in tensors:
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().contiguous().cpu().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
