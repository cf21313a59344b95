"""Codes of fewer than eight bits, several in a byte: the first code in the lowest bits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamina._optional import require
from lamina.errors import InvalidInput

if TYPE_CHECKING:
    from torch import Tensor

WIDTHS = (2, 4, 8)
"""Bits a code may have: those that divide a byte."""


def pack(codes: Tensor, bits: int) -> Tensor:
    """``codes (..., d)`` uint8 below ``2 ** bits`` as uint8 ``(..., d bits / 8)``; for 8 bits ``codes`` itself.

    Raises ``InvalidInput`` for another width, or a ``d`` that fills no whole bytes.
    """
    torch = require("torch", "packing codes")
    in_a_byte = _in_a_byte(bits)
    if in_a_byte == 1:
        return codes
    if codes.shape[-1] % in_a_byte:
        raise InvalidInput(f"codes of shape {tuple(codes.shape)}: the last must be a multiple of {in_a_byte}")
    parts = codes.reshape(*codes.shape[:-1], codes.shape[-1] // in_a_byte, in_a_byte)
    shifts = torch.arange(0, 8, bits, dtype=torch.uint8, device=codes.device)
    packed: Tensor = (parts << shifts).sum(-1, dtype=torch.uint8)
    return packed


def unpack(packed: Tensor, bits: int) -> Tensor:
    """The codes again, uint8 ``(..., d)``."""
    torch = require("torch", "unpacking codes")
    if _in_a_byte(bits) == 1:
        return packed
    shifts = torch.arange(0, 8, bits, dtype=torch.uint8, device=packed.device)
    codes: Tensor = (packed[..., None] >> shifts & (2**bits - 1)).flatten(-2)
    return codes


def _in_a_byte(bits: int) -> int:
    if bits not in WIDTHS:
        raise InvalidInput(f"bits={bits!r}: give one of {', '.join(map(str, WIDTHS))}")
    return 8 // bits
