"""Which cells of an ``n x n`` grid fit best, found by ``2 n`` keys: Tucker-decomposed query-key retrieval.

UltraMem, arXiv 2411.12364, and UltraMemV2, arXiv 2508.18756. Both sides have factor scores of ``rank`` numbers a key,
and cell ``(i, j)`` has the score ``sum_c S_row[i] C_c S_col[j]``. A cut by the leading singular vectors of
``sum_c C_c``, to which no gradient flows, leaves a small grid that is scored exactly.
"""

from __future__ import annotations

import torch
from torch import Tensor


def leading(core: Tensor, before: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, Tensor]:
    """Left and right singular vectors ``(rank,)`` of the greatest singular value of the sum of ``core``
    ``(cores, rank, rank)``, in float32 or float64.

    Their common sign is the one nearer to ``before``; without it, or where it is all zeros, their sum is positive."""
    wide = core.sum(0)
    left, _, right = torch.linalg.svd(wide if wide.dtype == torch.float64 else wide.float())
    both = torch.stack([left[:, 0], right[0]])
    old = torch.ones_like(both) if before is None or not before[0].any() else torch.stack(before).to(both)
    turned = (both + old).abs().sum() < (both - old).abs().sum()
    if before is None or not before[0].any():
        turned = both[0].sum() < 0
    u, t = torch.where(turned, -both, both).unbind()
    return u, t


@torch.no_grad()
def selected(factors: Tensor, core: Tensor, u: Tensor, t: Tensor, top_m: int, candidates: int) -> tuple[Tensor, Tensor]:
    """Rows and columns int64 ``(tokens, top_m)`` of the cells to read, the best first.

    ``factors`` ``(tokens, 2, keys, rank)``; each side is cut to ``candidates`` by ``u`` or ``t`` before."""
    row, column = factors.unbind(1)
    projected = torch.einsum("tsnr,sr->stn", factors, torch.stack([u, t]).to(factors.dtype))
    best_row, best_column = projected.topk(candidates, dim=-1).indices.unbind()
    grid = _taken(row, best_row) @ core.sum(0).to(row.dtype) @ _taken(column, best_column).mT
    place = grid.flatten(1).topk(top_m, dim=-1).indices
    return best_row.gather(1, place // candidates), best_column.gather(1, place % candidates)


def scored(factors: Tensor, core: Tensor, row: Tensor, column: Tensor) -> Tensor:
    """The score of each cell in each core, ``(tokens, top_m, cores)``."""
    sides = _taken(factors[:, 0], row), _taken(factors[:, 1], column)
    return torch.einsum("tkr,crs,tks->tkc", sides[0], core, sides[1])


def _taken(side: Tensor, places: Tensor) -> Tensor:
    """Of ``(tokens, keys, rank)`` those at ``places`` ``(tokens, k)``."""
    return side.gather(1, places[..., None].expand(-1, -1, side.shape[-1]))
