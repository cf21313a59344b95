"""How a memory layer begins, and what it asks of training beside the prediction."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from lamina.nn import memory_beginning as beginning
from lamina.nn.config import LaminaConfig
from lamina.nn.context import whole
from lamina.nn.decoder import LaminaForCausalLM
from lamina.nn.memory_layer import UltraMemV2


def _config(width: int, layers: int, **more: Any) -> LaminaConfig:
    return LaminaConfig(vocab_size=20, hidden_size=width, num_hidden_layers=layers, num_heads=2, **more)


def _training(**settings: Any) -> UltraMemV2:
    torch.manual_seed(0)
    layer = UltraMemV2(_config(8, 2), num_keys=6, top_m=5, **settings)
    with torch.no_grad():
        layer.init_weights(_config(8, 2))
    return layer.double().train()


def _x(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.mark.parametrize("layers", [2, 12, 24])
@pytest.mark.parametrize(("width", "inner"), [(32, 64), (64, 256), (256, 704)])
def test_its_output_begins_as_large_as_the_feed_forward_blocks(layers: int, width: int, inner: int) -> None:
    config = _config(width, layers, ffn_size=inner, side="ultramem_v2")
    torch.manual_seed(layers)
    block = LaminaForCausalLM(config).model.layers[1].eval()
    z = _x(4, 64, width).float()
    with torch.no_grad():
        ctx = whole(z[..., 0])
        ratio = float(block.side(z, ctx).std() / block.ffn(z, ctx).std())
    assert 0.5 <= ratio <= 2, ratio
    assert 0.5 <= float(ctx.stats["0.ultramem_v2.score"]) <= 2


def test_the_spread_is_the_papers_where_the_feed_forward_block_is_the_papers() -> None:
    width, inner, layers, m, value, pre, squares = 768, 4992, 20, 32, 192, 192, 1.7
    papers = (0.2 * (inner / width) * width / (m * squares * pre * value * layers)) ** 0.25
    target = 0.064 * (inner / width) / (2 * layers)
    assert beginning.value_spread(target, width, m, value, pre, squares) == pytest.approx(papers, rel=1e-12)


def test_auxiliary_losses_are_asked_of_training_alone_and_are_off_by_themselves() -> None:
    x = _x(2, 9, 8)
    for settings, expected in (({}, 0), ({"balance": 0.5}, 2), ({"penalty": 0.5, "balance": 0.5}, 3)):
        layer = _training(**settings)
        ctx = whole(x[..., 0])
        layer(x, ctx)
        assert len(ctx.aux) == expected
        layer.eval()(x, ctx)
        assert len(ctx.aux) == expected
    layer = _training(penalty=2.0, tucker_rank=3)
    ctx = whole(x[..., 0])
    layer(x, ctx)
    lesser = torch.linalg.svdvals(layer.core.sum(0))[1:]
    assert ctx.aux[0].item() == pytest.approx(2 / 2 * (lesser - 0.15).clamp(min=0).square().sum().item(), rel=1e-5)
    even = _training(balance=1.0)
    with torch.no_grad():
        even.query.weight.zero_()  # all keys score alike: chances are even, whatever is picked
    ctx = whole(x[..., 0])
    even(x, ctx)
    assert [each.item() for each in ctx.aux] == pytest.approx([1.0, 1.0])
