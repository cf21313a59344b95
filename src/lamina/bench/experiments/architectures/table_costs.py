"""What tables cost in place of matrices, from what really happens: operations that run, storages that live, rows that
are touched, and the time of a block's projections."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from lamina.nn.config import LaminaConfig
from lamina.nn.context import whole
from lamina.nn.decoder import LaminaModel
from lamina.nn.table_linear import MemoryBlock, MemoryLayer, TableAttention, memory_former

EXPAND = 2
_INPUTS = 64  # of one batch size: the rows they read are not all in the processor's caches
_TURN = 5
_aten = torch.ops.aten


def share_of_multiply_adds(width: int, bits: int) -> Fraction:
    """Multiply-adds of the projections of one block that ran, tables over matrices, what attention mixes left out."""
    sizes: dict[str, Any] = {"vocab_size": 8, "hidden_size": width, "num_hidden_layers": 1, "num_heads": 4}
    found = [_ran(LaminaModel(config)) for config in (memory_former(bits=bits, **sizes), LaminaConfig(**sizes))]
    return Fraction(found[0], found[1])


def formula_of_multiply_adds(bits: int) -> Fraction:
    """``(4 / bits + (bits + 2) / bits**2) / 12``."""
    return (Fraction(4, bits) + Fraction(bits + EXPAND, bits**2)) / 12


def _ran(model: LaminaModel) -> int:
    def bag(weight: torch.Size, indices: torch.Size, *_: Any, **__: Any) -> int:
        return 2 * indices.numel() * weight[1]  # torch's counter says two for a multiply-add

    counted = {_aten._embedding_bag: bag, _aten._embedding_bag_forward_only: bag}
    with torch.no_grad(), FlopCounterMode(display=False, custom_mapping=counted) as counter:
        model(torch.zeros(2, 5, dtype=torch.long))
    operations = counter.get_flop_counts()["Global"]
    return sum(int(flops) for name, flops in operations.items() if "attention" not in str(name)) // 2


def formula_of_elements(width: int, bits: int) -> tuple[int, int]:
    """Of the tables of one block: all, and those that a token reads."""
    tables, rows = width // bits, 2**bits
    inner = (bits + EXPAND) * tables
    read = 3 * tables * width, tables * inner, tables * width
    return rows * read[0] + rows * read[1] + rows * 2**EXPAND * read[2], sum(read)


def live_bytes(layers: Sequence[MemoryLayer]) -> int:
    """Bytes of the storages of their tables."""
    return sum(layer.tables.untyped_storage().nbytes() for layer in layers)


def touched_bytes(model: nn.Module, layers: Sequence[MemoryLayer]) -> int:
    """Bytes of the rows of tables that one token reads: of those to which it has a gradient."""
    model.zero_grad()
    model(torch.tensor([[7]]))[0].square().sum().backward()
    total = 0
    for layer in layers:
        assert layer.tables.grad is not None
        read = (layer.tables.grad != 0).any(-1)
        total += int(read.sum()) * layer.tables[0].nbytes
    return total


class _Dense(nn.Module):
    """The projections of a usual block with their norms: three in one and the one after, four times as wide and back.

    In bytes the weights are stored with a scale for each row, and the input is rounded to bfloat16: the form in which
    small devices read matrices.
    """

    def __init__(self, width: int, *, in_bytes: bool) -> None:
        super().__init__()
        sizes = {"qkv": (width, 3 * width), "out": (width, width), "up": (width, 4 * width), "down": (4 * width, width)}
        self.width, self.norms = width, nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.matrices = {name: _matrix(*size, in_bytes=in_bytes) for name, size in sizes.items()}
        if in_bytes:
            self.norms.bfloat16()
        self.dtype = torch.bfloat16 if in_bytes else torch.float32

    def forward(self, x: Tensor) -> Tensor:
        x = x.to(self.dtype)
        projected = self.matrices["qkv"](self.norms[0](x))
        y = self.matrices["out"](projected[..., : self.width])
        return y + self.matrices["down"](F.gelu(self.matrices["up"](self.norms[1](x))))


def _matrix(inner: int, outer: int, *, in_bytes: bool) -> Callable[[Tensor], Tensor]:
    matrix = nn.Linear(inner, outer, bias=False)
    if not in_bytes:
        return matrix
    scale = matrix.weight.detach().abs().amax(1) / 127
    rounded = (matrix.weight.detach() / scale[:, None]).round().to(torch.int8)
    return lambda x: _aten._weight_int8pack_mm(x, rounded, scale.bfloat16())


class _Tables(nn.Module):
    """The projections of a MemoryFormer's block with their norms."""

    def __init__(self, width: int, bits: int) -> None:
        super().__init__()
        config = memory_former(vocab_size=8, hidden_size=width, num_hidden_layers=1, num_heads=4, bits=bits)
        block = LaminaModel(config).layers[0]
        assert isinstance(block.mixer, TableAttention) and isinstance(block.ffn, MemoryBlock)
        self.norm, self.tables, self.ffn, self.width = block.mixer.norm, block.mixer.tables, block.ffn, width
        self.ctx = whole(torch.zeros(1, 1))

    def forward(self, x: Tensor) -> Tensor:
        projected = self.tables(self.norm(x))
        y: Tensor = projected[..., : self.width] + self.ffn(x, self.ctx)
        return y


@torch.no_grad()
def times(width: int, bits: int, batches: Sequence[int], seed: int, runs: int) -> dict[int, dict[str, float]]:
    """Median CPU microseconds of one block's projections by batch size: of "tables", "dense" and "int8", each on
    ``runs`` inputs (the fewer the larger the batch, but five), on one thread. They take turns of five after one
    that is not counted: in a decoder what ran before was of the same kind."""
    torch.manual_seed(seed)
    arms = {
        "tables": _Tables(width, bits),
        "dense": _Dense(width, in_bytes=False),
        "int8": _Dense(width, in_bytes=True),
    }
    found: dict[int, dict[str, float]] = {}
    with one_thread():
        for batch in batches:
            inputs = torch.randn(min(_INPUTS, runs), batch, width)
            taken: dict[str, list[float]] = {name: [] for name in arms}
            for first in range(0, max(_TURN, runs // batch), _TURN):
                for name, arm in arms.items():
                    arm(inputs[(first - 1) % len(inputs)])
                    for run in range(first, first + _TURN):
                        begin = time.thread_time_ns()
                        arm(inputs[run % len(inputs)])
                        taken[name].append((time.thread_time_ns() - begin) / 1e3)
            found[batch] = {name: statistics.median(each) for name, each in taken.items()}
    return found


def crossover(found: dict[int, dict[str, float]]) -> int | None:
    """The smallest batch at which tables were slower than matrices, if any was."""
    return min((batch for batch, each in found.items() if each["tables"] > each["dense"]), default=None)


@contextmanager
def one_thread() -> Iterator[None]:
    """torch on one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
