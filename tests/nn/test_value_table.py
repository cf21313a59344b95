"""The value table: what it reads, what backward makes, and the file it can be."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from lamina.cube.payload import Fingerprint
from lamina.errors import CorruptCube, FingerprintMismatch, InvalidInput, StoreUnavailable
from lamina.nn.value_table import ValueTable
from lamina.train.optim.row_sparse import RowSparseAdamW

ROWS = 4_000
MODEL = Fingerprint("lamina", "weights", "tokens", "float32")


def _table(rows: int = ROWS, **settings: bool) -> ValueTable:
    torch.manual_seed(0)
    table = ValueTable(rows, 6, 2, **settings)
    with torch.no_grad():
        table.reset_parameters(0.5)
    return table


def _learn(table: ValueTable, steps: int = 5) -> None:
    optimizer = RowSparseAdamW(table.parameters(), lr=0.01)
    for step in range(steps):
        rows = torch.randint(0, 30, (4, 3), generator=torch.Generator().manual_seed(step))
        pre, values = table.gather(rows)
        optimizer.zero_grad()
        (pre.sum() + values.square().sum()).backward()
        optimizer.step()


@pytest.mark.parametrize("sparse", [False, True])
def test_gathers_rows_and_gives_repeated_ones_the_sum_of_their_gradients(sparse: bool) -> None:
    table = _table(50, sparse_grad=sparse)
    rows = torch.tensor([[3, 7], [3, 3]])
    pre, values = table.gather(rows)
    assert torch.equal(pre, table.pre_values[rows]) and torch.equal(values, table.values[rows])
    (values.sum() + 2 * pre.sum()).backward()
    for parameter, each in ((table.values, 1.0), (table.pre_values, 2.0)):
        assert parameter.grad is not None and parameter.grad.is_sparse is sparse
        found = parameter.grad.to_dense() if sparse else parameter.grad
        expected = torch.zeros_like(parameter)
        expected[3], expected[7] = 3 * each, each
        assert torch.equal(found, expected)


def test_says_which_rows_were_touched_while_it_was_recorded() -> None:
    table = _table()
    table.gather(torch.tensor([1]))
    with table.recording() as reads:
        assert len(reads.rows_touched()) == 0 == reads.nbytes
        table.gather(torch.tensor([[9, 4], [4, 4]]))
        table.gather(torch.tensor([9, 11]))
    table.gather(torch.tensor([2]))
    assert reads.rows_touched().tolist() == [4, 9, 11] and reads.nbytes == 3 * 8 * 4 == 3 * table.row_bytes


def test_it_is_a_file_that_learning_writes_into(tmp_path: Path) -> None:
    ram, mapped = _table(sparse_grad=True), _table(sparse_grad=True)
    mapped.move_to(tmp_path / "table.safetensors")
    assert (ram.storage, mapped.storage) == ("ram", "mmap")
    before = {name: each.clone() for name, each in load_file(tmp_path / "table.safetensors").items()}
    for table in (ram, mapped):
        _learn(table)
    mapped.flush()
    stored = load_file(tmp_path / "table.safetensors")
    assert torch.equal(stored["values"], ram.values) and torch.equal(stored["pre_values"], ram.pre_values)
    assert not torch.equal(stored["values"][:30], before["values"][:30])
    assert torch.equal(stored["values"][30:], before["values"][30:])
    other = ValueTable(ROWS, 6, 2)
    other.attach(tmp_path / "table.safetensors")
    rows = torch.tensor([0, 5, ROWS - 1])
    assert all(map(torch.equal, other.gather(rows), ram.gather(rows)))


def test_in_a_file_it_is_not_in_memory_until_it_is_read(tmp_path: Path) -> None:
    table = ValueTable(200_000, 60, 4)
    with torch.no_grad():
        table.reset_parameters(0.1)
    table.move_to(tmp_path / "table.safetensors")
    table.flush()
    own = ValueTable(200_000, 60, 4).requires_grad_(False)
    own.attach(tmp_path / "table.safetensors")
    before = _mapped_bytes(tmp_path / "table.safetensors", own.values.data_ptr())
    own.gather(torch.tensor([50_000, 150_000]))
    after = _mapped_bytes(tmp_path / "table.safetensors", own.values.data_ptr())
    assert before < after < 200_000 * 256 // 4  # two rows, and what the system reads around each


def _mapped_bytes(path: Path, address: int) -> int:
    """Of the mapping of ``path`` that holds ``address``: what of it is in this process's memory."""
    inside = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        parts = line.split()
        if "-" in parts[0] and not parts[0].endswith(":"):
            begin, end = (int(each, 16) for each in parts[0].split("-"))
            inside = begin <= address < end and parts[-1] == str(path)
        elif inside and parts[0] == "Rss:":
            return int(parts[1]) * 1024
    raise AssertionError(f"{path} is not mapped")


@pytest.mark.parametrize("mapped", [False, True])
def test_it_is_put_away_in_a_cube_and_read_again(mapped: bool, tmp_path: Path) -> None:
    table, other = _table(40, sparse_grad=True), ValueTable(40, 6, 2)
    _learn(table)
    payload = table.to_payload(MODEL)
    kept = table.values.detach().clone()
    _learn(table)
    if mapped:
        other.move_to(tmp_path / "table.safetensors")
    other.load_payload(payload, MODEL)
    assert torch.equal(other.values, kept) and not torch.equal(table.values, kept)
    assert payload.nbytes == 40 * other.row_bytes
    other.flush()
    if mapped:
        assert torch.equal(load_file(tmp_path / "table.safetensors")["values"], kept)
    with pytest.raises(FingerprintMismatch):
        table.load_payload(payload, replace(MODEL, weights="others"))
    with pytest.raises(CorruptCube, match=r"\(40, 6\).*\(41, 6\)"):
        ValueTable(41, 6, 2).load_payload(payload, MODEL)


def test_says_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="rows=0"):
        ValueTable(0, 6, 2)
    table = _table(50)
    table.move_to(tmp_path / "table.safetensors")
    with pytest.raises(InvalidInput, match="flush"):
        table.save(tmp_path / "table.safetensors")
    with pytest.raises(InvalidInput, match=r"\(60, 6\)"):
        ValueTable(60, 6, 2).attach(tmp_path / "table.safetensors")
    (tmp_path / "other").write_bytes(b"no such file at all")
    with pytest.raises(InvalidInput, match="no safetensors"):
        table.attach(tmp_path / "other")
    with pytest.raises(StoreUnavailable, match="missing"):
        table.attach(tmp_path / "missing")
    with pytest.raises(StoreUnavailable, match="rights"):
        _table(5).save(tmp_path / "nowhere" / "table.safetensors")
    assert isinstance(table.values, nn.Parameter) and table.path == str(tmp_path / "table.safetensors")
