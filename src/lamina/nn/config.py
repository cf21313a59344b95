"""What a decoder is made of: sizes, and by name what stands in the three slots of each block.

A name alone (``mixer="mom"``) stands in every layer, a list names one for each layer (``["mom", "attention"]`` is
repeated as far as the layers go). What only one kind of block needs is in ``block``: ``{"mom": {"memories": 4}}``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from transformers import PretrainedConfig

from lamina.errors import InvalidInput

Names = str | list[str]


class LaminaConfig(PretrainedConfig):  # type: ignore[no-untyped-call]
    """``hidden_size`` channels in ``num_hidden_layers`` blocks, each a ``mixer`` over time, an ``ffn`` and maybe a
    ``side`` block beside the ffn (names in ``lamina.nn.slots``).

    ``num_heads`` of ``head_dim`` (default: ``hidden_size / num_heads``) share ``num_kv_heads`` (default: as many);
    ``ffn_size`` is the inner width (default: 8/3 of ``hidden_size``, in eights). ``short_conv``: taps of a causal
    convolution before every mixer, so that none has an advantage by one of its own; 0 for none.

    Raises ``InvalidInput`` for sizes that do not fit each other.
    """

    model_type = "lamina"
    keys_to_ignore_at_inference = ("past_key_values",)

    def __init__(
        self,
        vocab_size: int = 256,
        hidden_size: int = 64,
        num_hidden_layers: int = 2,
        num_heads: int = 4,
        num_kv_heads: int | None = None,
        head_dim: int | None = None,
        ffn_size: int | None = None,
        rope_theta: float = 10_000.0,
        norm_eps: float = 1e-6,
        mixer: Names = "attention",
        ffn: Names = "swiglu",
        side: Names = "none",
        short_conv: int = 0,
        block: Mapping[str, Mapping[str, Any]] | None = None,
        tie_word_embeddings: bool = True,
        use_cache: bool = True,
        **more: Any,
    ) -> None:
        counts = {
            "vocab_size": vocab_size,
            "hidden_size": hidden_size,
            "num_hidden_layers": num_hidden_layers,
            "num_heads": num_heads,
            "num_kv_heads": num_heads if num_kv_heads is None else num_kv_heads,
        }
        for name, count in counts.items():
            if isinstance(count, bool) or not isinstance(count, int) or count < 1:
                raise InvalidInput(f"{name}={count!r}: give a whole number from 1")
        if counts["num_heads"] % counts["num_kv_heads"]:
            raise InvalidInput(f"num_heads={num_heads} must be a multiple of num_kv_heads={num_kv_heads}")
        if head_dim is None and hidden_size % num_heads:
            raise InvalidInput(f"hidden_size={hidden_size} is no multiple of num_heads={num_heads}: give head_dim")
        if isinstance(short_conv, bool) or short_conv < 0:
            raise InvalidInput(f"short_conv={short_conv!r}: give the taps of the convolution, or 0 for none")
        for name, count in counts.items():
            setattr(self, name, count)
        self.head_dim = hidden_size // num_heads if head_dim is None else head_dim
        self.ffn_size = max(8, round(hidden_size / 3) * 8) if ffn_size is None else ffn_size
        self.rope_theta, self.norm_eps = rope_theta, norm_eps
        self.mixer, self.ffn, self.side, self.short_conv = mixer, ffn, side, short_conv
        self.block = {name: dict(settings) for name, settings in (block or {}).items()}
        self.use_cache = use_cache
        super().__init__(**{"tie_word_embeddings": tie_word_embeddings} | more)

    def name_of(self, slot: str, layer: int) -> str:
        """What stands in ``slot`` ("mixer", "ffn", "side") of a layer."""
        names: Names = getattr(self, slot)
        return names if isinstance(names, str) else names[layer % len(names)]

    def settings_of(self, name: str) -> dict[str, Any]:
        """The settings of blocks of this name."""
        return dict(self.block.get(name, {}))
