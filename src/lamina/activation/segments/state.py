"""What HMT keeps of the segments it has read: memory embeddings, and the tokens at the end of the last segment.

Its size does not grow with what was read. Slots have no order but age, so two states may be put together, which key
and value caches cannot. At rest it is an activation cube that only the same backbone and wrapper may read.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor

from lamina.cube import file
from lamina.cube.cube import Header, MemCube
from lamina.cube.payload import TensorPayload
from lamina.errors import CorruptCube, InvalidInput

if TYPE_CHECKING:
    from lamina.activation.segments.wrapper import Owner

NO_TOKEN = -1
_NAMES = ("held", "memory", "seen", "sensory")


@dataclass(frozen=True, slots=True, eq=False)
class MemoryState:
    """``memory`` (B, n, d) in the backbone's dtype, oldest first, ``held`` (B, n) bool where a slot is a row's own,
    ``sensory`` (B, <= k) int64 token ids, ``NO_TOKEN`` where a row has none, ``seen`` (B,) int64 tokens read."""

    memory: Tensor
    held: Tensor
    sensory: Tensor
    seen: Tensor

    def __repr__(self) -> str:  # no token ids: a log is no place for what was read
        return f"MemoryState({len(self)} rows, {self.slots} slots, {self.seen.tolist()} tokens read)"

    def __len__(self) -> int:
        return len(self.memory)

    @property
    def slots(self) -> int:
        return self.memory.shape[1]

    @property
    def nbytes(self) -> int:
        """Live bytes, counted from the storages behind the tensors."""
        tensors = (self.memory, self.held, self.sensory, self.seen)
        storages = [tensor.untyped_storage() for tensor in tensors]
        return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())

    @classmethod
    def empty(cls, rows: int, like: Tensor) -> Self:
        """Of nothing read; ``like`` (..., d) has the width, dtype and device of memories."""
        ids = torch.zeros(rows, 0, dtype=torch.int64, device=like.device)
        return cls(like.new_zeros(rows, 0, like.shape[-1]), ids.bool(), ids, ids.new_zeros(rows))

    def push(self, memory: Tensor, held: Tensor, sensory: Tensor, read: Tensor, limit: int) -> MemoryState:
        """With ``memory`` (B, d) in a slot of its own where ``held`` (B,), the oldest beyond ``limit`` dropped."""
        kept = slice(max(0, self.slots + 1 - limit), None)
        return MemoryState(
            torch.cat([self.memory[:, kept], memory[:, None]], 1),
            torch.cat([self.held[:, kept], held[:, None]], 1),
            sensory,
            self.seen + read,
        )

    def rows(self, index: Tensor) -> MemoryState:
        """The state of the rows ``index`` (n,) int64, any number of times each, in storage of its own."""
        return MemoryState(self.memory[index], self.held[index], self.sensory[index], self.seen[index])

    @classmethod
    def concatenate(cls, states: Sequence[MemoryState]) -> MemoryState:
        """The memories of all ``states`` of one HMT, row by row, the first being the oldest; what was read last is
        what the last one read. Over its limit an HMT drops the oldest.

        Raises ``InvalidInput`` for no states and for states of different batch, width or dtype.
        """
        kinds = {(len(state), state.memory.shape[2], state.memory.dtype) for state in states}
        if len(kinds) != 1:
            raise InvalidInput(f"states of (rows, width, dtype) {sorted(map(str, kinds))}: give states of one kind")
        return cls(
            torch.cat([state.memory for state in states], 1),
            torch.cat([state.held for state in states], 1),
            states[-1].sensory,
            torch.stack([state.seen for state in states]).sum(0),
        )

    def to_payload(self, hmt: Owner) -> TensorPayload:
        """Everything ``from_payload`` needs, and the fingerprint of ``hmt``, which made this state."""
        tensors = {"memory": self.memory.detach(), "held": self.held, "sensory": self.sensory, "seen": self.seen}
        return TensorPayload.from_torch(tensors, hmt.fingerprint)

    @classmethod
    def from_payload(cls, payload: TensorPayload, hmt: Owner) -> Self:
        """Raises ``FingerprintMismatch`` if another backbone or wrapper made it, ``CorruptCube`` for tensors that are
        missing or do not fit together."""
        payload.fingerprint.check(hmt.fingerprint)
        if (names := tuple(payload.tensors)) != _NAMES:
            raise CorruptCube(f"a memory state has the tensors {list(_NAMES)}, not {list(names)}")
        held, memory, seen, sensory = (payload.tensors[name].torch().to(hmt.prompt.device).clone() for name in _NAMES)
        width, vocabulary = hmt.prompt.shape[-1], hmt.vocabulary
        if (
            memory.ndim != 3
            or memory.shape != (*held.shape, width)
            or (len(memory),) != seen.shape
            or sensory.ndim != 2
            or len(sensory) != len(memory)
            or (memory.dtype, held.dtype) != (hmt.prompt.dtype, torch.bool)
            or bool(((sensory < NO_TOKEN) | (sensory >= vocabulary)).any())
        ):
            raise CorruptCube(f"memory {memory.shape}, held {held.shape}, sensory {sensory.shape} do not fit together")
        return cls(memory, held, sensory, seen)

    def save(self, path: str | os.PathLike[str], hmt: Owner) -> None:
        """As a ``.cube`` file, whole or not at all."""
        header = Header(kind="activation", semantic_type="segment_memory")
        file.write(MemCube(header, self.to_payload(hmt)), path)

    @classmethod
    def load(cls, path: str | os.PathLike[str], hmt: Owner) -> Self:
        """Raises as ``lamina.cube.file.read`` and ``from_payload`` do."""
        payload = file.read(path).payload
        if not isinstance(payload, TensorPayload):
            raise InvalidInput(f"path {os.fspath(path)!r} holds a memory of text, not a memory state")
        return cls.from_payload(payload, hmt)
