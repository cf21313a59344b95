"""Rotary positions against transformers' own rotation, and the inverse against nothing but itself."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from lamina.errors import InvalidInput
from lamina.tensors.rotary import Rotary

SCALINGS = [
    {"rope_type": "default", "rope_theta": 1e4},
    {"rope_type": "linear", "rope_theta": 1e4, "factor": 4.0},
    {"rope_type": "yarn", "rope_theta": 1e4, "factor": 8.0, "original_max_position_embeddings": 256},
    {
        "rope_type": "llama3",
        "rope_theta": 5e5,
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 256,
    },
]


def llama(rope: dict[str, object]) -> LlamaForCausalLM:
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=64,
            hidden_size=64,
            intermediate_size=32,
            num_hidden_layers=1,
            num_attention_heads=4,
            rope_parameters=rope,
            max_position_embeddings=2048,
        )
    )


@pytest.mark.parametrize("rope", SCALINGS, ids=lambda rope: str(rope["rope_type"]))
def test_rotation_is_transformers_own_to_the_bit_and_is_undone(rope: dict[str, object]) -> None:
    model = llama(rope)
    rotary = Rotary.of(model)
    torch.manual_seed(0)
    x, at = torch.randn(1, 2, 40, 16), torch.arange(900, 940)
    cos, sin = model.model.rotary_emb(x, at[None])
    _, expected = apply_rotary_pos_emb(x, x, cos, sin)
    assert torch.equal(rotary.rotate(x, at), expected)
    torch.testing.assert_close(rotary.unrotate(expected, at), x, atol=2e-6, rtol=0)


def test_a_moved_key_is_the_key_computed_at_its_new_place() -> None:
    rotary = Rotary.of(llama(SCALINGS[2]))
    x, old = torch.randn(2, 7, 16, dtype=torch.float64), torch.arange(7)
    moved = rotary.move(rotary.rotate(x, old), old, old + 500)
    torch.testing.assert_close(moved, rotary.rotate(x, old + 500), atol=1e-12, rtol=0)


@given(
    position=st.integers(0, 200_000),
    theta=st.floats(100.0, 1e7),
    scaling=st.floats(0.5, 2.0),
    half=st.integers(1, 16),
    rest=st.integers(0, 5),
    seed=st.integers(0, 2**31),
)
def test_the_inverse_is_exact(position: int, theta: float, scaling: float, half: int, rest: int, seed: int) -> None:
    rotary = Rotary(theta ** (-torch.arange(half) / half), scaling)
    x = torch.randn(3, 1, 2 * half + rest, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    at = torch.tensor([position])
    turned = rotary.rotate(x, at)
    torch.testing.assert_close(rotary.unrotate(turned, at), x, atol=1e-13, rtol=0)
    torch.testing.assert_close(rotary.unrotate(turned.float(), at).double(), x, atol=4e-6, rtol=0)
    assert torch.equal(turned[..., 2 * half :], x[..., 2 * half :])


def test_what_cannot_be_undone_is_refused() -> None:
    with pytest.raises(InvalidInput, match="GPT2LMHeadModel has no rotary embedding"):
        Rotary.of(GPT2LMHeadModel(GPT2Config(vocab_size=8, n_embd=8, n_layer=1, n_head=1)))
    with pytest.raises(InvalidInput, match="'dynamic' rotary embedding"):
        Rotary.of(llama({"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}))
    with pytest.raises(InvalidInput, match="at least 4 channels"):
        Rotary(torch.ones(2)).rotate(torch.ones(1, 3), torch.arange(1))
    with pytest.raises(InvalidInput, match="2 positions"):
        Rotary(torch.ones(2)).rotate(torch.ones(3, 4), torch.arange(2))
