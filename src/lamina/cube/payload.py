"""What a memory contains: text, or named tensors with the fingerprint of the model they belong to.

Payloads are values: frozen, compared by content, hashed by content. Tensors are held without torch
(``lamina.cube.tensor``), so a cube can be stored, moved and inspected on a machine that has none.
"""

from __future__ import annotations

import hashlib
import json
import reprlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NoReturn

from numpy.typing import NDArray

from lamina.cube.tensor import TensorView
from lamina.errors import FingerprintMismatch, InvalidInput

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class TextPayload:
    text: str

    @property
    def nbytes(self) -> int:
        return len(self.encode())

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.encode()).hexdigest()

    def as_text(self) -> str:
        return self.text

    def encode(self) -> bytes:
        """UTF-8. Raises ``InvalidInput`` for a lone surrogate, which no encoding of text can hold."""
        try:
            return self.text.encode()
        except UnicodeEncodeError as error:
            raise InvalidInput(
                f"text holds the lone surrogate {self.text[error.start]!r} at character {error.start}; "
                "remove it, or decode its source with the right encoding"
            ) from error


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """The model that tensors belong to; they mean nothing to any other. Empty: does not apply.

    ``weights`` and ``tokenizer`` are hashes, ``rope`` the rotary parameters and how positions are kept
    (rotated or not), ``template`` a hash of the chat template, ``attention`` the attention class.
    """

    architecture: str
    weights: str
    tokenizer: str
    dtype: str
    rope: str = ""
    quantization: str = ""
    template: str = ""
    attention: str = ""

    @property
    def sha256(self) -> str:
        return hashlib.sha256(_canonical(asdict(self))).hexdigest()

    def check(self, expected: Fingerprint) -> None:
        """Raise ``FingerprintMismatch``, showing both in full, unless this equals ``expected``."""
        differing = [f.name for f in fields(self) if getattr(self, f.name) != getattr(expected, f.name)]
        if differing:
            raise FingerprintMismatch(
                f"the cube belongs to another model: {', '.join(differing)} differ. Cube: {self}. "
                f"Expected: {expected}. Load the cube's model, or rebuild the cube from its text"
            )


@dataclass(frozen=True, slots=True)
class TensorPayload:
    """Named tensors (a read-only mapping in the order of names) and the model they belong to.

    Names are non-empty and must not be ``__metadata__``, which the file format reserves.
    """

    tensors: Mapping[str, TensorView]
    fingerprint: Fingerprint

    def __post_init__(self) -> None:
        for name in self.tensors:
            if not isinstance(name, str) or not name or name == "__metadata__" or not _encodable(name):
                raise InvalidInput(f"tensor name {reprlib.repr(name)} must be non-empty text other than '__metadata__'")
        object.__setattr__(self, "tensors", MappingProxyType(dict(sorted(self.tensors.items()))))

    @classmethod
    def from_numpy(cls, arrays: Mapping[str, NDArray[Any]], fingerprint: Fingerprint) -> TensorPayload:
        """Copies ``arrays``; dtypes as in ``TensorView.from_numpy``."""
        return cls({name: TensorView.from_numpy(array) for name, array in arrays.items()}, fingerprint)

    @classmethod
    def from_torch(cls, tensors: Mapping[str, torch.Tensor], fingerprint: Fingerprint) -> TensorPayload:
        """Copies ``tensors`` to the CPU; dtypes as in ``TensorView.from_torch``."""
        return cls({name: TensorView.from_torch(tensor) for name, tensor in tensors.items()}, fingerprint)

    @property
    def nbytes(self) -> int:
        """Live bytes of all tensors."""
        return sum(view.nbytes for view in self.tensors.values())

    @property
    def sha256(self) -> str:
        """Over the fingerprint, every name, dtype and shape, then the bytes in the order of names."""
        shapes = [[name, view.dtype, view.shape] for name, view in self.tensors.items()]
        digest = hashlib.sha256(_canonical([asdict(self.fingerprint), shapes]))
        for view in self.tensors.values():
            digest.update(view.data)
        return digest.hexdigest()

    def as_text(self) -> NoReturn:
        raise InvalidInput(
            f"this cube holds {len(self.tensors)} tensors of {self.fingerprint.architecture}, not text; "
            "read its parents (header.lineage) for the text it came from"
        )


Payload = TextPayload | TensorPayload


def _canonical(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _encodable(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)
