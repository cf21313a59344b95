"""A tiny random llama in float64 with SmolLM2's tokenizer, for exact comparisons; and text shared by these tests."""

from __future__ import annotations

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerBase

from lamina.llm.causal import CausalLM
from lamina.parameter.adapters import LoRA
from lamina.parameter.distillation import fresh

TARGETS = ("q_proj", "v_proj", "down_proj")
FACTS = ("Marta Quillfeather lives in Brindlemouth.", "Pavel Drost is allergic to hazelnuts.")


def tiny(tokenizer: PreTrainedTokenizerBase, seed: int = 0) -> CausalLM:
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=49152,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        eos_token_id=2,
        tie_word_embeddings=True,
    )
    model = LlamaForCausalLM(config)
    for name, module in list(model.named_modules()):
        if name.endswith("norm"):  # transformers' own computes in float32 whatever the model is in
            model.set_submodule(name, torch.nn.RMSNorm(module.weight.shape[0], eps=config.rms_norm_eps))
    cast(model, torch.float64)
    return CausalLM(model.train(False), tokenizer, f"tiny{seed}")


def cast(model: torch.nn.Module, dtype: torch.dtype) -> None:
    for weight in model.parameters():
        weight.data = weight.data.to(dtype)


def random_lora(lm: CausalLM, seed: int, *, rank: int = 3, targets: tuple[str, ...] = TARGETS, cut: int = 0) -> LoRA:
    """An adapter that changes something: B is not zero."""
    generator = torch.Generator().manual_seed(seed)
    lora = fresh(lm, targets, rank, 5.0, generator, cut)
    with torch.no_grad():
        for _, up in lora.pairs.values():
            up.copy_(torch.randn(up.shape, generator=generator, dtype=up.dtype) * 0.3)
    return lora


def logits(lm: CausalLM, text: str = "The cat sat on the mat and said") -> torch.Tensor:
    with lm.lock, torch.no_grad():
        found: torch.Tensor = lm.model(torch.tensor([lm.encode(text)])).logits
    return found
