"""A tiny random model with the real tokenizer and template, in float64."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from lamina.llm.causal import CausalLM
from lamina.zoo.models import folder


@pytest.fixture(scope="session")
def tiny_lm() -> Callable[..., CausalLM]:
    """A fresh model each call; ``seed`` and ``dtype`` make another one."""
    tokenizer = AutoTokenizer.from_pretrained(folder("smollm2"), local_files_only=True)

    def make(seed: int = 0, dtype: torch.dtype = torch.float64) -> CausalLM:
        torch.manual_seed(seed)
        config = LlamaConfig(
            vocab_size=49152, hidden_size=32, intermediate_size=48, num_hidden_layers=4, num_attention_heads=4,
            num_key_value_heads=2, eos_token_id=2, pad_token_id=2, max_position_embeddings=512,
            tie_word_embeddings=True,
        )  # fmt: skip
        return CausalLM(LlamaForCausalLM(config).to(dtype).eval(), tokenizer, f"tiny-{seed}")

    return make
