"""Affine rounding to 2, 4 or 8 bits, one scale and one offset a row.

A row ``x`` of the last axis becomes codes ``q = round((x - low) / scale)`` in 0..2^bits - 1 with ``low = min x`` and
``scale = (max x - min x) / (2^bits - 1)``; it comes back as ``q * scale + low``. ``error_bound`` is a promise that
holds for every finite input, not an average: half a step, plus what float32 itself rounds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lamina._optional import require
from lamina.errors import InvalidInput
from lamina.tensors.pack import pack, unpack

if TYPE_CHECKING:
    from torch import Tensor

_ROUNDING = 2.0**-23  # float32's own, relative
_TINY = 2.0**-126  # below it float32 may have no digits left


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """``codes`` uint8 ``(..., d bits / 8)``, several in a byte; ``scale`` and ``low`` float32 ``(..., 1)``."""

    codes: Tensor
    scale: Tensor
    low: Tensor
    bits: int = 8

    def error_bound(self) -> Tensor:
        """The most any element of a row can be off, ``(..., 1)`` float64."""
        scale, low = self.scale.double(), self.low.double()
        bound: Tensor = scale / 2 + _ROUNDING * (low.abs() + (2**self.bits - 1) * scale) + _TINY
        return bound

    def map(self, change: Callable[[Tensor], Tensor]) -> Rows:
        """``change`` done to codes, scales and offsets: choosing, repeating or reordering whole rows."""
        return Rows(change(self.codes), change(self.scale), change(self.low), self.bits)

    def before(self, later: Rows, axis: int) -> Rows:
        """These and then ``later`` along ``axis``, not the last. Both of the same bits."""
        torch = require("torch", "joining rounded rows")
        return Rows(
            torch.cat([self.codes, later.codes], axis),
            torch.cat([self.scale, later.scale], axis),
            torch.cat([self.low, later.low], axis),
            self.bits,
        )

    @property
    def nbytes(self) -> int:
        """Live bytes of codes, scales and offsets."""
        return sum(part.untyped_storage().nbytes() for part in (self.codes, self.scale, self.low))


def quantize(x: Tensor, bits: int = 8) -> Rows:
    """``x`` of any float dtype and at least one axis, the last of which fills whole bytes.

    Raises ``InvalidInput`` for what float32 cannot hold, and for other widths than 2, 4 and 8 bits.
    """
    torch = require("torch", "quantizing a tensor")
    wide, levels = x.double(), 2**bits - 1
    if not torch.isfinite(x.float()).all():
        raise InvalidInput(f"x holds NaN, infinity or numbers beyond float32; {bits} bits cannot keep them")
    low = wide.amin(-1, keepdim=True).float()
    scale = ((wide.amax(-1, keepdim=True) - low.double()) / levels).float()
    steps = (wide - low.double()) / torch.where(scale > 0, scale, 1.0).double()
    return Rows(pack(steps.round().clamp(0, levels).to(torch.uint8), bits), scale, low, bits)


def dequantize(rows: Rows) -> Tensor:
    """Float32 ``(..., d)``, off by at most ``rows.error_bound()``."""
    dense: Tensor = unpack(rows.codes, rows.bits).float() * rows.scale + rows.low
    return dense
