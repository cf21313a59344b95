"""UltraMemV2 against its equations cell by cell, its cut, its permutation, its shared table, its cost."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForCausalLM

from lamina.errors import InvalidInput
from lamina.nn import costs
from lamina.nn.config import LaminaConfig
from lamina.nn.context import whole
from lamina.nn.decoder import LaminaForCausalLM
from lamina.nn.memory_layer import UltraMemV2
from lamina.nn.tucker_scores import leading
from lamina.nn.value_table import ValueTable
from lamina.train.loop import parameter_groups, train
from lamina.train.optim.row_sparse import RowSparseAdamW

SMALL: dict[str, Any] = {"num_keys": 6, "key_dim": 4, "value_dim": 6, "pre_value_dim": 3, "top_m": 5, "init": "release"}


def _config(width: int = 8, layers: int = 2, **more: Any) -> LaminaConfig:
    return LaminaConfig(vocab_size=20, hidden_size=width, num_hidden_layers=layers, num_heads=2, **more)


def _layer(config: LaminaConfig | None = None, **settings: Any) -> UltraMemV2:
    torch.manual_seed(0)
    config = _config() if config is None else config
    layer = UltraMemV2(config, **(SMALL | settings))
    with torch.no_grad():
        layer.init_weights(config)
    return layer.double().eval()


def _x(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _rms(x: Tensor) -> Tensor:
    return x / (x.square().mean() + 1e-6).sqrt()


def _one(layer: UltraMemV2, z: Tensor) -> tuple[Tensor, set[int]]:
    """What one token gets, by loops over keys and cells, and the rows it reads."""
    n, rank, width = layer.keys_a_side, layer.rank, layer.key_dim
    query = (layer.query.weight @ z).view(2, rank, width)
    side = torch.zeros(2, n, rank, dtype=torch.float64)
    for s in range(2):
        for a in range(rank):
            for i in range(n):
                q = _rms(query[s, a]) * layer.query_norm.weight
                side[s, i, a] = q @ (_rms(layer.keys[s, a, i]) * layer.key_norm.weight)
    left, _, right = torch.linalg.svd(layer.core.sum(0))
    u, t = left[:, 0], right[0]
    if u.sum() < 0:
        u, t = -u, -t
    rows = sorted(range(n), key=lambda i: -float(side[0, i] @ u))[: layer.candidates]
    columns = sorted(range(n), key=lambda j: -float(side[1, j] @ t))[: layer.candidates]
    cells = {
        (i, j): torch.stack([side[0, i] @ core @ side[1, j] for core in layer.core]) for i in rows for j in columns
    }
    best = sorted(cells, key=lambda cell: -float(cells[cell].sum()))[: layer.top_m]
    pooled = torch.zeros(layer.cores, layer.value_dim // layer.cores, dtype=torch.float64)
    read = set()
    for i, j in best:
        row = (int(layer.permutation[i * n + j]) % layer.window + layer.offset) % layer.table.rows
        read.add(row)
        pre = layer.table.pre_values[row] @ (layer.pre_query.weight @ z)
        for core in range(layer.cores):
            share = layer.table.values[row].view(layer.cores, -1)[core]
            pooled[core] += pre * cells[i, j][core] * share
    return layer.out.weight @ pooled.flatten(), read


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"tucker_rank": 3, "cores": 1, "candidates": 4},
        {"tucker_rank": 1, "cores": 3, "expand": 2},
        {"share": 1.0, "num_keys": 4, "cores": 2},
        {"budget": 1},
    ],
)
@torch.no_grad()
def test_each_token_gets_what_the_equations_say(settings: dict[str, Any]) -> None:
    layer = _layer(**settings)
    layer.join(1, [_layer(**settings), layer])
    layer.refresh_core()
    x = _x(2, 4, 8)
    ctx = whole(x[..., 0])
    found = layer(x, ctx)
    rows = ctx.stats["0.ultramem_v2.rows"]
    for place, z in enumerate(x.view(-1, 8)):
        expected, read = _one(layer, z)
        torch.testing.assert_close(found.view(-1, 8)[place], expected, rtol=1e-9, atol=1e-12)
        assert set(rows[place].tolist()) == read
    assert rows.shape == (8, layer.top_m) and int(rows.min()) >= 0 and int(rows.max()) < layer.table.rows


def test_gradients_are_right_and_reach_everything_but_the_cut() -> None:
    layer = _layer()
    x = _x(1, 3, 8).requires_grad_()
    ctx = whole(x[..., 0])

    def said(given: Tensor, *_: Tensor) -> Tensor:
        found: Tensor = layer(given, ctx)
        return found

    parameters = [layer.core, layer.keys, layer.table.values, layer.table.pre_values, layer.query_norm.weight]
    assert torch.autograd.gradcheck(said, (x, *parameters))
    said(x).sum().backward()
    assert all(each.grad is not None and each.grad.any() for each in layer.parameters())
    assert not layer.u.requires_grad and not layer.t.requires_grad


def test_turned_cores_turn_the_cut_as_little_as_can_be() -> None:
    layer = _layer()
    with torch.no_grad():
        layer.core.neg_()  # the leading pair is (u, -t) or (-u, t) now
    before = layer.u.clone(), layer.t.clone()
    layer.refresh_core()
    first = layer.u.clone(), layer.t.clone()
    layer.refresh_core()
    assert torch.equal(layer.u, first[0]) and torch.equal(layer.t, first[1])
    away = (first[0] - before[0]).abs().sum() + (first[1] - before[1]).abs().sum()
    assert away <= (first[0] + before[0]).abs().sum() + (first[1] + before[1]).abs().sum()


def test_no_step_of_training_and_no_answer_uses_an_old_cut() -> None:
    layer, x = _layer(), _x(1, 3, 8)

    def fresh() -> Tensor:
        return leading(layer.core.detach(), (layer.u, layer.t))[0]

    def change() -> None:
        with torch.no_grad():
            layer.core[:, 0, 0] += 1.5

    assert torch.allclose(fresh(), layer.u, atol=1e-6)
    layer.train()
    change()
    assert not torch.allclose(fresh(), layer.u, atol=1e-3)
    layer(x, whole(x[..., 0]))
    assert torch.equal(fresh(), layer.u)
    change()
    layer.eval()
    assert torch.equal(fresh(), layer.u)
    kept = layer.state_dict()
    kept |= {"u": torch.zeros(2), "t": torch.zeros(2)}
    other = _layer()
    other.load_state_dict(kept)
    torch.testing.assert_close(other.u, layer.u)
    assert torch.equal(other(x, whole(x[..., 0])), layer(x, whole(x[..., 0])))


def test_an_own_seed_draws_the_permutation_and_it_is_saved() -> None:
    first, second = _layer(seed=1), _layer(seed=2)
    assert first.permutation.sort().values.tolist() == list(range(36)) != first.permutation.tolist()
    assert not torch.equal(first.permutation, second.permutation)
    x = _x(1, 4, 8)
    said = first(x, whole(x[..., 0]))
    assert not torch.allclose(second(x, whole(x[..., 0])), said)
    second.load_state_dict(first.state_dict())
    assert torch.equal(second(x, whole(x[..., 0])), said)


def _model(layers: int = 4, **settings: Any) -> LaminaForCausalLM:
    torch.manual_seed(0)
    return LaminaForCausalLM(_config(8, layers, side="ultramem_v2", block={"ultramem_v2": SMALL | settings})).eval()


def test_layers_share_one_table_through_windows_in_a_ring(tmp_path: Path) -> None:
    model = _model(share=0.5, num_keys=4)
    sides: list[Any] = [layer.side for layer in model.model.layers]
    assert [side.offset for side in sides] == [0, 16, 32, 48] and len({id(side.table) for side in sides}) == 1
    assert sides[0].table.rows == 64 and sides[0].window == 25  # 32 rows, and a grid is square
    assert sum("table" in name for name in model.state_dict()) == 2
    ids = torch.randint(0, 20, (40, 12), generator=torch.Generator().manual_seed(0))
    stats = model(ids).stats
    for layer, side in enumerate(sides):
        read = set(stats[f"{layer}.ultramem_v2.rows"].unique().tolist())
        there = {(side.offset + each) % 64 for each in range(25)}
        assert read <= there and len(read) > 12
    model.save_pretrained(tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert again.model.layers[3].side.table is again.model.layers[0].side.table
    assert torch.equal(again(ids).logits, model(ids).logits)
    copied = copy.deepcopy(model)
    assert copied.model.layers[2].side.table is copied.model.layers[0].side.table is not sides[0].table
    assert costs.stored_bytes(copied) == costs.stored_bytes(model)


def test_a_table_from_outside_is_read_and_not_owned() -> None:
    config = _config()
    table = ValueTable(50, 6, 3)
    layer = UltraMemV2(config, **SMALL, table=table, offset=20)
    with torch.no_grad():
        table.reset_parameters(0.02)
        layer.init_weights(config)
    assert layer.table is table and not any("table" in name for name, _ in layer.named_parameters())
    ctx = whole(torch.zeros(1, 30))
    layer.eval()(_x(1, 30, 8).float(), ctx)
    rows = ctx.stats["0.ultramem_v2.rows"]
    assert {(20 + each) % 50 for each in range(36)} >= set(rows.unique().tolist())
    with pytest.raises(InvalidInput, match=r"30 rows.*window has 36"):
        UltraMemV2(config, **SMALL, table=ValueTable(30, 6, 3))


def test_a_pass_and_its_gradient_touch_the_rows_that_are_read_and_no_others() -> None:
    layer = _layer(num_keys=20, sparse_grad=True)
    x = _x(1, 6, 8)
    ctx = whole(x[..., 0])
    with layer.table.recording() as reads:
        layer(x, ctx).sum().backward()
    rows = ctx.stats["0.ultramem_v2.rows"].unique()
    assert torch.equal(reads.rows_touched(), rows) and len(rows) <= 6 * layer.top_m < layer.table.rows
    assert reads.nbytes == len(rows) * (6 + 3) * 8
    for table in (layer.table.values, layer.table.pre_values):
        assert table.grad is not None and table.grad.is_sparse
        assert torch.equal(table.grad.coalesce().indices()[0], rows)
    dense = _layer(num_keys=20)
    dense(x, whole(x[..., 0])).sum().backward()
    assert dense.table.values.grad is not None and layer.table.values.grad is not None
    torch.testing.assert_close(layer.table.values.grad.to_dense(), dense.table.values.grad)


def test_rows_that_nobody_reads_change_nothing() -> None:
    layer, x = _layer(num_keys=20), _x(1, 6, 8)
    ctx = whole(x[..., 0])
    said = layer(x, ctx)
    unread = torch.ones(400, dtype=torch.bool)
    unread[ctx.stats["0.ultramem_v2.rows"]] = False
    with torch.no_grad():
        for table in (layer.table.values, layer.table.pre_values):
            table[unread] = torch.nan
    assert torch.equal(layer(x, ctx), said)


def test_padding_reads_nothing() -> None:
    layer, x = _layer(), _x(2, 4, 8)
    ctx = whole(x[..., 0])
    ctx.mask[0, :3] = False
    found = layer(x, ctx)
    assert not found[0, :3].any() and len(ctx.stats["0.ultramem_v2.rows"]) == 5
    torch.testing.assert_close(found[:1, 3:], layer(x[:1, 3:], whole(x[:1, 3:, 0])))


@pytest.mark.parametrize("settings", [{}, {"cores": 3, "tucker_rank": 3, "candidates": 4, "expand": 2}])
def test_it_costs_what_it_says(settings: dict[str, Any]) -> None:
    layer = _layer(**settings).float()
    x = _x(1, 7, 8).float()
    with FlopCounterMode(display=False) as counted:
        layer(x, whole(x[..., 0]))
    assert counted.get_total_flops() == 2 * 7 * layer.macs_per_token(7)
    own = sum(each.nbytes for each in (*layer.parameters(),)) - layer.table.rows * layer.table.row_bytes
    assert layer.bytes_read_per_token() == own + layer.top_m * ((6 + 3) * 4 + 4)
    assert costs.stored_bytes(layer) == own + layer.table.rows * 36 + 4 * layer.keys_a_side**2 + 2 * 4 * layer.rank


def test_sixteen_times_the_rows_cost_a_token_four_times_the_keys_and_no_more() -> None:
    small, large = _layer(num_keys=10), _layer(num_keys=40)
    assert large.table.rows == 16 * small.table.rows
    more = 30 * 2 * 2 * (4 + 1)  # keys, and their projections
    assert large.macs_per_token(1) - small.macs_per_token(1) == more


def test_the_table_learns_faster_at_first() -> None:
    model = _model(rates=(4.0, 2.0))
    own = parameter_groups(model, 0.01)
    tables = [group for group in own if "schedule" in group]
    assert len(tables) == 4 and all(group["lr"] == 0.04 and group["weight_decay"] == 0.1 for group in tables)
    share = tables[0]["schedule"]
    shares = [0.04 * share(step, 1000) for step in range(1000)]
    assert shares[0] == pytest.approx(0.04 / 50) and shares[50] == pytest.approx(0.04, rel=0.03)
    assert shares[-1] == pytest.approx(0.02 * 0.1, rel=0.01) and shares[50:] == sorted(shares[50:], reverse=True)


def test_it_learns_by_rows_alone() -> None:
    model = _model(2, sparse_grad=True, num_keys=16, share=1.0).train()
    ids = torch.randint(0, 20, (4, 10), generator=torch.Generator().manual_seed(0))
    losses = train(
        parameter_groups(model, 1e-2),
        lambda _: model(ids, labels=ids).loss,
        steps=150,
        lr=1e-2,
        optimizer=RowSparseAdamW,
    )
    assert losses[-1] < 0.2 < losses[0]


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"top_m": 7}, "candidates=7, top_m=7: there are 6 keys"),
        ({"num_keys": 200, "top_m": 129}, "top_m=129 is over 128"),
        ({"candidates": 2}, "candidates=2, top_m=5"),
        ({"value_dim": 7}, "value_dim=7 is no multiple of cores=2"),
        ({"cores": 0}, "cores=0"),
        ({"num_keys": 0}, "num_keys=0"),
        ({"share": 1.5}, r"share=1\.5"),
        ({"init": "zeros"}, "init='zeros'"),
        ({"penalty": 0.1, "tucker_rank": 1}, r"penalty=0\.1"),
        ({"rates": (0.0, 1.0)}, "rates="),
    ],
)
def test_what_does_not_fit_is_told(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidInput, match=told):
        _layer(**settings)
