"""Matrices side by side that are never held whole in float64, and the vectors that span the most of them.

Layers of a group stand side by side as one matrix of tokens. Its Gram matrix is summed over blocks of tokens, each of
which is made when it is asked for, widened to float64 and let go; the eigenvectors then take the place of the Gram
matrix. What a factorisation holds besides rows and factors is one block, that matrix, and what LAPACK works in.

What is unusual: above 2,048 on both sides the vectors are approached by a randomised range finder (Halko, Martinsson
and Tropp, arXiv 0909.4061; 16 directions more than wanted, two powers), which needs no matrix of that size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

_BLOCK = 2**20  # bytes of float64 rows that are held at once
_WHOLE = 2048  # of a side: up to here its Gram matrix is decomposed as it is
_MORE, _POWERS = 16, 2  # of the range finder


@dataclass(frozen=True, slots=True)
class Stack:
    """``parts``: of each matrix, the rows of a slice ``(b, t, e)``, ``count`` in all; together ``width`` columns."""

    parts: Sequence[Callable[[slice], Tensor]]
    rows: int
    count: int
    width: int

    @classmethod
    def of(cls, whole: Tensor) -> Stack:
        """``whole (b, n, width)``, which is held anyway."""
        return cls([lambda at: whole[:, at]], *whole.shape)

    @property
    def dtype(self) -> torch.dtype:
        return self.parts[0](slice(0, 0)).dtype

    def blocks(self) -> Iterator[tuple[slice, Tensor]]:
        """Slices of rows and those rows, float64 ``(b, t, width)``."""
        for at in slices(self.count, self.rows * self.width):
            yield at, torch.cat([part(at).double() for part in self.parts], -1)

    def gram(self) -> Tensor:
        """``X^T X``, float64 ``(b, width, width)``."""
        found = torch.zeros((self.rows, self.width, self.width), dtype=torch.float64)
        for _, block in self.blocks():
            found.baddbmm_(block.mT, block)
        return found

    def outer(self) -> Tensor:
        """``X X^T``, float64 ``(b, count, count)``."""
        found = torch.zeros((self.rows, self.count, self.count), dtype=torch.float64)
        for part in self.parts:
            wide = part(slice(None)).double()
            found.baddbmm_(wide, wide.mT)
        return found

    def back(self, left: Tensor) -> Tensor:
        """``X^T left``, ``(b, width, r)``."""
        return torch.cat([part(slice(None)).double().mT @ left for part in self.parts], 1)


def slices(count: int, numbers: int) -> Iterator[slice]:
    """Of ``count`` rows of ``numbers`` numbers each, those that are widened at once."""
    size = max(_BLOCK // (8 * max(numbers, 1)), 32)
    for start, stop in pairwise([*range(0, count, size), count]):
        yield slice(start, stop)


def leading(gram: Tensor, rank: int) -> Tensor:
    """``(b, n, rank)``: eigenvectors of the largest eigenvalues, largest first. ``gram (b, n, n)`` float64 is lost:
    LAPACK works in place."""
    found = gram.new_empty((*gram.shape[:2], rank))
    sizes = gram.new_empty(gram.shape[1])
    for row, into in zip(gram, found, strict=True):
        torch.linalg.eigh(row.mT, out=(sizes, row.mT))  # symmetric, and LAPACK's own order of columns
        into.copy_(row.mT[:, row.shape[1] - rank :].flip(-1))
    return found


def spanning(product: Callable[[Tensor], Tensor], rows: int, width: int, rank: int) -> Tensor:
    """``leading`` of a Gram matrix that is known by its ``product`` with ``(b, width, m)``, nearly."""
    generator = torch.Generator().manual_seed(0)
    shape = rows, width, min(rank + _MORE, width)
    found: Tensor = torch.randn(shape, dtype=torch.float64, generator=generator)
    for _ in range(1 + _POWERS):
        found = torch.linalg.qr(product(found)).Q
    return found @ leading(found.mT @ product(found), rank)


def is_large(count: int, width: int) -> bool:
    """Whether both sides are too large for a matrix of their own."""
    return min(count, width) > _WHOLE
