"""RowSparseAdamW against torch's dense and sparse optimizers, and against rows one by one."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lamina.errors import InvalidInput
from lamina.train.checkpoint import Checkpoint
from lamina.train.loop import train
from lamina.train.optim.row_sparse import RowSparseAdamW

ROWS, WIDTH = 200, 3
SETTINGS: dict[str, Any] = {"lr": 0.02, "betas": (0.9, 0.95), "eps": 1e-8}


def _table() -> nn.Parameter:
    return nn.Parameter(torch.randn(ROWS, WIDTH, generator=torch.Generator().manual_seed(0), dtype=torch.float64))


def _steps(count: int, rows: int, least: int = 0) -> list[tuple[Tensor, Tensor]]:
    """Rows, repeated ones among them, and the gradient of each."""
    drawn = torch.Generator().manual_seed(1)
    return [
        (torch.randint(least, rows, (7,), generator=drawn), torch.randn(7, WIDTH, generator=drawn).double())
        for _ in range(count)
    ]


def _give(table: nn.Parameter, rows: Tensor, gradient: Tensor, sparse: bool) -> None:
    found = torch.sparse_coo_tensor(rows[None], gradient, (ROWS, WIDTH), check_invariants=True)
    table.grad = found if sparse else found.to_dense()


def _moments(optimizer: RowSparseAdamW, table: nn.Parameter, row: int) -> tuple[Tensor, Tensor]:
    state = optimizer.state[table]
    slot = state["slot"][row]
    return state["exp_avg"][slot], state["exp_avg_sq"][slot]


def test_rows_read_in_every_step_are_those_of_dense_adamw_and_of_sparse_adam() -> None:
    every = torch.arange(ROWS)
    ours, dense = _table(), _table()
    mine = RowSparseAdamW([ours], weight_decay=0.1, **SETTINGS)
    theirs = torch.optim.AdamW([dense], weight_decay=0.1, **SETTINGS)
    for step in range(20):
        gradient = torch.randn(ROWS, WIDTH, generator=torch.Generator().manual_seed(step)).double()
        _give(ours, every, gradient, sparse=True)
        _give(dense, every, gradient, sparse=False)
        mine.step()
        theirs.step()
    torch.testing.assert_close(ours, dense, rtol=1e-12, atol=1e-14)
    few = torch.tensor([3, 9, 3])
    ours, sparse = _table(), _table()
    mine = RowSparseAdamW([ours], **SETTINGS)
    oracle = torch.optim.SparseAdam([sparse], **SETTINGS)
    for _, gradient in _steps(20, ROWS):
        for each, optimizer in ((ours, mine), (sparse, oracle)):
            _give(each, few, gradient[:3], sparse=True)
            optimizer.step()
    torch.testing.assert_close(ours, sparse, rtol=1e-7, atol=1e-8)  # it adds eps before the second moment is corrected


def test_moments_of_rows_read_now_and_then_are_those_of_dense_adamw() -> None:
    ours, dense = _table(), _table()
    mine = RowSparseAdamW([ours], weight_decay=0.1, **SETTINGS)
    theirs = torch.optim.AdamW([dense], weight_decay=0.1, **SETTINGS)
    for step, (rows, gradient) in enumerate(_steps(40, 150)):
        for each, optimizer in ((ours, mine), (dense, theirs)):
            optimizer.param_groups[0]["lr"] = 0.02 * (1 + math.cos(step / 13))
            _give(each, rows, gradient, sparse=optimizer is mine)
            optimizer.step()
        for row in rows.tolist():
            mean, square = _moments(mine, ours, row)
            torch.testing.assert_close(mean, theirs.state[dense]["exp_avg"][row], rtol=1e-10, atol=1e-14)
            torch.testing.assert_close(square, theirs.state[dense]["exp_avg_sq"][row], rtol=1e-10, atol=1e-14)


def test_without_momentum_weights_too_are_those_of_dense_adamw_once_settled() -> None:
    ours, dense = _table(), _table()
    settings = SETTINGS | {"betas": (0.0, 0.95), "weight_decay": 0.3}
    mine, theirs = RowSparseAdamW([ours], **settings), torch.optim.AdamW([dense], **settings)
    for step, (rows, gradient) in enumerate(_steps(30, 150)):
        for each, optimizer in ((ours, mine), (dense, theirs)):
            optimizer.param_groups[0]["lr"] = 0.02 * (1 + math.cos(step / 7))
            _give(each, rows, gradient, sparse=optimizer is mine)
            optimizer.step()
        torch.testing.assert_close(ours[rows], dense[rows], rtol=1e-10, atol=1e-12)
        if step in (11, 29):  # settled in between as well
            mine.settle()
            torch.testing.assert_close(ours, dense, rtol=1e-10, atol=1e-12)


def test_each_row_goes_its_own_way() -> None:
    table, steps = _table(), _steps(25, 60)
    weights = table.detach().clone()
    mean, square, faded, last = torch.zeros(ROWS, WIDTH), torch.zeros(ROWS, WIDTH), [0.0] * ROWS, [0] * ROWS
    mean, square, total = mean.double(), square.double(), 0.0
    optimizer = RowSparseAdamW([table], weight_decay=0.1, **SETTINGS)
    for step, (rows, gradient) in enumerate(steps, start=1):
        _give(table, rows, gradient, sparse=True)
        optimizer.step()
        total += math.log(1 - 0.02 * 0.1)
        for row in set(rows.tolist()):
            g = gradient[rows == row].sum(0)
            mean[row] = 0.9 ** (step - last[row]) * mean[row] + 0.1 * g
            square[row] = 0.95 ** (step - last[row]) * square[row] + 0.05 * g * g
            weights[row] *= math.exp(total - faded[row])
            root = (square[row] / (1 - 0.95**step)).sqrt() + 1e-8
            weights[row] -= 0.02 * mean[row] / (1 - 0.9**step) / root
            last[row], faded[row] = step, total
    torch.testing.assert_close(table.detach(), weights, rtol=1e-10, atol=1e-12)


def test_rows_that_were_not_read_are_left_alone_and_cost_no_state() -> None:
    table, before = _table(), _table().detach()
    optimizer = RowSparseAdamW([table], weight_decay=0.1, **SETTINGS)
    seen: set[int] = set()
    for rows, gradient in _steps(15, 100, least=50):
        seen |= set(rows.tolist())
        _give(table, rows, gradient, sparse=True)
        optimizer.step()
        assert table.grad is not None and table.grad.is_sparse  # given back
    unread = [row for row in range(ROWS) if row not in seen]
    assert torch.equal(table[unread], before[unread]) and not torch.equal(table[list(seen)], before[list(seen)])
    room = 64  # 42 rows or so
    assert len(seen) < room and optimizer.state_bytes() == 8 * ROWS + room * (2 * 8 * WIDTH + 8 + 8)


def test_dense_parameters_beside_a_table_are_those_of_torch() -> None:
    table, ours, naive = _table(), nn.Parameter(torch.ones(4, 2)), nn.Parameter(torch.ones(4, 2))
    mine = RowSparseAdamW([{"params": [table]}, {"params": [ours], "lr": 0.5}], weight_decay=0.1, **SETTINGS)
    theirs = torch.optim.AdamW([naive], weight_decay=0.1, **(SETTINGS | {"lr": 0.5}))

    def closure() -> float:
        _give(table, torch.tensor([1]), torch.ones(1, WIDTH).double(), sparse=True)
        for each in (ours, naive):
            each.grad = each.detach() * 3 - 1
        return 7.0

    for _ in range(5):
        assert mine.step(closure) == 7.0
        theirs.step()
    assert torch.equal(ours, naive)


class _Asked(nn.Module):
    def __init__(self, sparse: bool) -> None:
        super().__init__()
        self.table, self.sparse = _table(), sparse
        self.wide = nn.Parameter(torch.ones(WIDTH, dtype=torch.float64))

    def loss(self, step: int) -> Tensor:
        rows = torch.randint(0, 90, (6,), generator=torch.Generator().manual_seed(step))
        read = nn.functional.embedding(rows, self.table, sparse=self.sparse)
        return (read * self.wide - 1).square().sum()


def _optimizer(groups: list[dict[str, Any]]) -> RowSparseAdamW:
    return RowSparseAdamW(groups, betas=(0.0, 0.95))


def test_the_loop_clips_sparse_gradients_as_dense_ones() -> None:
    sparse, dense = _Asked(sparse=True), _Asked(sparse=False)
    found = [
        train(each.parameters(), each.loss, steps=25, lr=0.05, clip=0.5, optimizer=_optimizer)
        for each in (sparse, dense)
    ]
    assert found[0] == pytest.approx(found[1], rel=1e-10)
    torch.testing.assert_close(sparse.wide, dense.wide, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("way", ["checkpoint", "state_dict"])
def test_it_goes_on_where_it_stopped(way: str, tmp_path: Path) -> None:
    whole, first, again = (_Asked(sparse=True) for _ in range(3))
    settings: dict[str, Any] = {"lr": 0.05, "optimizer": _optimizer, "steps": 30}
    expected = train(whole.parameters(), whole.loss, **settings)
    if way == "checkpoint":
        kept = Checkpoint(tmp_path, first, every=10)
        with pytest.raises(RuntimeError, match="killed"):
            train(first.parameters(), lambda step: _killed(first, step), **settings, checkpoint=kept)
        found = train(again.parameters(), again.loss, **settings, checkpoint=Checkpoint(tmp_path, again, every=10))
        assert found == expected and torch.equal(again.table, whole.table)
        return
    optimizer = RowSparseAdamW([first.table], weight_decay=0.1)
    steps = _steps(20, 90)
    for rows, gradient in steps[:10]:
        _give(first.table, rows, gradient, sparse=True)
        optimizer.step()
    again.load_state_dict(first.state_dict())
    other = RowSparseAdamW([again.table], weight_decay=0.1)
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for rows, gradient in steps[10:]:
        for each, one in ((first, optimizer), (again, other)):
            _give(each.table, rows, gradient, sparse=True)
            one.step()
    assert torch.equal(first.table, again.table) and other.state[again.table]["slot"].dtype == torch.int64


def _killed(model: _Asked, step: int) -> Tensor:
    if step == 15:
        raise RuntimeError("killed")
    return model.loss(step)


def test_says_what_is_wrong() -> None:
    table = _table()
    _give(table, torch.tensor([1]), torch.ones(1, WIDTH).double(), sparse=True)
    with pytest.raises(InvalidInput, match=r"lr=2\.0.*under 1"):
        RowSparseAdamW([table], lr=2.0, weight_decay=0.5).step()
    table.grad = torch.ones(ROWS, WIDTH).double().to_sparse()
    with pytest.raises(InvalidInput, match="2 sparse axes"):
        RowSparseAdamW([table]).step()
    assert torch.equal(table, _table())
