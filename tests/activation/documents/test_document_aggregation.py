"""What becomes of the memories found: both aggregators against loops over plain float64 arrays; gradients checked."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lamina.activation.documents import objective
from lamina.activation.documents.aggregation import HEADS, CrossAttention, weighted_sum
from lamina.activation.documents.compressor import Compressor
from lamina.bench.experiments.documents.document_language import reader

Array = NDArray[np.float64]
PLACES = torch.tensor([[0, 2, 4], [1, 2, 3]])
WEIGHTS = torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.0, 0.9]], dtype=torch.float64)


def _memories(width: int) -> Tensor:
    return torch.randn(5, 2, width, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def _attention(width: int = 16) -> CrossAttention:
    """Any weights but the initial ones, under which it is the weighted sum."""
    torch.manual_seed(0)
    made = CrossAttention(2, width, 0.7).double()
    for parameter in made.parameters():
        parameter.data += 0.2 * torch.randn_like(parameter)
    return made


def _array(tensor: Tensor) -> Array:
    found: Array = tensor.detach().double().numpy()
    return found


def _normal(x: Array, layer: nn.Module) -> Array:
    weight, bias = (_array(parameter) for parameter in layer.parameters())
    found: Array = (x - x.mean()) / math.sqrt(x.var() + 1e-5) * weight + bias
    return found


def _softmax(scores: list[float]) -> list[float]:
    powers = [math.exp(score - max(scores)) for score in scores]
    return [power / sum(powers) for power in powers]


def _attend(block: nn.Module, x: Array, tokens: list[Array], bias: list[float]) -> Array:
    """One question token through the attention of a block, head by head and token by token."""
    query = _array(block.query.weight) @ _normal(x, block.ask)  # type: ignore[operator,arg-type,union-attr]
    both = [_array(block.key_value.weight) @ _normal(token, block.look) for token in tokens]  # type: ignore[operator,arg-type,union-attr]
    inner = len(query)
    size = inner // HEADS
    found = np.zeros(inner)
    for head in range(HEADS):
        part = slice(head * size, (head + 1) * size)
        scores = [float(query[part] @ y[:inner][part]) / math.sqrt(size) + b for y, b in zip(both, bias, strict=True)]
        for share, y in zip(_softmax(scores), both, strict=True):
            found[part] += share * y[inner:][part]
    return x + _array(block.out.weight) @ found  # type: ignore[operator,arg-type,union-attr]


def _think(block: nn.Module, x: Array) -> Array:
    normal, up, _, down = block.think  # type: ignore[misc]
    hidden = _array(up.weight) @ _normal(x, normal) + _array(up.bias)
    hidden = np.array([y * 0.5 * (1 + math.erf(y / math.sqrt(2))) for y in hidden])
    found: Array = x + _array(down.weight) @ hidden + _array(down.bias)
    return found


def test_a_weighted_sum_is_one() -> None:
    memories = _memories(3)
    found = weighted_sum(memories, PLACES, WEIGHTS)
    for n in range(2):
        wanted = sum(float(w) * memories[p] for p, w in zip(PLACES[n].tolist(), WEIGHTS[n], strict=True))
        torch.testing.assert_close(found[n], wanted, rtol=1e-12, atol=1e-12)


def test_question_tokens_attend_to_all_tokens_of_the_chosen_and_heavier_memories_count_more() -> None:
    made, memories = _attention(), _memories(16)
    asked = torch.randn(2, 2, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    found = made(asked, memories, PLACES, WEIGHTS)
    for n in range(2):
        tokens = [_array(memories[place, t]) for place in PLACES[n].tolist() for t in range(2)]
        bias = [math.log(max(float(weight), 1e-6)) for weight in WEIGHTS[n] for _ in range(2)]
        for t in range(2):
            x = _array(asked[n, t])
            for block in made.blocks:
                x = _think(block, _attend(block, x, tokens, bias))
            gathered = _array(made.out.weight) @ _normal(x, made.normal)
            wanted = _array(weighted_sum(memories, PLACES, WEIGHTS)[n, t]) + 0.7 * gathered
            np.testing.assert_allclose(_array(found[n, t]), wanted, rtol=1e-9, atol=1e-9)


def test_a_new_one_is_the_weighted_sum() -> None:
    torch.manual_seed(0)
    made, memories, weights = CrossAttention(2, 12, 1.0), _memories(12).float(), WEIGHTS.float()
    found = made(torch.randn(2, 2, 12), memories, PLACES, weights)
    assert torch.equal(found, weighted_sum(memories, PLACES, weights))


def test_the_order_of_the_chosen_does_not_matter() -> None:
    made, memories, asked = _attention(), _memories(16), torch.randn(2, 2, 16, dtype=torch.float64)
    back = torch.tensor([2, 0, 1])
    one, two = made(asked, memories, PLACES, WEIGHTS), made(asked, memories, PLACES[:, back], WEIGHTS[:, back])
    torch.testing.assert_close(one, two, rtol=1e-10, atol=1e-10)


def test_gradients_are_those_of_finite_differences_and_finite_at_weight_0() -> None:
    made, memories = _attention(8), _memories(8).requires_grad_()
    asked = torch.randn(1, 2, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1), requires_grad=True)
    scores = torch.tensor([[0.3, -0.2, 0.1]], dtype=torch.float64, requires_grad=True)
    torch.autograd.gradcheck(lambda a, m, s: made(a, m, PLACES[:1], s.softmax(1)), (asked, memories, scores))
    weights = WEIGHTS.clone().requires_grad_()
    made(asked.expand(2, 2, 8), memories, PLACES, weights).sum().backward()
    assert weights.grad is not None
    assert bool(weights.grad.isfinite().all())


@pytest.mark.parametrize("aggregate", ["weighted", "cross_attention"])
def test_a_memory_given_is_one_found_alone(aggregate: str) -> None:
    lm = reader(0, width=32, layers=2)
    compressor = Compressor(lm, tokens=2, rank=4, key_dim=8, aggregate=aggregate)  # type: ignore[arg-type]
    for parameter in compressor.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        asked, memories = compressor.ask([[1, 2], [3]]), _memories(32).float()
        own = compressor.own(asked, memories, torch.tensor([4, 1]))
        for n, place in enumerate((4, 1)):
            scores = torch.full((2, 5), -9.0).index_fill(1, torch.tensor([place]), 9.0)
            alone = compressor.combine(asked, memories, *objective.choose(scores, 1))
            torch.testing.assert_close(own[n], alone[n], rtol=1e-5, atol=1e-5)
        assert torch.allclose(own[0], memories[4]) == (aggregate == "weighted")
