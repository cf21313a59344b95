"""The models these tests read with: SmolLM2, and small random ones in float64, where equality is equality."""

from __future__ import annotations

import hashlib
import pydoc_data.topics
from functools import cache

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from lamina.activation.cache import KVCube
from lamina.llm.causal import CausalLM


@cache
def smollm2() -> CausalLM:
    return CausalLM.load()


@cache
def prose(count: int, skip: int = 0) -> list[int]:
    """Token ids of English."""
    return smollm2().encode(pydoc_data.topics.topics["assignment"])[skip : skip + count]


def tiny(seed: int = 0, dtype: torch.dtype = torch.float64, **changes: object) -> CausalLM:
    torch.manual_seed(seed)
    settings = {"vocab_size": 97, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3}
    settings |= {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 256}
    settings |= {"initializer_range": 0.3, "eos_token_id": 96} | changes
    return CausalLM(LlamaForCausalLM(LlamaConfig(**settings)).to(dtype).eval(), smollm2().tokenizer, "tiny")


def narrow(rank: int = 6, **changes: object) -> CausalLM:
    """A model whose keys (positions off) and values are of rank ``rank`` in every layer."""
    lm = tiny(**changes)
    for layer in lm.model.model.layers:
        for projection in (layer.self_attn.k_proj, layer.self_attn.v_proj):
            left, values, right = torch.linalg.svd(projection.weight.data, full_matrices=False)
            values[rank:] = 0
            projection.weight.data = left @ (values[:, None] * right)
    return lm


def numbers(count: int, seed: int = 0) -> list[int]:
    """Token ids for ``tiny``."""
    return torch.randint(0, 96, (count,), generator=torch.Generator().manual_seed(seed)).tolist()


def logits(lm: CausalLM, ids: list[int], cube: KVCube | None = None) -> torch.Tensor:
    """After each of ``ids``, read behind ``cube``."""
    with torch.no_grad():
        past = None if cube is None else cube.attach(lm)
        return lm.model(torch.tensor([ids]), past_key_values=past, use_cache=True).logits[0]


def contents(cube: KVCube) -> str:
    """Of every tensor, and how long each is."""
    digest = hashlib.sha256()
    for tensor in (*cube.keys, *cube.values, cube.logits):
        digest.update(str(tuple(tensor.shape)).encode())
        digest.update(tensor.contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()
