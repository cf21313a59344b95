"""The bank of LongMem: keys and values of one layer of a frozen model for the last ``capacity`` tokens it read.

Wang et al., arXiv 2306.07174, section 2.3. Tokens are kept in chunks; a chunk is found by the mean of its keys and
read token by token. Keys carry no positions. The buffers are a ring: the oldest chunk makes room for the newest.
Tokens that do not fill a chunk wait for those that follow them, and cannot be found until then.

A bank is one text of one user: give every row of a batch its own. It holds no ids and no text, and means something
only with the weights and the layer that made it: ``fingerprint``. Bytes do not grow with what was read.
"""

from __future__ import annotations

import os
from typing import Self

import torch
from torch import Tensor

from lamina.cube import file
from lamina.cube.cube import Header, MemCube
from lamina.cube.payload import Fingerprint, TensorPayload
from lamina.errors import CorruptCube, InvalidInput

_NAMES = ("keys", "sizes", "tail_keys", "tail_values", "values")


class MemoryBank:
    """``capacity`` tokens of ``kv_heads`` heads of ``head_dim``, in chunks of ``chunk`` tokens, held as ``dtype``.

    ``seen`` counts the tokens written since the last ``reset``, ``len`` those that can be found now. Not for several
    threads at once. Raises ``InvalidInput`` unless ``capacity`` is a positive multiple of ``chunk``.
    """

    def __init__(
        self,
        fingerprint: Fingerprint,
        *,
        capacity: int,
        kv_heads: int,
        head_dim: int,
        chunk: int = 4,
        dtype: torch.dtype = torch.float16,
    ) -> None:
        if chunk < 1 or capacity < chunk or capacity % chunk:
            raise InvalidInput(f"capacity={capacity!r} must be a positive multiple of chunk={chunk!r}")
        self.fingerprint = fingerprint
        self.capacity, self.chunk, self.seen = capacity, chunk, 0
        slots = capacity // chunk
        self._keys = torch.zeros(kv_heads, slots, chunk, head_dim, dtype=dtype)
        self._values = torch.zeros_like(self._keys)
        self._chunk_keys = torch.zeros(kv_heads, slots, head_dim, dtype=dtype)
        self._tail = (torch.zeros(kv_heads, 0, head_dim, dtype=dtype),) * 2

    def __len__(self) -> int:
        return self._held * self.chunk

    def __repr__(self) -> str:
        return f"MemoryBank({len(self)} of {self.capacity} tokens, {self.seen} seen, {self.nbytes} bytes)"

    @property
    def kv_heads(self) -> int:
        return len(self._keys)

    @property
    def head_dim(self) -> int:
        return self._keys.shape[-1]

    @property
    def dtype(self) -> torch.dtype:
        return self._keys.dtype

    @property
    def nbytes(self) -> int:
        """Live bytes, counted from the storages: keys, values, chunk keys and the waiting tokens."""
        tensors = (self._keys, self._values, self._chunk_keys, *self._tail)
        return sum(tensor.untyped_storage().nbytes() for tensor in tensors)

    def append(self, keys: Tensor, values: Tensor) -> None:
        """Write ``keys`` and ``values`` ``(kv_heads, n, head_dim)`` of the next ``n`` tokens, rounded to ``dtype``.

        Raises ``InvalidInput`` for other shapes and for numbers that are not finite in ``dtype``; nothing is written.
        """
        expected = (self.kv_heads, keys.shape[-2], self.head_dim)
        if keys.shape != expected or values.shape != expected:
            raise InvalidInput(f"keys {tuple(keys.shape)} and values {tuple(values.shape)} must both be {expected}")
        rounded = [tensor.detach().to("cpu", self.dtype) for tensor in (keys, values)]
        if not all(bool(tensor.isfinite().all()) for tensor in rounded):
            raise InvalidInput(f"keys or values are not finite in {self.dtype}; give the bank a wider dtype")
        whole, waiting = zip(*(self._cut(old, new) for old, new in zip(self._tail, rounded, strict=True)), strict=True)
        first = self.seen // self.chunk
        self._place(first, *whole)
        self._tail = (waiting[0].clone(), waiting[1].clone())  # of their own storage, so that nbytes is what is held
        self.seen += keys.shape[-2]

    def search(self, queries: Tensor, tokens: int) -> tuple[Tensor, Tensor, Tensor]:
        """Keys and values ``(kv_heads, n, k, head_dim)`` in the dtype of ``queries`` ``(kv_heads, n, head_dim)``, and
        the numbers ``(kv_heads, n, k / chunk)`` of the chunks they stand in, best first.

        Chunks are ranked by the inner product with their mean key, exactly; ``k`` is ``tokens``, or all that the bank
        has if that is less. No gradient. Raises ``InvalidInput`` unless ``tokens`` is a positive multiple of
        ``chunk``, and for an empty bank.
        """
        if tokens < 1 or tokens % self.chunk:
            raise InvalidInput(f"tokens={tokens!r} must be a positive multiple of chunk={self.chunk}")
        if not self._held:
            raise InvalidInput("the bank is empty: write to it before searching")
        with torch.no_grad():
            wanted = queries.detach().to("cpu")
            scores = torch.bmm(wanted, self._chunk_keys[:, : self._held].to(wanted.dtype).transpose(1, 2))
            slots = scores.topk(min(tokens // self.chunk, self._held), dim=-1).indices
            heads = torch.arange(self.kv_heads)[:, None, None] * self._keys.shape[1]
            keys, values = (
                held.flatten(0, 1)[slots + heads].flatten(2, 3).to(queries) for held in (self._keys, self._values)
            )
            newest = self.seen // self.chunk - 1
            return keys, values, newest - (newest - slots) % self._keys.shape[1]

    def source(self, ids: Tensor) -> Tensor:
        """Offsets ``(..., chunk)`` in the text since the last ``reset`` of the tokens of chunks ``ids`` ``(...)``.

        Raises ``InvalidInput`` for a chunk that the bank does not hold.
        """
        end = self.seen // self.chunk
        if ids.numel() and (int(ids.min()) < end - self._held or int(ids.max()) >= end):
            raise InvalidInput(f"ids={ids.flatten()[:4].tolist()}...: the bank holds {end - self._held} to {end - 1}")
        return ids[..., None] * self.chunk + torch.arange(self.chunk)

    def reset(self) -> None:
        """Forget everything: what was held is overwritten."""
        for tensor in (self._keys, self._values, self._chunk_keys):
            tensor.zero_()
        self._tail = (self._tail[0][:, :0].clone(), self._tail[1][:, :0].clone())
        self.seen = 0

    def to_payload(self) -> TensorPayload:
        """What ``from_payload`` needs: the chunks held, oldest first, and the waiting tokens."""
        order = torch.arange(self.seen // self.chunk - self._held, self.seen // self.chunk) % self._keys.shape[1]
        tensors = {
            "keys": self._keys[:, order],
            "values": self._values[:, order],
            "tail_keys": self._tail[0],
            "tail_values": self._tail[1],
            "sizes": torch.tensor([self.capacity, self.seen]),
        }
        return TensorPayload.from_torch(tensors, self.fingerprint)

    @classmethod
    def from_payload(cls, payload: TensorPayload, fingerprint: Fingerprint) -> Self:
        """Raises ``FingerprintMismatch`` if other weights or another layer made it, ``CorruptCube`` for tensors that
        are missing or do not fit together."""
        payload.fingerprint.check(fingerprint)
        if (names := tuple(payload.tensors)) != _NAMES:
            raise CorruptCube(f"a memory bank has the tensors {list(_NAMES)}, not {list(names)}")
        keys, sizes, tail_keys, tail_values, values = (payload.tensors[name].torch() for name in _NAMES)
        if not _fit(keys, values, tail_keys, tail_values, sizes):
            raise CorruptCube(f"keys {tuple(keys.shape)}, values {tuple(values.shape)} and sizes do not fit together")
        heads, held, chunk, width = keys.shape
        capacity, seen = sizes.tolist()
        bank = cls(fingerprint, capacity=capacity, kv_heads=heads, head_dim=width, chunk=chunk, dtype=keys.dtype)
        bank._place(seen // chunk - held, keys, values)
        bank._tail, bank.seen = (tail_keys.clone(), tail_values.clone()), seen
        return bank

    def save(self, path: str | os.PathLike[str]) -> None:
        """As a ``.cube`` file, whole or not at all."""
        file.write(MemCube(Header(kind="activation", semantic_type="memory_bank"), self.to_payload()), path)

    @classmethod
    def load(cls, path: str | os.PathLike[str], fingerprint: Fingerprint) -> Self:
        """Raises as ``lamina.cube.file.read`` and ``from_payload`` do."""
        payload = file.read(path).payload
        if not isinstance(payload, TensorPayload):
            raise InvalidInput(f"path {os.fspath(path)!r} holds a memory of text, not a memory bank")
        return cls.from_payload(payload, fingerprint)

    @property
    def _held(self) -> int:
        """Chunks that can be found."""
        return min(self.seen // self.chunk, self._keys.shape[1])

    def _cut(self, tail: Tensor, new: Tensor) -> tuple[Tensor, Tensor]:
        """Whole chunks ``(kv_heads, m, chunk, head_dim)`` of the waiting tokens and ``new``, and what waits then."""
        joined = torch.cat([tail, new], 1)
        whole = joined.shape[1] // self.chunk * self.chunk
        return joined[:, :whole].reshape(len(joined), -1, self.chunk, joined.shape[2]), joined[:, whole:]

    def _place(self, first: int, keys: Tensor, values: Tensor) -> None:
        """Put chunks, of which ``first`` is the number of the first, where the ring wants them."""
        kept = slice(max(0, keys.shape[1] - self._keys.shape[1]), None)
        slots = torch.arange(first, first + keys.shape[1])[kept] % self._keys.shape[1]
        self._keys[:, slots], self._values[:, slots] = keys[:, kept], values[:, kept]
        # The mean of what is held, not of what came: a bank that was saved and loaded finds the same.
        wide = torch.promote_types(self.dtype, torch.float32)
        self._chunk_keys[:, slots] = keys[:, kept].to(wide).mean(2).to(self.dtype)


def _fit(keys: Tensor, values: Tensor, tail_keys: Tensor, tail_values: Tensor, sizes: Tensor) -> bool:
    if keys.ndim != 4 or keys.shape != values.shape or sizes.shape != (2,) or sizes.dtype != torch.int64:
        return False
    heads, held, chunk, width = keys.shape
    capacity, seen = sizes.tolist()
    tail = (heads, seen % max(1, chunk), width)
    return (
        min(heads, chunk, width, capacity) > 0
        and capacity % chunk == 0
        and held == min(seen // chunk, capacity // chunk)
        and tail_keys.shape == tail_values.shape == tail
        and keys.is_floating_point()
        and {tensor.dtype for tensor in (keys, values, tail_keys, tail_values)} == {keys.dtype}
    )
