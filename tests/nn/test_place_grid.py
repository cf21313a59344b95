"""The grid of places against looking each place up, for rows that begin and are cut anywhere."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from lamina.nn.context import BlockContext
from lamina.nn.eidetic.innovation_store import NOWHERE
from lamina.nn.eidetic.place_grid import PlaceGrid


def _context(pads: list[int], before: list[int], time: int) -> BlockContext:
    """Rows of ``time`` columns; what was read before has no padding after it."""
    mask = torch.ones(len(pads), time, dtype=torch.bool)
    done = []
    for row, (pad, read) in enumerate(zip(pads, before, strict=True)):
        mask[row, : min(pad, time)] = False
        done.append(0 if pad else read)
    return BlockContext(mask, (mask.long().cumsum(1) - 1 + torch.tensor(done)[:, None]).clamp(min=0))


@given(
    rows=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=4),
    alike=st.booleans(),
    time=st.integers(1, 7),
    chunk=st.integers(1, 5),
    low=st.integers(-8, 4),
    length=st.integers(1, 12),
)
def test_every_place_is_where_it_is_looked_up(
    rows: list[tuple[int, int]], alike: bool, time: int, chunk: int, low: int, length: int
) -> None:
    pads, before = (list(each) for each in zip(*(rows[:1] * len(rows) if alike else rows), strict=True))
    ctx = _context(pads, before, time)
    grid = PlaceGrid.of(ctx, chunk)
    places = grid.places(low, length)
    past = 6  # columns kept from before
    told = torch.arange(len(pads) * (past + time)).view(len(pads), past + time, 1).expand(-1, -1, 2)
    found = grid.take(told, low, length)
    for row in range(len(pads)):
        real = [int(place) for place, there in zip(ctx.positions[row], ctx.mask[row], strict=True) if there]
        first = int(ctx.positions[row, 0])
        for column in range(length):
            place = first // chunk * chunk + low + column
            known = bool(real) and 0 <= place <= real[-1]
            assert places[row, column] == (place if known else NOWHERE)
            ago = real[-1] - place if real else 0
            if known and ago < past + time:
                assert found[row, column].tolist() == told[row, past + time - 1 - ago].tolist()
    _comes_back(grid, ctx)


def _comes_back(grid: PlaceGrid, ctx: BlockContext) -> None:
    new = torch.arange(ctx.mask.numel()).view(ctx.mask.shape)
    back = grid.give(grid.take(new, 0, grid.length))
    assert torch.equal(back[ctx.mask], new[ctx.mask])
    reached: Tensor = grid.places(0, grid.length).amax(1)
    assert torch.equal(reached[ctx.mask[:, -1]], ctx.positions[:, -1][ctx.mask[:, -1]])
