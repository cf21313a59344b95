"""A mixture of experts against its definition, token by token; its loss, its costs, its refusals."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lamina.errors import InvalidInput
from lamina.nn.config import LaminaConfig
from lamina.nn.context import whole
from lamina.nn.experts import MixtureOfExperts, balancing

CONFIG = LaminaConfig(hidden_size=6, num_heads=2, num_hidden_layers=1)


def _layer(**settings: Any) -> MixtureOfExperts:
    torch.manual_seed(0)
    layer = MixtureOfExperts(CONFIG, **{"experts": 5, "top_k": 2, "size": 3} | settings).double()
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter)
    return layer


def _token_by_token(layer: MixtureOfExperts, x: Tensor) -> Tensor:
    out = torch.zeros_like(x)
    for place in range(len(x)):
        chances = (layer.router.weight @ x[place]).softmax(0)
        best = sorted(range(len(chances)), key=lambda expert: -chances[expert].item())[: layer.top_k]
        for expert in best:
            inner = F.silu(layer.gate[expert] @ x[place]) * (layer.up[expert] @ x[place])
            out[place] += chances[expert] / chances[best].sum() * (layer.down[expert] @ inner)
    return out


@pytest.mark.parametrize("top_k", [1, 2, 5])
def test_each_token_reads_its_likeliest_experts(top_k: int) -> None:
    layer = _layer(top_k=top_k)
    x = torch.randn(3, 7, 6, dtype=torch.float64)
    ctx = whole(x[..., 0])
    found = layer(x, ctx)
    torch.testing.assert_close(found.view(-1, 6), _token_by_token(layer, x.view(-1, 6)))
    assert ctx.stats["0.experts"].shape == (21, top_k)


def test_padding_is_sent_to_nobody() -> None:
    layer, x = _layer().train(), torch.randn(2, 4, 6, dtype=torch.float64)
    ctx = whole(x[..., 0])
    ctx.mask[0, :3] = False
    found = layer(x, ctx)
    assert not found[0, :3].any() and ctx.stats["0.experts"].shape == (5, 2)
    alone = replace(whole(x[:1, 3:, 0]), aux=[])
    torch.testing.assert_close(found[:1, 3:], layer(x[:1, 3:], alone))
    none = replace(ctx, mask=torch.zeros(2, 4, dtype=torch.bool), aux=[])
    assert not layer(x, none).any() and not none.aux


def test_the_loss_is_least_where_all_are_used_alike() -> None:
    even = torch.full((8, 4), 0.25, dtype=torch.float64)
    chosen = torch.tensor([[0, 1], [2, 3]] * 4)
    torch.testing.assert_close(balancing(even, chosen), torch.tensor(2.0, dtype=torch.float64))
    one_sided = F.one_hot(torch.zeros(8, dtype=torch.long), 4).double()
    torch.testing.assert_close(balancing(one_sided, torch.zeros(8, 1, dtype=torch.long)), torch.tensor(4.0).double())
    layer, x = _layer(balance=0.5), torch.randn(1, 9, 6, dtype=torch.float64)
    ctx = whole(x[..., 0])
    layer.train()(x, ctx)
    (loss,) = ctx.aux
    loss.backward()
    assert layer.router.weight.grad is not None and layer.gate.grad is None


def test_gradients_are_right() -> None:
    layer = _layer()
    x = torch.randn(1, 4, 6, dtype=torch.float64, requires_grad=True)

    def said(given: Tensor) -> Tensor:
        found: Tensor = layer(given, whole(given[..., 0]))
        return found

    assert torch.autograd.gradcheck(said, (x,))


def test_a_token_pays_for_what_it_reads() -> None:
    layer = MixtureOfExperts(CONFIG, experts=10, top_k=3, size=4)
    assert layer.bytes_read_per_token() == 4 * (10 * 6 + 3 * 3 * 4 * 6)
    assert layer.macs_per_token(7) == 10 * 6 + 3 * 3 * 4 * 6


@pytest.mark.parametrize(
    ("wrong", "told"), [({"top_k": 6}, "top_k=6"), ({"top_k": 0}, "top_k=0"), ({"size": 0}, "size=0")]
)
def test_what_does_not_fit_is_told(wrong: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidInput, match=told):
        _layer(**wrong)
