"""The bank of CMT: what documents were compressed to, findable by key, each an activation MemCube.

Per memory it holds ``tokens x width`` and ``key_dim`` numbers in float16 and nothing else that grows with the
document; ``nbytes`` counts those, live. Cubes are made when asked for, with the fingerprint of the model *and* the
compressor: soft tokens mean something to that pair alone, so a bank refuses any other cube.

``compress`` gives the same bank with tokens held as numbers of codes (``lamina.activation.documents.codes``); what it
holds then means something with its codebook alone, which is part of the fingerprint too.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from lamina.activation.documents.codes import Codebook
from lamina.cube import file
from lamina.cube.cube import Header, MemCube
from lamina.cube.payload import Fingerprint, TensorPayload, TextPayload
from lamina.errors import Conflict, FingerprintMismatch, InvalidInput, NotFound

MEMORY, KEY, CODES = "memory", "key", "codes"
_COMPRESSOR, _CODED = "+cmt-", "+codes-"
_LIST = "bank.cube"


def compressed_by(model: Fingerprint, compressor: str) -> Fingerprint:
    """The identity of what the compressor with hash ``compressor`` makes for ``model``."""
    return replace(model, weights=f"{model.weights}{_COMPRESSOR}{compressor}")


class SoftBank:
    """Memories in the order in which they were written; later means newer.

    ``made_by`` is that of ``compressed_by``; ``tokens``, ``width`` and ``key_dim`` are the shapes it accepts. With a
    ``codebook`` whatever it takes is coded. Not for several threads at once; ``CMT`` sees to that for its own.
    """

    def __init__(
        self, made_by: Fingerprint, *, tokens: int, width: int, key_dim: int, codebook: Codebook | None = None
    ) -> None:
        self.made_by = made_by
        self.tokens, self.width, self.key_dim = tokens, width, key_dim
        self.codebook = codebook
        self._headers: list[Header] = []
        self._ages: list[int] = []
        self._memories: list[Tensor] = []  # each its own storage, so that removing one frees it
        self._keys = torch.empty(0, key_dim, dtype=torch.float16)

    def __len__(self) -> int:
        return len(self._headers)

    @property
    def headers(self) -> Sequence[Header]:
        """Of all memories, oldest first."""
        return tuple(self._headers)

    @property
    def fingerprint(self) -> Fingerprint:
        """Of the cubes: the model, the compressor and the codebook."""
        if self.codebook is None:
            return self.made_by
        return replace(self.made_by, weights=f"{self.made_by.weights}{_CODED}{self.codebook.version}")

    @property
    def ages(self) -> Tensor:
        """Int64 ``(n,)``, rising; equal for the memories of one document, written together."""
        return torch.tensor(self._ages, dtype=torch.int64)

    @property
    def keys(self) -> Tensor:
        """Float32 ``(n, key_dim)``."""
        return self._keys.float()

    @property
    def nbytes(self) -> int:
        """Bytes of the storages behind all memories and keys, and of the codebook."""
        storages = [self._keys.untyped_storage(), *(memory.untyped_storage() for memory in self._memories)]
        return sum(storage.nbytes() for storage in storages) + (self.codebook.nbytes if self.codebook else 0)

    def memories(self, places: Sequence[int]) -> Tensor:
        """Float32 ``(len(places), tokens, width)``."""
        held = torch.stack([self._memories[place] for place in places])
        if self.codebook is None:
            return held.float()
        return self.codebook.decode(held)

    def compress(self, codes: int = 512, *, seed: int = 0) -> SoftBank:
        """A bank with the same ids, ages and keys whose tokens are held as numbers of ``codes`` learned from them.

        A token takes 2 bytes, the codebook ``2 * codes * width`` once. What is written to the new bank
        later is coded with the same codes. Reading is approximate from then on. Raises ``InvalidInput`` for an empty
        bank, one that is compressed already, and as ``Codebook.fit``.
        """
        if self.codebook is not None:
            raise InvalidInput("the bank is compressed already; compress the one it came from")
        tokens = torch.cat(self._memories) if self._memories else torch.empty(0, self.width)
        codebook = Codebook.fit(tokens, codes=codes, seed=seed)
        bank = SoftBank(self.made_by, tokens=self.tokens, width=self.width, key_dim=self.key_dim, codebook=codebook)
        bank._take(self._headers, [codebook.encode(memory) for memory in self._memories], self._keys)
        bank._ages = list(self._ages)
        return bank

    def append(self, headers: Sequence[Header], memories: Tensor, keys: Tensor) -> None:
        """Take ``memories`` ``(n, tokens, width)`` and unit ``keys`` ``(n, key_dim)``, rounded to float16, or none.

        Raises ``Conflict`` for an id that is there, ``InvalidInput`` for other shapes and for numbers that are not
        finite in float16.
        """
        shapes = ((len(headers), self.tokens, self.width), (len(headers), self.key_dim))
        if (tuple(memories.shape), tuple(keys.shape)) != shapes:
            raise InvalidInput(f"memories and keys have shapes {memories.shape} and {keys.shape}, not {shapes}")
        halves, half_keys = memories.detach().cpu().half(), keys.detach().cpu().half()
        finite = halves.flatten(1).isfinite().all(1) & half_keys.isfinite().all(1)
        if not bool(finite.all()):
            bad = [header.id for header, fine in zip(headers, finite.tolist(), strict=True) if not fine]
            raise InvalidInput(f"memories {bad} are not finite in float16: the compressor has diverged; fit it again")
        held = list(halves) if self.codebook is None else [self.codebook.encode(memory) for memory in halves]
        self._take(headers, held, half_keys)

    def extend(self, cubes: Iterable[MemCube]) -> None:
        """Take cubes, oldest first; see ``append``. Raises ``FingerprintMismatch`` for another compressor's."""
        cubes = list(cubes)
        payloads = [self._payload(cube) for cube in cubes]
        if payloads:
            held, keys = ([p.tensors[name].torch() for p in payloads] for name in (self._name, KEY))
            headers = [cube.header for cube in cubes]
            if self.codebook is None:
                self.append(headers, torch.stack(held), torch.stack(keys))
            else:  # of this very codebook, as their fingerprint says
                self._take(headers, held, torch.stack(keys))

    def cube(self, id: str) -> MemCube:
        """The memory with cube id ``id``. Raises ``NotFound``."""
        place = self._place(id)
        tensors = {self._name: self._memories[place], KEY: self._keys[place]}
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
        self._ages = [self._ages[place] for place in kept]
        self._memories = [self._memories[place] for place in kept]
        self._keys = self._keys[kept]
        return gone

    def save(self, folder: Path) -> None:
        """One ``.cube`` file a memory, one with the codebook if there is one, and last ``bank.cube``, which lists them.

        Whatever interrupts it, the folder holds what was saved before or all of this. Other ``.cube`` files there are
        deleted.
        """
        folder.mkdir(parents=True, exist_ok=True)
        coded = f"-{self.codebook.version}" if self.codebook else ""
        names = [f"{header.id}{coded}.cube" for header in self._headers]
        for name, cube in zip(names, self.cubes(), strict=True):
            file.write(cube, folder / name)
        if self.codebook is not None:
            names.append(f"codebook{coded}.cube")
            payload = TensorPayload.from_torch({CODES: self.codebook.codes}, self.made_by)
            file.write(MemCube(Header(kind="parameter", semantic_type="codebook"), payload), folder / names[-1])
        file.write(MemCube(Header(semantic_type="bank"), TextPayload("\n".join(names))), folder / _LIST)
        for path in folder.glob("*.cube"):
            if path.name not in (*names, _LIST):
                path.unlink()

    def load(self, folder: Path) -> None:
        """Take the memories saved in ``folder``; see ``extend``. An empty bank takes a codebook there as its own.

        Raises ``NotFound`` if no bank was saved there.
        """
        saved = folder / _LIST
        if not saved.is_file():
            raise NotFound(f"folder={str(folder)!r} holds no {_LIST}; give the one a bank was saved to")
        cubes = [file.read(folder / Path(name).name) for name in file.read(saved).text.splitlines()]
        if cubes and cubes[-1].header.semantic_type == "codebook":
            payload = cubes.pop().payload
            if not len(self) and isinstance(payload, TensorPayload):
                payload.fingerprint.check(self.made_by)
                self.codebook = Codebook(payload.tensors[CODES].torch().clone())
        self.extend(cubes)

    @property
    def _name(self) -> str:
        """Of the tensor that a memory is held as."""
        return MEMORY if self.codebook is None else CODES

    def _take(self, headers: Sequence[Header], held: Sequence[Tensor], keys: Tensor) -> None:
        """Add memories as they are held, all or none. Raises ``Conflict`` for an id that is there."""
        seen = {header.id for header in self._headers}
        for header in headers:
            if header.id in seen:
                raise Conflict(f"memory {header.id!r} is in the bank already; remove it first")
            seen.add(header.id)
        self._memories += [memory.clone() for memory in held]
        self._keys = torch.cat([self._keys, keys])
        for header in headers:
            self._ages.append(self._age(header))
            self._headers.append(header)

    def _age(self, header: Header) -> int:
        """Of a memory that is added now: that of the last one if both are stretches of one document."""
        if not self._headers:
            return 0
        last = self._headers[-1]
        together = (source_id(last), last.lineage) == (source_id(header), header.lineage)
        return self._ages[-1] + (0 if together else 1)

    def _place(self, id: str) -> int:
        for place, header in enumerate(self._headers):
            if header.id == id:
                return place
        raise NotFound(f"id={id!r} is no memory of this bank")

    def _payload(self, cube: MemCube) -> TensorPayload:
        payload = cube.payload
        if not isinstance(payload, TensorPayload) or {*payload.tensors} not in ({MEMORY, KEY}, {CODES, KEY}):
            raise InvalidInput(f"cube {cube.id!r} holds no soft memory (tensors {MEMORY!r} or {CODES!r}, and {KEY!r})")
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
