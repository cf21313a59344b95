"""Models whose cache is no plain rotated prefix are refused with the reason; the measured ones by measurement."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from kv_models import numbers, smollm2, tiny
from transformers import (
    CohereConfig,
    CohereForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
    Qwen3Config,
    Qwen3ForCausalLM,
    SmolLM3Config,
    SmolLM3ForCausalLM,
)

from lamina.activation.cache import KVCube
from lamina.activation.eligibility import layout
from lamina.errors import InvalidInput
from lamina.llm.causal import CausalLM

pytestmark = pytest.mark.model

SMALL = {"vocab_size": 97, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "pad_token_id": 0}
LLAMA = SMALL | {"intermediate_size": 48, "num_key_value_heads": 2, "head_dim": 8}


def of(model: PreTrainedModel) -> CausalLM:
    return CausalLM(model.eval(), smollm2().tokenizer, "small")


REFUSED: list[tuple[str, Callable[[], PreTrainedModel], str]] = [
    ("sliding", lambda: MistralForCausalLM(MistralConfig(**LLAMA, sliding_window=16)), "DynamicSlidingWindowLayer"),
    ("hybrid", lambda: Gemma2ForCausalLM(Gemma2Config(**LLAMA)), "DynamicSlidingWindowLayer"),
    ("recurrent", lambda: MambaForCausalLM(MambaConfig(**SMALL, state_size=4)), "a recurrent state"),
    ("learned", lambda: GPT2LMHeadModel(GPT2Config(vocab_size=97, n_embd=32, n_layer=1, n_head=2)), "no rotary"),
    ("interleaved", lambda: CohereForCausalLM(CohereConfig(**LLAMA)), "layer 0 carry positions in another way"),
    ("no positions", lambda: SmolLM3ForCausalLM(SmolLM3Config(**LLAMA, no_rope_layers=[1, 0])), "keys of layer 1"),
]


@pytest.mark.parametrize(("make", "reason"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED])
def test_refused_with_the_reason(make: Callable[[], PreTrainedModel], reason: str) -> None:
    torch.manual_seed(0)
    with pytest.raises(InvalidInput, match=f"cannot be kept as memory.*{reason}") as caught:
        KVCube.build(of(make()), numbers(10))
    assert caught.value.code == "UNSUPPORTED_MODEL"


def test_a_model_set_to_a_quantised_cache_is_refused() -> None:
    lm = tiny()
    lm.model.generation_config.cache_implementation = "quantized"
    with pytest.raises(InvalidInput, match="decode with a 'quantized' cache"):
        layout(lm)


def test_partly_rotated_and_normalised_keys_are_kept() -> None:
    torch.manual_seed(0)
    for model in (
        GPTNeoXForCausalLM(GPTNeoXConfig(**SMALL, intermediate_size=48, rotary_pct=0.5)),
        Qwen3ForCausalLM(Qwen3Config(**LLAMA)),
        MistralForCausalLM(MistralConfig(**LLAMA, sliding_window=None)),
    ):
        lm, ids = of(model.double()), numbers(30)
        cube = KVCube.from_payload(KVCube.build(lm, ids[:20]).to_payload(), lm)
        with torch.no_grad():
            whole = model(torch.tensor([ids])).logits[0, 20:]
            after = model(torch.tensor([ids[20:]]), past_key_values=cube.attach(lm)).logits[0]
        torch.testing.assert_close(after, whole, atol=1e-5, rtol=0)


def test_the_layout_counts_the_bytes_of_a_token() -> None:
    assert layout(smollm2()).bytes_per_token == 46_080
    assert layout(tiny()).layers == ((2, 16, 16),) * 3
    assert layout(tiny()).bytes_per_token == 3 * 2 * 2 * 16 * 8
    assert layout(tiny(dtype=torch.bfloat16)).bytes_per_token == 3 * 2 * 2 * 16 * 2
