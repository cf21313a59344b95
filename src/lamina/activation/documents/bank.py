"""The bank of CMT: what documents were compressed to, findable by key, each an activation MemCube.

Per memory it holds ``tokens x width`` and ``key_dim`` numbers in float16 and nothing else that grows with the
document; ``nbytes`` counts those, live. Cubes are made when asked for, with the fingerprint of the model *and* the
compressor: soft tokens mean something to that pair alone, so a bank refuses any other cube.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from lamina.cube import file
from lamina.cube.cube import Header, MemCube
from lamina.cube.payload import Fingerprint, TensorPayload
from lamina.errors import Conflict, FingerprintMismatch, InvalidInput, NotFound

MEMORY, KEY = "memory", "key"
_COMPRESSOR = "+cmt-"


def compressed_by(model: Fingerprint, compressor: str) -> Fingerprint:
    """The identity of what the compressor with hash ``compressor`` makes for ``model``."""
    return replace(model, weights=f"{model.weights}{_COMPRESSOR}{compressor}")


class SoftBank:
    """Memories in the order in which they were written; later means newer.

    ``fingerprint`` is that of ``compressed_by``; ``tokens``, ``width`` and ``key_dim`` are the shapes it accepts.
    """

    def __init__(self, fingerprint: Fingerprint, *, tokens: int, width: int, key_dim: int) -> None:
        self.fingerprint = fingerprint
        self.tokens, self.width, self.key_dim = tokens, width, key_dim
        self._headers: list[Header] = []
        self._memories: list[Tensor] = []  # each its own storage, so that removing one frees it
        self._keys = torch.empty(0, key_dim, dtype=torch.float16)

    def __len__(self) -> int:
        return len(self._headers)

    @property
    def headers(self) -> Sequence[Header]:
        """Of all memories, oldest first."""
        return tuple(self._headers)

    @property
    def keys(self) -> Tensor:
        """Float32 ``(n, key_dim)``."""
        return self._keys.float()

    @property
    def nbytes(self) -> int:
        """Bytes of the storages behind all memories and keys."""
        storages = [self._keys.untyped_storage(), *(memory.untyped_storage() for memory in self._memories)]
        return sum(storage.nbytes() for storage in storages)

    def memories(self, places: Sequence[int]) -> Tensor:
        """Float32 ``(len(places), tokens, width)``."""
        return torch.stack([self._memories[place] for place in places]).float()

    def append(self, headers: Sequence[Header], memories: Tensor, keys: Tensor) -> None:
        """Take ``memories`` ``(n, tokens, width)`` and unit ``keys`` ``(n, key_dim)``, rounded to float16, or none.

        Raises ``Conflict`` for an id that is there, ``InvalidInput`` for other shapes and for numbers that are not
        finite in float16.
        """
        shapes = ((len(headers), self.tokens, self.width), (len(headers), self.key_dim))
        if (tuple(memories.shape), tuple(keys.shape)) != shapes:
            raise InvalidInput(f"memories and keys have shapes {memories.shape} and {keys.shape}, not {shapes}")
        seen = {header.id for header in self._headers}
        for header in headers:
            if header.id in seen:
                raise Conflict(f"memory {header.id!r} is in the bank already; remove it first")
            seen.add(header.id)
        halves, half_keys = memories.detach().to(torch.float16), keys.detach().to(torch.float16)
        finite = halves.flatten(1).isfinite().all(1) & half_keys.isfinite().all(1)
        if not bool(finite.all()):
            bad = [header.id for header, fine in zip(headers, finite.tolist(), strict=True) if not fine]
            raise InvalidInput(f"memories {bad} are not finite in float16: the compressor has diverged; fit it again")
        self._memories += [memory.clone() for memory in halves]
        self._keys = torch.cat([self._keys, half_keys])
        self._headers += headers

    def extend(self, cubes: Iterable[MemCube]) -> None:
        """Take cubes, oldest first; see ``append``. Raises ``FingerprintMismatch`` for another compressor's."""
        cubes = list(cubes)
        payloads = [self._payload(cube) for cube in cubes]
        if payloads:
            memories, keys = (torch.stack([p.tensors[name].torch() for p in payloads]) for name in (MEMORY, KEY))
            self.append([cube.header for cube in cubes], memories, keys)

    def cube(self, id: str) -> MemCube:
        """The memory with cube id ``id``. Raises ``NotFound``."""
        place = self._place(id)
        tensors = {MEMORY: self._memories[place], KEY: self._keys[place]}
        return MemCube(self._headers[place], TensorPayload.from_torch(tensors, self.fingerprint))

    def cubes(self) -> list[MemCube]:
        """All memories, oldest first."""
        return [self.cube(header.id) for header in self._headers]

    def remove(self, id: str) -> list[str]:
        """Drop the memory ``id``, or every memory made from the text with id ``id``; the ids that went.

        Raises ``NotFound`` if there is neither.
        """
        gone = [header.id for header in self._headers if id in (header.id, source_id(header))]
        if not gone:
            raise NotFound(f"id={id!r} is neither a memory of this bank nor a text one was made from")
        kept = [place for place, header in enumerate(self._headers) if header.id not in gone]
        self._headers = [self._headers[place] for place in kept]
        self._memories = [self._memories[place] for place in kept]
        self._keys = self._keys[kept]
        return gone

    def save(self, folder: Path) -> None:
        """One ``.cube`` file a memory, named so that they sort by age; those of other memories there are deleted."""
        folder.mkdir(parents=True, exist_ok=True)
        names = {f"{place:08d}-{header.id}.cube": header.id for place, header in enumerate(self._headers)}
        for name, id in names.items():
            file.write(self.cube(id), folder / name)
        for path in folder.glob("*.cube"):
            if path.name not in names:
                path.unlink()

    def load(self, folder: Path) -> None:
        """Take the memories saved in ``folder``; see ``extend``. Raises ``NotFound`` without such a folder."""
        if not folder.is_dir():
            raise NotFound(f"folder={str(folder)!r} does not exist; give the one a bank was saved to")
        self.extend(file.read(path) for path in sorted(folder.glob("*.cube")))

    def _place(self, id: str) -> int:
        for place, header in enumerate(self._headers):
            if header.id == id:
                return place
        raise NotFound(f"id={id!r} is no memory of this bank")

    def _payload(self, cube: MemCube) -> TensorPayload:
        payload = cube.payload
        if not isinstance(payload, TensorPayload) or {*payload.tensors} != {MEMORY, KEY}:
            raise InvalidInput(f"cube {cube.id!r} holds no soft memory (tensors {MEMORY!r} and {KEY!r})")
        theirs, ours = (f.weights.partition(_COMPRESSOR) for f in (payload.fingerprint, self.fingerprint))
        if theirs[0] == ours[0] and theirs[2] != ours[2]:
            raise FingerprintMismatch(
                f"cube {cube.id!r} was written by compressor {theirs[2] or '(none)'}, this is {ours[2]} of the same "
                "model; load that compressor, or write the documents again from their text"
            )
        payload.fingerprint.check(self.fingerprint)
        return payload


def source_id(header: Header) -> str:
    """Id of the text a memory was made from; its own if that is not known."""
    sources = header.provenance.sources
    return sources[0].id if sources else header.id
