"""What can stand in the three slots of a block, by the name a configuration gives it.

A block is built as ``Block(config, **settings)``, maps ``(batch, time, width)`` to the same under a ``BlockContext``,
and begins by ``init_weights(config)``.
"""

from __future__ import annotations

from typing import Protocol

from torch import Tensor, nn

from lamina.errors import InvalidInput
from lamina.nn.attention import Attention
from lamina.nn.config import LaminaConfig
from lamina.nn.context import BlockContext
from lamina.nn.feed_forward import SwiGLU
from lamina.nn.gated_delta import GatedDelta

MIXERS: dict[str, type[nn.Module]] = {
    "attention": Attention,
    "gated_delta": GatedDelta,
}
FFNS: dict[str, type[nn.Module]] = {
    "swiglu": SwiGLU,
}
SIDES: dict[str, type[nn.Module]] = {}
NONE = "none"  # an ffn or side slot that stays empty
_TABLES = {"mixer": MIXERS, "ffn": FFNS, "side": SIDES}


class SlotBlock(Protocol):
    """A block in a slot, as the decoder calls it."""

    def __call__(self, x: Tensor, ctx: BlockContext) -> Tensor:
        """``(batch, time, width)`` to the same."""


def build(config: LaminaConfig, slot: str, layer: int) -> nn.Module | None:
    """What stands in ``slot`` of a layer. Raises ``InvalidInput`` for names and settings that no block has."""
    name = config.name_of(slot, layer)
    if name == NONE and slot != "mixer":
        return None
    table = _TABLES[slot]
    if name not in table:
        raise InvalidInput(f"{slot}={name!r}: there are {', '.join([*table, *([] if slot == 'mixer' else [NONE])])}")
    settings = config.settings_of(name)
    try:
        return table[name](config, **settings)
    except TypeError as error:
        raise InvalidInput(f"block={{{name!r}: {settings!r}}}: {error}") from error
