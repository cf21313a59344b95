"""Synaptic Resonance beside the attention of a model that was trained without it."""

from __future__ import annotations

import pytest
import torch

from lamina.errors import InvalidInput
from lamina.nn.config import LaminaConfig
from lamina.nn.decoder import LaminaForCausalLM
from lamina.nn.plasticity.retrofit import retrofit


def _model(**more: object) -> LaminaForCausalLM:
    torch.manual_seed(0)
    config = LaminaConfig(40, 24, 3, 3, **{"num_kv_heads": 1, "short_conv": 3, **more})  # type: ignore[arg-type]
    return LaminaForCausalLM(config).eval()


@pytest.mark.parametrize("tied", [True, False])
def test_it_begins_as_the_model_it_was(tied: bool) -> None:
    old = _model(tie_word_embeddings=tied).double()
    new = retrofit(old, {0, 2}, 9, rule="hebb", key_dim=5)
    assert new.config.mixer == ["synaptic_resonance", "attention", "synaptic_resonance"]
    ids = torch.randint(0, 40, (2, 20), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert torch.equal(new(ids[:, :9]).logits, old(ids[:, :9]).logits)
        windowed = LaminaForCausalLM(
            LaminaConfig(**old.config.to_dict() | {"block": {"attention": {"window": 9}}})
        ).double()
        windowed.load_state_dict(old.state_dict())
        middle = windowed.model.layers[1].mixer
        middle.window = None
        torch.testing.assert_close(new(ids).logits, windowed.eval()(ids).logits)
        new.model.layers[0].mixer.scale.fill_(1.0)
        assert not torch.allclose(new(ids[:, :9]).logits, old(ids[:, :9]).logits)


def test_old_weights_are_copied_and_not_shared() -> None:
    old = _model()
    new = retrofit(old, [1], 4)
    before = old.model.layers[1].mixer.query.weight.clone()
    with torch.no_grad():
        new.model.layers[1].mixer.attention.query.weight.add_(1)
    assert torch.equal(old.model.layers[1].mixer.query.weight, before)


@pytest.mark.parametrize("layers", [[3], [-1], [0, 1]])
def test_layers_that_cannot_be_are_named(layers: list[int]) -> None:
    with pytest.raises(InvalidInput, match="layers="):
        retrofit(_model(mixer=["attention", "gated_delta"]), layers, 4)
