"""A Llama of transformers, small enough to be taught within a card: the backbone that memories are put around."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamina._optional import require

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM


def small_llama(
    vocabulary: int,
    *,
    width: int = 128,
    layers: int = 4,
    heads: int = 4,
    kv_heads: int | None = None,
    positions: int = 2048,
    seed: int = 0,
) -> LlamaForCausalLM:
    """Untrained, float32, feed-forward of 8/3 the width, input and output embeddings shared."""
    torch = require("torch", "a small language model")
    transformers = require("transformers", "a small language model")
    config = transformers.LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=round(width * 8 / 3 / 32) * 32,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads or heads,
        max_position_embeddings=positions,
        tie_word_embeddings=True,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: LlamaForCausalLM = transformers.LlamaForCausalLM(config)
    return model
