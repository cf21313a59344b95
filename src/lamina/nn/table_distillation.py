"""How much of a trained matrix tables can say: a probe, and not a way to convert a model.

For given inputs the codes are fixed, so that a ``MemoryLayer`` that says what a matrix says is a linear least squares
problem in its rows; it is solved table by table, each given the others, round after round. What remains on inputs that
were not fitted is large for most matrices: nothing makes their outputs a sum over the signs of a few channels. Tables
are taught with the model (MemoryFormer, arXiv 2411.12992), not put in afterwards.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lamina.errors import InvalidInput
from lamina.nn.table_linear import MemoryLayer, Score

_HELD_OUT = 4  # one input of so many is not fitted


@dataclass(frozen=True, slots=True, eq=False)
class Distilled:
    """``layer``, and the norm of what it says wrong over the norm of what the matrix says about its mean: on the inputs
    it was ``fitted`` to, and on those ``held_out``; 1 is what the mean alone would do."""

    layer: MemoryLayer
    fitted: float
    held_out: float


@torch.no_grad()
def distill_linear(
    linear: nn.Linear, inputs: Tensor, bits: int = 8, *, score: Score = "magnitude", rounds: int = 10
) -> Distilled:
    """The ``MemoryLayer`` that best says what ``linear`` says of ``inputs`` ``(count, in_features)``, of which each
    fourth is held out; they should be centred, as after a LayerNorm, many more than a table has rows.

    Raises ``InvalidInput`` for inputs of another shape or fewer than eight, no rounds, and as ``MemoryLayer`` does.
    """
    if inputs.dim() != 2 or inputs.shape[1] != linear.in_features or len(inputs) < 2 * _HELD_OUT:
        raise InvalidInput(
            f"inputs has shape {tuple(inputs.shape)}: give (count, {linear.in_features}), count from {2 * _HELD_OUT}"
        )
    if rounds < 1:
        raise InvalidInput(f"rounds={rounds!r}: give a whole number from 1")
    layer = MemoryLayer(linear.in_features, linear.out_features, bits, score).to(linear.weight)
    held = torch.arange(len(inputs), device=inputs.device) % _HELD_OUT == _HELD_OUT - 1
    said = linear(inputs)
    layer.tables.zero_()
    layer.bias.copy_(said[~held].mean(0))
    _fit(layer, inputs[~held], said[~held], rounds)
    fitted, held_out = (_error(layer(inputs[part]), said[part]) for part in (~held, held))
    return Distilled(layer, fitted, held_out)


def _fit(layer: MemoryLayer, inputs: Tensor, said: Tensor, rounds: int) -> None:
    rows, scores = layer.code(inputs)
    scores = scores.to(said.dtype)
    tables = layer.tables.view(layer.count, layer.rows, -1)
    weights = torch.zeros(layer.count, layer.rows, dtype=said.dtype, device=said.device)
    weights.scatter_add_(1, rows.T, scores.square().T)
    left = said - layer.bias
    for _ in range(rounds):
        for number, table in enumerate(tables):
            row, score = rows[:, number], scores[:, number, None]
            left += score * table[row]
            table.zero_().index_add_(0, row, score * left)
            table /= weights[number, :, None].clamp(min=torch.finfo(said.dtype).tiny)  # rows nobody reads stay zeros
            left -= score * table[row]


def _error(found: Tensor, said: Tensor) -> float:
    return float((found - said).norm() / (said - said.mean(0)).norm())
