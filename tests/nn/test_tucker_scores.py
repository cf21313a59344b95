"""The cut and the scores of cells, against the whole grid."""

from __future__ import annotations

import pytest
import torch

from lamina.nn.tucker_scores import leading, scored, selected


@pytest.mark.parametrize(("keys", "top_m", "key_dim"), [(64, 16, 16), (180, 32, 96), (360, 32, 192)])
def test_the_cut_keeps_the_best_cells_where_both_projections_are_positive(keys: int, top_m: int, key_dim: int) -> None:
    drawn = torch.Generator().manual_seed(3)
    factors = key_dim**-0.3 * torch.randn(32, 2, keys, 2, generator=drawn)
    shares = []
    for _ in range(4):
        core = torch.rand(2, 2, 2, generator=drawn)
        u, t = leading(core)
        row, column = selected(factors, core, u, t, top_m, top_m)
        found = row * keys + column
        grid = torch.einsum("tir,crs,tjs->tij", factors[:, 0], core, factors[:, 1])
        positive = (factors[:, 0] @ u > 0)[:, :, None] & (factors[:, 1] @ t > 0)[:, None]
        best = grid.masked_fill(~positive, -torch.inf).flatten(1).topk(top_m).indices
        shares.append(float((found[:, :, None] == best[:, None]).any(-1).float().mean()))
        exact = grid.flatten(1).gather(1, found)
        torch.testing.assert_close(scored(factors, core, row, column).sum(-1), exact)
        assert bool((exact.diff(dim=-1) <= 1e-6).all())  # the best first
    assert sum(shares) / 4 >= 0.95, shares


def test_the_sign_of_the_cut_stays_from_step_to_step() -> None:
    core = torch.rand(2, 2, 2, generator=torch.Generator().manual_seed(0))
    u, t = leading(core)
    assert u.sum() > 0 and float(u @ core.sum(0) @ t) > 0
    for sign in (1, -1):
        again = leading(core + 0.01, (sign * u, sign * t))
        assert float(again[0] @ u) * sign > 0.99 and float(again[1] @ t) * sign > 0.99
    zeros = torch.zeros(2)
    torch.testing.assert_close(leading(core, (zeros, zeros))[0], u)
