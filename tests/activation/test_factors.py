"""Truncated SVD against torch's own, at once and row block by row block."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lamina.activation.budgeted.factors import alignment, factorise


def best(rows: torch.Tensor, rank: int) -> torch.Tensor:
    """Eckart and Young's, by torch."""
    left, values, right = torch.linalg.svd(rows, full_matrices=False)
    return left[..., :rank] @ (values[..., :rank, None] * right[..., :rank, :])


@settings(deadline=None)
@given(st.integers(1, 30), st.integers(1, 30), st.integers(1, 30), st.integers(0, 9))
def test_it_is_the_best_of_its_rank(count: int, width: int, rank: int, seed: int) -> None:
    rows = torch.randn(2, count, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    found, wanted = factorise(rows, rank), best(rows, rank)
    assert found.rank == min(rank, count, width)
    assert torch.allclose(found.dense(), wanted, atol=1e-9)
    assert torch.allclose(found.lost, (rows - wanted).square().sum((1, 2)), atol=1e-9)
    identity = found.basis @ found.basis.mT
    assert torch.allclose(identity, torch.eye(found.rank, dtype=torch.float64).expand_as(identity), atol=1e-9)


@settings(deadline=None)
@given(st.integers(1, 20), st.integers(1, 20), st.integers(1, 12), st.integers(1, 12), st.integers(0, 9))
def test_rows_behind_factors_are_the_best_of_both_together(
    first: int, then: int, width: int, rank: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(1, first + then, width, generator=generator, dtype=torch.float64)
    before = factorise(rows[:, :first], rank)
    found = factorise(rows[:, first:], rank, before)
    stack = torch.cat([before.dense(), rows[:, first:]], 1)
    assert torch.allclose(found.dense(), best(stack, rank), atol=1e-8)
    step = (found.dense() - stack).square().sum((1, 2))
    assert torch.allclose(found.lost, before.lost + step, atol=1e-8)
    assert torch.allclose(found.norm, rows.square().sum((1, 2)))


def test_of_a_matrix_without_length_everything_is_kept() -> None:
    found = factorise(torch.zeros(1, 3, 8), 2)
    assert found.dense().abs().max() == 0
    assert torch.isfinite(found.basis).all()


def test_alignment_sees_token_spaces_and_not_channels() -> None:
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randn(200, 5, generator=generator)
    one, two = (tokens @ torch.randn(5, 16, generator=generator) for _ in range(2))
    other = torch.randn(200, 16, generator=generator)
    turned = torch.linalg.qr(torch.randn(16, 16, generator=generator)).Q
    assert alignment(one, one @ turned) == pytest.approx(1, abs=1e-5)
    assert alignment(one, two) > 0.5 > 2 * alignment(one, other)


@settings(deadline=None)
@given(st.integers(2, 20), st.integers(2, 20), st.integers(1, 12), st.integers(1, 12), st.integers(0, 9))
def test_rows_that_stay_get_the_best_factors_of_their_own(
    count: int, width: int, rank: int, less: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    before = factorise(torch.randn(2, count, width, generator=generator, dtype=torch.float64), rank)
    chosen = torch.stack([torch.randperm(count, generator=generator)[: max(count // 2, 1)].sort().values] * 2)
    found = before.kept(chosen, min(less, before.rank, chosen.shape[1]))
    rows = before.dense().gather(1, chosen[..., None].expand(-1, -1, width))
    assert torch.allclose(found.dense(), best(rows, found.rank), atol=1e-8)
    assert torch.allclose(found.lost - before.lost, (rows - found.dense()).square().sum((1, 2)), atol=1e-8)


@pytest.mark.parametrize("bits", [4, 8])
def test_weak_directions_are_rounded_as_finely_as_strong_ones(bits: int) -> None:
    sizes = torch.tensor([100.0, 10.0, 1.0, 0.1, 0.01, 0.001, 1e-4, 1e-5])
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.linalg.qr(torch.randn(40, 8, generator=generator)).Q for _ in range(2))
    exact = factorise((left * sizes @ right.mT)[None].double(), 8)
    factors = exact.rounded(bits)
    true = exact.coefficients[0] / exact.coefficients[0].norm(dim=0) * 40**0.5
    off = (factors.coefficients[0] - true).norm(dim=0) / true.norm(dim=0)
    assert bool((off < 4 / 2**bits).all())
    assert (factors.dense() - exact.dense()).norm() < 4 / 2**bits * exact.dense().norm()
    assert factors.nbytes < 0.7 * 2 * 40 * 8 * 4 and (factors.count, factors.rank) == (40, 8)
