"""What is upcycled begins as what it came from: exactly where it can, nearly where it cannot."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from lamina.errors import InvalidInput
from lamina.nn.config import LaminaConfig
from lamina.nn.decoder import LaminaForCausalLM
from lamina.nn.mixed_memories import MoM
from lamina.nn.routing.upcycling import upcycle

SIZES: dict[str, Any] = {"heads": 2, "key_dim": 6, "value_dim": 8}


def _config(mixer: str = "gated_delta", settings: dict[str, Any] | None = None, **more: Any) -> LaminaConfig:
    sizes = {"vocab_size": 30, "hidden_size": 16, "num_hidden_layers": 2, "num_heads": 2, "ffn_size": 24}
    return LaminaConfig(**sizes | more, mixer=mixer, block={mixer: SIZES | (settings or {})})


@pytest.fixture
def single() -> LaminaForCausalLM:
    torch.manual_seed(0)
    model = LaminaForCausalLM(_config()).eval().double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.5).add_(0.1 * torch.randn_like(parameter))
    return model


def _logits(model: LaminaForCausalLM) -> Tensor:
    ids = torch.randint(0, 30, (3, 40), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        found: Tensor = model(ids, use_cache=False).logits
    return found


@pytest.mark.parametrize(
    "settings",
    [
        {"memories": 1, "top_k": 1, "shared": False},
        {"memories": 3, "top_k": 3, "shared": False},
        {"memories": 3, "top_k": 3, "shared": False, "scope": "stream"},
        {"memories": 3, "top_k": 3, "one_projection": True},
        {"memories": 4, "top_k": 4},
    ],
)
def test_memories_that_see_every_token_say_what_the_single_state_says(
    single: LaminaForCausalLM, settings: dict[str, Any]
) -> None:
    """Equal memories mixed by shares of sum 1 are one of them; with the shared one they are twice that, and the norm
    of the output takes the two away."""
    mixed = upcycle(single, _config("mom", settings))
    if settings.get("shared", True):
        for layer in (*mixed.model.layers, *single.model.layers):
            layer.mixer.norm.eps = 1e-15  # or it would tell twice as much from once
    torch.testing.assert_close(_logits(mixed), _logits(single), rtol=1e-8, atol=1e-8)
    assert not mixed.training


def test_memories_begin_alike_and_their_router_anew(single: LaminaForCausalLM) -> None:
    mixed = upcycle(single, _config("mom", {"memories": 3, "top_k": 2}))
    for layer in mixed.model.layers:
        mom = layer.mixer
        assert isinstance(mom, MoM) and mom.common is not None
        assert torch.equal(mom.routed.weight, mom.common.weight.expand(3, -1, -1))
        assert mom.router.weight.std() > 0.1
    assert mixed.model.layers[0].mixer.query.weight.data_ptr() != single.model.layers[0].mixer.query.weight.data_ptr()


@pytest.mark.parametrize("settings", [{"value_dim": 24}, {"key_dim": 18}, {"key_dim": 7, "value_dim": 9}])
def test_wider_ones_begin_near_it(single: LaminaForCausalLM, settings: dict[str, Any]) -> None:
    wide = upcycle(single, _config("gated_delta", settings))
    one, other = _logits(single), _logits(wide)
    assert not torch.equal(one, other)
    assert float((one - other).std() / one.std()) < 0.7
    torch.manual_seed(5)
    fresh = LaminaForCausalLM(_config("gated_delta", settings)).eval().double()
    fresh.model.embed_tokens.load_state_dict(single.model.embed_tokens.state_dict())
    assert float((one - other).std()) < 0.5 * float((one - _logits(fresh)).std())
    same = upcycle(single, _config())
    torch.testing.assert_close(_logits(same), one)


def test_old_channels_stand_first_in_each_head(single: LaminaForCausalLM) -> None:
    wide = upcycle(single, _config("gated_delta", {"key_dim": 10, "value_dim": 24}))
    old, new = single.model.layers[1].mixer, wide.model.layers[1].mixer
    for head in range(2):
        for name, narrow, many in (("query", 6, 10), ("key", 6, 10), ("value", 8, 24), ("gate", 8, 24)):
            before, after = getattr(old, name).weight, getattr(new, name).weight
            torch.testing.assert_close(
                after[head * many : head * many + narrow], before[head * narrow : (head + 1) * narrow]
            )
        torch.testing.assert_close(
            new.out.weight[:, head * 24 : head * 24 + 8], old.out.weight[:, head * 8 : (head + 1) * 8]
        )
        for before, after, narrow, many in ((0, 0, 6, 10), (12, 20, 6, 10), (24, 40, 8, 24)):
            torch.testing.assert_close(
                new.conv.conv.weight[after + head * many : after + head * many + narrow],
                old.conv.conv.weight[before + head * narrow : before + (head + 1) * narrow],
            )


@pytest.mark.parametrize(
    ("config", "told"),
    [
        (lambda: LaminaConfig(30, 16, 2, 2), "GatedDelta to Attention"),
        (lambda: _config(num_hidden_layers=3), "num_hidden_layers=3: the model to begin from has 2"),
        (lambda: _config("mom", {"value_dim": 5}), "norm has shape"),
        (lambda: _config("mom", {"key_dim": 5}), "query has shape"),
        (lambda: _config("mom", {"taps": 0}), "taps"),
        (lambda: _config("gated_delta", {"taps": 2}), "taps"),
        (lambda: _config("gated_delta", {"heads": 1}), "heads=1"),
        (lambda: _config("gated_delta", {"key_dim": 5}), "key_dim=5"),
        (lambda: _config("mom", ffn_size=16), "ffn.gate.weight has shape"),
        (lambda: _config("mom", vocab_size=31), "embed_tokens.weight has shape"),
    ],
)
def test_what_does_not_fit_is_told(single: LaminaForCausalLM, config: Any, told: str) -> None:
    with pytest.raises(InvalidInput, match=told):
        upcycle(single, config())
