"""Affine rounding to 8 bits, one scale and one offset a row.

A row ``x`` of the last axis becomes codes ``q = round((x - low) / scale)`` in 0..255 with ``low = min x`` and
``scale = (max x - min x) / 255``; it comes back as ``q * scale + low``. ``error_bound`` is a promise that holds for
every finite input, not an average: half a step, plus what float32 itself rounds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lamina._optional import require
from lamina.errors import InvalidInput

if TYPE_CHECKING:
    from torch import Tensor

_LEVELS = 255
_ROUNDING = 2.0**-23  # float32's own, relative
_TINY = 2.0**-126  # below it float32 may have no digits left


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """``codes`` uint8 ``(..., d)``; ``scale`` and ``low`` float32 ``(..., 1)``."""

    codes: Tensor
    scale: Tensor
    low: Tensor

    def error_bound(self) -> Tensor:
        """The most any element of a row can be off, ``(..., 1)`` float64."""
        scale, low = self.scale.double(), self.low.double()
        return scale / 2 + _ROUNDING * (low.abs() + _LEVELS * scale) + _TINY


def quantize(x: Tensor) -> Rows:
    """``x`` of any float dtype and at least one axis. Raises ``InvalidInput`` for what float32 cannot hold."""
    torch = require("torch", "quantizing a tensor")
    wide = x.double()
    if not torch.isfinite(x.float()).all():
        raise InvalidInput("x holds NaN, infinity or numbers beyond float32; 8 bits cannot keep them")
    low = wide.amin(-1, keepdim=True).float()
    scale = ((wide.amax(-1, keepdim=True) - low.double()) / _LEVELS).float()
    steps = (wide - low.double()) / torch.where(scale > 0, scale, 1.0).double()
    return Rows(steps.round().clamp(0, _LEVELS).to(torch.uint8), scale, low)


def dequantize(rows: Rows) -> Tensor:
    """Float32 ``(..., d)``, off by at most ``rows.error_bound()``."""
    return (rows.codes.double() * rows.scale.double() + rows.low.double()).float()
