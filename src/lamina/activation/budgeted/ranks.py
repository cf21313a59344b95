"""Bytes of a pair of factors, and the rank that fits in so many: coefficients and basis, rounded by rows or not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamina.errors import InvalidInput

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_ROW = 8  # bytes beside the codes of a rounded row: a scale and an offset


def cost(rank: int, tokens: int, width: int, itemsize: int, bits: int | None) -> float:
    """Bytes of ``(tokens, rank)`` and ``(rank, width)`` of ``itemsize`` bytes a number, or of ``bits``."""
    number, row = _each(itemsize, bits)
    return rank * (number * (tokens + width) + row) + row * tokens


def within(room: float, tokens: int, width: int, itemsize: int, bits: int | None) -> int:
    """The largest rank that costs no more than ``room`` bytes; 0 or less if there is none."""
    number, row = _each(itemsize, bits)
    return limited(int((room - row * tokens) / (number * (tokens + width) + row)), tokens, width, bits)


def limited(rank: int, tokens: int, width: int, bits: int | None) -> int:
    """``rank``, no more than there are directions, in whole bytes."""
    step = 1 if bits is None else 8 // bits
    return min(rank, tokens, width) // step * step


def _each(itemsize: int, bits: int | None) -> tuple[float, int]:
    return (itemsize, 0) if bits is None else (bits / 8, _ROW)


def caches_latents(model: PreTrainedModel) -> bool:
    """Whether ``model`` caches latents. Raises ``InvalidInput`` for one that has them and caches what comes of them."""
    if getattr(model.config.get_text_config(decoder=True), "kv_lora_rank", None) is None:
        return False
    if not any(hasattr(module, "expand_kv") for module in model.modules()):
        raise InvalidInput(f"model={type(model).__name__}: has latents and caches the keys made of them; take a newer "
                           "transformers, which caches latents")  # fmt: skip
    return True
