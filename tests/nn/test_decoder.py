"""The trunk: attention against its definition, windows and what they keep, losses, costs, wrong configurations."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lamina.errors import InvalidInput
from lamina.nn import costs
from lamina.nn.attention import Attention, rotate
from lamina.nn.config import LaminaConfig
from lamina.nn.context import DecodingCache, whole
from lamina.nn.decoder import LaminaForCausalLM

SMALL: dict[str, Any] = {"vocab_size": 30, "hidden_size": 16, "num_hidden_layers": 2, "num_heads": 4, "num_kv_heads": 2}


def _reference(layer: Attention, x: Tensor, window: int | None) -> Tensor:
    """Head by head and query by query."""
    batch, time, _ = x.shape
    size, group = layer.head_dim, layer.heads // layer.kv_heads
    angles = torch.arange(time, dtype=torch.float64)[:, None] * 10_000.0 ** (-torch.arange(size // 2) / (size / 2))

    def turned(heads: Tensor) -> Tensor:
        pairs = torch.complex(heads[..., : size // 2], heads[..., size // 2 :]) * torch.polar(
            torch.ones_like(angles), angles
        )
        return torch.cat([pairs.real, pairs.imag], dim=-1)

    out = torch.zeros(batch, time, layer.heads * size, dtype=x.dtype)
    for head in range(layer.heads):
        own, shared = slice(head * size, (head + 1) * size), slice(head // group * size, (head // group + 1) * size)
        q, k = turned(layer.query(x)[..., own]), turned(layer.key(x)[..., shared])
        v = layer.value(x)[..., shared]
        for t in range(time):
            first = 0 if window is None else max(0, t - window + 1)
            scores = (k[:, first : t + 1] @ q[:, t, :, None])[..., 0] / size**0.5
            out[:, t, own] = (scores.softmax(-1)[:, None] @ v[:, first : t + 1])[:, 0]
    found: Tensor = layer.out(out)
    return found


@pytest.mark.parametrize("window", [None, 1, 3, 20])
def test_attention_is_its_definition(window: int | None) -> None:
    torch.manual_seed(0)
    layer = Attention(LaminaConfig(**SMALL), window=window).double()
    x = torch.randn(2, 9, 16, dtype=torch.float64)
    torch.testing.assert_close(layer(x, whole(x[..., 0])), _reference(layer, x, window), rtol=1e-9, atol=1e-9)


def test_turning_keeps_lengths_and_sees_distances_alone() -> None:
    x, y = torch.randn(2, 1, 1, 1, 8, dtype=torch.float64)

    def met(first: int, second: int) -> Tensor:
        return (rotate(x, torch.tensor([[first]]), 1e4) * rotate(y, torch.tensor([[second]]), 1e4)).sum()

    torch.testing.assert_close(met(5, 2), met(903, 900))
    torch.testing.assert_close(rotate(x, torch.tensor([[7]]), 1e4).norm(), x.norm())


def test_a_window_keeps_what_it_may_still_see() -> None:
    torch.manual_seed(0)
    model = LaminaForCausalLM(LaminaConfig(**SMALL, block={"attention": {"window": 4}})).eval()
    cache, layer = DecodingCache(2), model.model.layers[0].mixer
    assert isinstance(layer, Attention)
    for time in range(1, 12):
        model(torch.randint(0, 30, (2, 1)), past_key_values=cache)
        assert cache.nbytes == 2 * 2 * layer.state_bytes(time)  # rows, layers
    assert layer.state_bytes(3) == layer.state_bytes(900) and Attention(LaminaConfig(**SMALL)).state_bytes(5) == 5 * 73


def test_questions_are_asked_where_labels_stand() -> None:
    torch.manual_seed(0)
    model = LaminaForCausalLM(LaminaConfig(**SMALL)).eval()
    ids = torch.randint(0, 30, (2, 7))
    labels = ids.clone()
    labels[0, :4] = -100
    out = model(ids, labels=labels)
    moved = F.cross_entropy(out.logits[:, :-1].reshape(-1, 30), labels[:, 1:].reshape(-1), ignore_index=-100)
    torch.testing.assert_close(out.loss, moved)
    asked = torch.full_like(ids, -100)
    asked[1, 2] = 9
    torch.testing.assert_close(
        model(ids, shift_labels=asked).loss, F.cross_entropy(out.logits[1, 2:3], torch.tensor([9]))
    )
    trained = model.train()(ids, labels=labels)
    torch.testing.assert_close(trained.loss, out.loss)
    assert trained.logits is None and trained.past_key_values is None
    assert model.eval()(ids, logits_to_keep=2).logits.shape == (2, 2, 30)


def test_costs_are_those_of_the_matrices() -> None:
    config = LaminaConfig(**SMALL, ffn_size=24, short_conv=4)
    model = LaminaForCausalLM(config)
    block = 16 * 16 + 2 * 16 * 8 + 16 * 16 + 3 * 16 * 24
    read = 2 * 4 * (block + 2 * 16 + 4 * 16) + 4 * 16 + 4 * 16 + 4 * 30 * 16  # norms, conv, last norm, a row, the head
    assert costs.bytes_read_per_token(model) == read
    assert costs.stored_bytes(model) == read - 4 * 16
    seen = (1 + 2 + 3 + 4 + 5) / 5
    assert costs.macs_per_token(model, 5) == 2 * (block + 4 * 16 + int(2 * 16 * seen)) + 30 * 16
    assert costs.macs_per_token(nn.Linear(3, 5), 1) == 15


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"hidden_size": 0}, "hidden_size=0"),
        ({"num_kv_heads": 3}, "num_heads=4 must be a multiple of num_kv_heads=3"),
        ({"hidden_size": 18}, "give head_dim"),
        ({"vocab_size": True}, "vocab_size=True"),
        ({"short_conv": -1}, "short_conv=-1"),
        ({"mixer": "nothing"}, "mixer='nothing': there are attention"),
        ({"ffn": "nothing"}, "there are swiglu, .*none"),
        ({"block": {"attention": {"windows": 3}}}, "windows"),
        ({"block": {"attention": {"window": 0}}}, "window=0"),
        ({"head_dim": 5}, "head_dim=5 is odd"),
        ({"mixer": "gated_delta", "block": {"gated_delta": {"heads": 0}}}, "heads=0"),
    ],
)
def test_what_does_not_fit_is_told(wrong: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidInput, match=told):
        LaminaForCausalLM(LaminaConfig(**SMALL | wrong))


@pytest.mark.parametrize("layers", [2, 8])
def test_what_joins_the_stream_begins_smaller_the_deeper_the_model(layers: int) -> None:
    torch.manual_seed(0)
    model = LaminaForCausalLM(LaminaConfig(vocab_size=9, hidden_size=64, num_hidden_layers=layers))
    block = model.model.layers[0]
    for joins, inside in ((block.mixer.out, block.mixer.query), (block.ffn.down, block.ffn.gate)):
        sizes = [float((each.weight.detach() * each.in_features**0.5).std()) for each in (joins, inside)]
        assert sizes == pytest.approx([(2 * layers) ** -0.5, 1.0], rel=0.05)


def test_layers_take_their_names_from_a_list() -> None:
    model = LaminaForCausalLM(
        LaminaConfig(**SMALL | {"num_hidden_layers": 3}, mixer=["gated_delta", "attention"], ffn="none")
    )
    assert [type(layer.mixer).__name__ for layer in model.model.layers] == ["GatedDelta", "Attention", "GatedDelta"]
    assert all(layer.ffn is None and layer.norm_ffn is None for layer in model.model.layers)


def test_a_cache_of_other_rows_and_a_mask_that_is_too_short_are_told() -> None:
    model = LaminaForCausalLM(LaminaConfig(**SMALL)).eval()
    cache = model(torch.zeros(2, 3, dtype=torch.long)).past_key_values
    with pytest.raises(InvalidInput, match="holds 2 rows and 1 are given"):
        model(torch.zeros(1, 1, dtype=torch.long), past_key_values=cache)
    with pytest.raises(InvalidInput, match=r"attention_mask has shape \(2, 2\)"):
        model(torch.zeros(2, 3, dtype=torch.long), attention_mask=torch.ones(2, 2))
    with pytest.raises(InvalidInput, match="cut back"):
        cache.crop(1)
    cache.reset()
    assert cache.nbytes == 0 and cache.get_seq_length() == 0
