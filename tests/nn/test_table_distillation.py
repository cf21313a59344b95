"""The probe: exact where tables can say all, the least squares solution elsewhere, and honest about what is left."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lamina.errors import InvalidInput
from lamina.nn.table_distillation import distill_linear
from lamina.nn.table_linear import MemoryLayer


def _matrix(inner: int, outer: int) -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(inner, outer).double()


def test_inputs_of_one_size_by_signs_alone_are_said_exactly() -> None:
    matrix = _matrix(12, 5)
    inputs = torch.randn(600, 12, dtype=torch.float64).sign()
    found = distill_linear(matrix, inputs, 3, rounds=200)
    assert found.fitted < 1e-6 and found.held_out < 1e-6
    torch.testing.assert_close(found.layer(inputs), matrix(inputs).detach(), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("score", ["magnitude", "probability"])
def test_it_is_the_least_squares_solution(score: str) -> None:
    matrix = _matrix(8, 3)
    inputs = torch.randn(400, 8, dtype=torch.float64)
    found = distill_linear(matrix, inputs, 2, score=score, rounds=300)  # type: ignore[arg-type]
    taught = inputs[torch.arange(400) % 4 != 3]
    rows, scores = MemoryLayer(8, 3, 2, score).code(taught)  # type: ignore[arg-type]
    design = torch.zeros(len(taught), 16, dtype=torch.float64)
    design.scatter_(1, rows + 4 * torch.arange(4), scores)
    said = matrix(taught).detach()
    best = design @ torch.linalg.lstsq(design, said - said.mean(0)).solution
    torch.testing.assert_close(found.layer(taught) - said.mean(0), best, atol=1e-6, rtol=1e-6)


def test_a_matrix_is_not_said_by_tables() -> None:
    matrix = _matrix(64, 16)
    found = distill_linear(matrix, torch.randn(8000, 64, dtype=torch.float64), 8)
    assert 0.2 < found.fitted < found.held_out < 1.1


def test_rows_that_nobody_reads_stay_empty() -> None:
    found = distill_linear(_matrix(8, 3), torch.rand(40, 8, dtype=torch.float64) + 0.1, 4)
    tables = found.layer.tables.view(2, 16, 3)
    assert not tables[:, :15].any() and tables[:, 15].any()


def test_what_does_not_fit_is_told() -> None:
    matrix = _matrix(8, 3)
    for inputs in (torch.zeros(9, 7), torch.zeros(7, 8), torch.zeros(2, 9, 8)):
        with pytest.raises(InvalidInput, match="inputs has shape"):
            distill_linear(matrix, inputs.double())
    with pytest.raises(InvalidInput, match="rounds=0"):
        distill_linear(matrix, torch.randn(9, 8).double(), rounds=0)
    with pytest.raises(InvalidInput, match="does not divide"):
        distill_linear(matrix, torch.randn(9, 8).double(), 3)
