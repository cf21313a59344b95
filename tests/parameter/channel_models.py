"""Tiny models of noise in float64 for exact comparisons of heads: a Llama with grouped queries, and a GPT-2."""

from __future__ import annotations

import torch
from parameter_models import cast
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerBase

from lamina.llm.causal import CausalLM

NAMES = ("llama", "gpt2")


def noise(name: str, tokenizer: PreTrainedTokenizerBase, *, layers: int = 3, width: int = 64) -> CausalLM:
    """4 heads of ``width / 4``; norms with gains (and shifts) that are not 1 (and 0), biases that are not 0."""
    torch.manual_seed(0)
    shape = {"vocab_size": 49152, "pad_token_id": 2, "eos_token_id": 2, "bos_token_id": 1}
    if name == "llama":
        config = LlamaConfig(
            hidden_size=width, intermediate_size=96, num_hidden_layers=layers, num_attention_heads=4,
            num_key_value_heads=2, initializer_range=0.2, attention_bias=True, tie_word_embeddings=True, **shape,
        )  # fmt: skip
        model = LlamaForCausalLM(config)
        for path, module in list(model.named_modules()):
            if path.endswith("norm"):  # transformers' own computes in float32 whatever the model is in
                model.set_submodule(path, torch.nn.RMSNorm(module.weight.shape[0], eps=config.rms_norm_eps))
    else:
        model = GPT2LMHeadModel(
            GPT2Config(n_embd=width, n_layer=layers, n_head=4, n_positions=256, initializer_range=0.2, **shape)
        )
    cast(model, torch.float64)
    with torch.no_grad():
        for path, weight in model.named_parameters():
            if weight.ndim == 1:
                weight.copy_(torch.randn(weight.shape, dtype=weight.dtype) * 0.3 + ("norm" in path or "ln_" in path))
    return CausalLM(model.train(False), tokenizer, name)
