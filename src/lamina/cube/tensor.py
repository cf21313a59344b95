"""TensorView: one tensor of a cube, as dtype, shape and bytes, without torch.

A cube must be readable on a machine without torch, so a tensor is held as the bytes a ``.cube`` file
holds: C order, little endian, dtype named as in the safetensors format. ``numpy()`` and ``torch()``
look at those bytes without copying them wherever the library can. Equality is equality of bits, so
that a NaN equals itself and ``-0.0`` differs from ``0.0``.

Quantized tensors travel as packed ``U8`` with their scales beside them; 8-bit floats are not stored.
"""

from __future__ import annotations

import math
import reprlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from lamina._optional import require
from lamina.errors import InvalidInput

if TYPE_CHECKING:
    from torch import Tensor
    from typing_extensions import Buffer

MAX_DIMS = 32
_MAX_BYTES = 2**63 - 1  # beyond it numpy and torch cannot address a tensor, not even an empty one

ITEMSIZE = {
    "BOOL": 1, "U8": 1, "I8": 1, "U16": 2, "I16": 2, "F16": 2, "BF16": 2,
    "U32": 4, "I32": 4, "F32": 4, "U64": 8, "I64": 8, "F64": 8,
}  # fmt: skip
_NUMPY = {
    "BOOL": "?", "U8": "u1", "I8": "i1", "U16": "<u2", "I16": "<i2", "F16": "<f2", "BF16": "<u2",
    "U32": "<u4", "I32": "<i4", "F32": "<f4", "U64": "<u8", "I64": "<i8", "F64": "<f8",
}  # fmt: skip
_TORCH = {
    "BOOL": "bool", "U8": "uint8", "I8": "int8", "U16": "uint16", "I16": "int16", "F16": "float16",
    "BF16": "bfloat16", "U32": "uint32", "I32": "int32", "F32": "float32", "U64": "uint64", "I64": "int64",
    "F64": "float64",
}  # fmt: skip
_FROM_NUMPY = {np.dtype(code): name for name, code in _NUMPY.items() if name != "BF16"}
_FROM_TORCH = {f"torch.{attribute}": name for name, attribute in _TORCH.items()}


@dataclass(frozen=True, slots=True)
class TensorView:
    """A tensor as stored: ``dtype`` (a key of ``ITEMSIZE``), ``shape`` (``()`` for a scalar) and its bytes.

    Raises ``InvalidInput`` when the three do not fit each other.
    """

    dtype: str
    shape: tuple[int, ...]
    data: memoryview

    def __post_init__(self) -> None:
        itemsize = ITEMSIZE.get(self.dtype) if isinstance(self.dtype, str) else None
        if itemsize is None:
            raise InvalidInput(f"dtype must be one of {', '.join(ITEMSIZE)}, got {reprlib.repr(self.dtype)}")
        if nbytes_of(self.shape, itemsize) != self.data.nbytes:
            raise InvalidInput(
                f"a {self.dtype} tensor of shape {reprlib.repr(self.shape)} takes {nbytes_of(self.shape, itemsize)} "
                f"bytes, but data holds {self.data.nbytes}"
            )

    @classmethod
    def from_bytes(cls, dtype: str, shape: tuple[int, ...], data: Buffer) -> TensorView:
        """A view of any contiguous buffer; no copy."""
        view = memoryview(data)
        return cls(dtype, tuple(shape), view.cast("B") if view.nbytes else memoryview(b""))

    @classmethod
    def from_numpy(cls, array: NDArray[Any], *, copy: bool = True) -> TensorView:
        """``array`` of any shape with a dtype numpy shares with safetensors; any byte order or strides.

        ``copy=False`` shares the memory of a contiguous little-endian array: the caller must not write
        to it any more. Raises ``InvalidInput`` for other dtypes (complex, text, objects, dates).
        """
        plain = np.asarray(array)
        dtype = _FROM_NUMPY.get(plain.dtype.newbyteorder("<"))
        if dtype is None:
            raise InvalidInput(f"array has dtype {plain.dtype}, which a cube cannot hold; use one of {_names()}")
        little = plain.astype(plain.dtype.newbyteorder("<"), order="C", copy=copy)
        return cls.from_bytes(dtype, plain.shape, little.reshape(-1).view(np.uint8).data if little.size else b"")

    @classmethod
    def from_torch(cls, tensor: Tensor, *, copy: bool = True) -> TensorView:
        """``tensor`` of any shape and device, detached; ``copy=False`` shares the memory of a contiguous
        CPU tensor, which the caller must not write to any more.

        Raises ``InvalidInput`` for sparse, quantized and meta tensors and for dtypes a cube cannot hold.
        """
        torch = require("torch", "storing a torch tensor in a cube")
        dtype = _FROM_TORCH.get(str(tensor.dtype))
        if dtype is None or tensor.layout != torch.strided or tensor.is_meta:
            raise InvalidInput(
                f"tensor is {tensor.dtype} with layout {tensor.layout} on {tensor.device}, which a cube cannot hold; "
                f"use a dense tensor with data, of dtype {_names()}"
            )
        plain = tensor.detach().cpu().contiguous()
        if copy and plain.data_ptr() == tensor.data_ptr():
            plain = plain.clone()
        data = plain.reshape(-1).view(torch.uint8).numpy().data if plain.numel() else b""
        return cls.from_bytes(dtype, tuple(tensor.shape), data)

    @property
    def nbytes(self) -> int:
        return self.data.nbytes

    def numpy(self) -> NDArray[Any]:
        """A read-only array over the same memory, except for BF16, which numpy lacks: that one is widened
        to a new float32 array, exactly (a bfloat16 is the upper half of a float32)."""
        array = np.frombuffer(self.data, dtype=_NUMPY[self.dtype]).reshape(self.shape)
        if self.dtype == "BF16":
            return (array.astype("<u4") << 16).view("<f4")
        array.flags.writeable = False
        return array

    def torch(self) -> Tensor:
        """A CPU tensor over the same memory. Never write to it (``clone()`` first): the cube would change.

        Cubes read from a path or made from arrays and tensors are shared without a copy; a cube parsed
        from immutable ``bytes`` is copied, because torch has no read-only tensors. Writing to a tensor
        of a memory-mapped cube never reaches the file.
        """
        torch = require("torch", "reading a cube's tensors with torch")
        dtype = getattr(torch, _TORCH[self.dtype])
        if not self.nbytes:
            return cast("Tensor", torch.empty(self.shape, dtype=dtype))
        data = bytearray(self.data) if self.data.readonly else self.data
        return cast("Tensor", torch.frombuffer(data, dtype=dtype).reshape(self.shape))


def nbytes_of(shape: tuple[int, ...], itemsize: int) -> int:
    """Bytes of a tensor, computed without overflow.

    Raises ``InvalidInput`` for a shape that is no tuple of non-negative integers, has too many
    dimensions, or cannot be addressed even though a zero among its dimensions makes it empty.
    """
    if not isinstance(shape, tuple) or len(shape) > MAX_DIMS or any(type(n) is not int or n < 0 for n in shape):
        raise InvalidInput(
            f"shape must be at most {MAX_DIMS} non-negative integers in a tuple, got {reprlib.repr(shape)}"
        )
    if math.prod(n for n in shape if n) * itemsize > _MAX_BYTES:
        raise InvalidInput(f"shape {reprlib.repr(shape)} is larger than any memory")
    return math.prod(shape) * itemsize


def _names() -> str:
    return ", ".join(_TORCH.values())
