"""What can stand in the three slots of a block, by the name a configuration gives it.

A block is built as ``Block(config, **settings)``, maps ``(batch, time, width)`` to the same under a ``BlockContext``,
and begins by ``init_weights(config)``.
"""

from __future__ import annotations

from torch import nn

from lamina.errors import InvalidInput
from lamina.nn.attention import Attention
from lamina.nn.config import LaminaConfig
from lamina.nn.eidetic_fading import BMojo
from lamina.nn.experts import MixtureOfExperts
from lamina.nn.feed_forward import SwiGLU
from lamina.nn.gated_delta import GatedDelta
from lamina.nn.memory_layer import UltraMemV2
from lamina.nn.mixed_memories import MoM
from lamina.nn.synaptic_resonance import SynapticResonance
from lamina.nn.table_linear import MemoryBlock, TableAttention

MIXERS: dict[str, type[nn.Module]] = {
    "attention": Attention,
    "gated_delta": GatedDelta,
    "mom": MoM,
    "synaptic_resonance": SynapticResonance,
    "bmojo": BMojo,
    "table_attention": TableAttention,
}
FFNS: dict[str, type[nn.Module]] = {
    "swiglu": SwiGLU,
    "experts": MixtureOfExperts,
    "memory_block": MemoryBlock,
}
SIDES: dict[str, type[nn.Module]] = {"ultramem_v2": UltraMemV2}
NONE = "none"  # an ffn or side slot that stays empty
_TABLES = {"mixer": MIXERS, "ffn": FFNS, "side": SIDES}


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


def placed(names: str) -> dict[str, str]:
    """Names joined by ``+``, each with the slot it belongs to: of ``"mom+experts"`` mixer and ffn.

    Raises ``InvalidInput`` for names there are not, and for two in one slot."""
    found: dict[str, str] = {}
    for name in names.split("+"):
        slot = next((slot for slot, table in _TABLES.items() if name in table), None)
        if slot is None:
            known = [block for table in _TABLES.values() for block in table]
            raise InvalidInput(f"{name!r}: there are {', '.join(known)}")
        if slot in found:
            raise InvalidInput(f"{names!r}: {found[slot]} and {name} would stand in the same slot, {slot}")
        found[slot] = name
    return found
