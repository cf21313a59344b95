"""Truncated SVD of a matrix that grows by rows: coefficients ``A = U S`` and an orthonormal basis ``B = V^T``.

xKV, arXiv 2503.18893, section 3.3. The best rank-``r`` approximation of ``[A B; X]`` needs neither the rows that ``A``
stands for nor a factorisation of anything tall: it follows from the Gram matrix of the side that is smaller, in
float64, since half precision loses the tail of the spectrum. Rows are widened block by block (``stacks``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from lamina.activation.budgeted.stacks import Stack, is_large, leading, slices, spanning
from lamina.tensors.quantize import Rows, dequantize, quantize


@dataclass(frozen=True, slots=True)
class Factors:
    """``left``: coefficients ``(b, n, r)``, ``right``: basis ``(b, r, width)``, either as numbers or rounded by rows;
    ``lost``: the squared error of all truncations so far and ``norm`` the squared norm that was there, each ``(b,)``.
    ``dtype``: of the numbers that rounded ones come back as.
    """

    left: Tensor | Rows
    right: Tensor | Rows
    lost: Tensor
    norm: Tensor
    dtype: torch.dtype = torch.float32

    @property
    def coefficients(self) -> Tensor:
        return self.part(slice(None))

    @property
    def basis(self) -> Tensor:
        return dequantize(self.right).to(self.dtype) if isinstance(self.right, Rows) else self.right

    def part(self, at: slice) -> Tensor:
        """``(b, t, r)``: coefficients of a slice of the rows."""
        return self._numbers(lambda part: part[:, at])

    def chosen(self, rows: Tensor) -> Tensor:
        """``(b, ..., r)``: coefficients of ``rows (b, ...)``."""
        count = len(rows)
        first = torch.arange(count, device=rows.device).view(-1, *[1] * (rows.dim() - 1)) * self.count
        flat = (rows + first).flatten()
        return self._numbers(lambda part: part.flatten(0, 1).index_select(0, flat).view(*rows.shape, -1))

    @property
    def nbytes(self) -> int:
        """Live bytes of both factors."""
        parts = (self.left, self.right)
        return sum(part.nbytes if isinstance(part, Rows) else part.untyped_storage().nbytes() for part in parts)

    @property
    def count(self) -> int:
        """Rows that are stood for."""
        return (self.left.codes if isinstance(self.left, Rows) else self.left).shape[1]

    @property
    def rank(self) -> int:
        return (self.right.codes if isinstance(self.right, Rows) else self.right).shape[1]

    @property
    def energy(self) -> float:
        """Share of the squared norm that is kept, before rounding; worst row of the batch."""
        return float((1 - self.lost / self.norm.clamp_min(1e-30)).min())

    def dense(self) -> Tensor:
        """``(b, n, width)``."""
        return self.coefficients @ self.basis

    def rows(self, choose: Callable[[Tensor], Tensor]) -> Factors:
        """``choose`` rows of the batch."""
        left, right = (part.map(choose) if isinstance(part, Rows) else choose(part) for part in (self.left, self.right))
        return Factors(left, right, choose(self.lost), choose(self.norm), self.dtype)

    def rounded(self, bits: int) -> Factors:
        """Both factors in ``bits``, row by row. Before, the size of each direction moves from the coefficients into
        the basis, whose rows have scales of their own: a token's numbers are then of one size, and weak directions
        are rounded as finely as strong ones."""
        coefficients, basis = self.coefficients, self.basis
        sizes = coefficients.norm(dim=1).clamp_min(1e-30) / self.count**0.5
        left = _quantized(coefficients, bits, lambda block, _: block / sizes[:, None])
        right = _quantized(basis, bits, lambda block, at: block * sizes[:, at, None])
        return Factors(left, right, self.lost, self.norm, basis.dtype)

    def kept(self, chosen: Tensor, rank: int) -> Factors:
        """Of the rows ``chosen (b, m)`` alone, the best factors of rank ``rank``, as numbers. The error of rows that
        are gone counts as if it were that of those that stay."""
        dtype = self.dtype if isinstance(self.left, Rows) else self.left.dtype
        rows = Stack.of(self.chosen(chosen))
        axes, mixing = torch.linalg.qr(self.basis.double().mT)
        core = mixing @ rows.gram() @ mixing.mT
        total = core.diagonal(dim1=-2, dim2=-1).sum(-1)
        vectors = leading(core, rank)
        left, found = _projected([(rows, mixing.mT @ vectors)], dtype)
        return Factors(
            left, _own(vectors.mT @ axes.mT, dtype), self.lost + (total - found).clamp_min(0), self.lost + total
        )

    def _numbers(self, choose: Callable[[Tensor], Tensor]) -> Tensor:
        return dequantize(self.left.map(choose)).to(self.dtype) if isinstance(self.left, Rows) else choose(self.left)


@torch.no_grad()
def factorise(rows: Tensor | Stack, rank: int, before: Factors | None = None) -> Factors:
    """The best factors of rank ``rank`` (at most the smaller side) of what ``before`` stands for and ``rows
    (b, t, width)`` behind it, in the dtype of ``rows``."""
    stack = rows if isinstance(rows, Stack) else Stack.of(rows)
    count = stack.count + (0 if before is None else before.count)
    rank = min(rank, count, stack.width)
    vectors, norm, total = _directions(stack, before, count, rank)
    stacks = [(stack, vectors)]
    if before is not None:
        stacks.insert(0, (Stack([before.part], stack.rows, before.count, before.rank), before.basis.double() @ vectors))
    left, kept = _projected(stacks, stack.dtype)
    error = (total - kept).clamp_min(0)
    lost, known = (torch.zeros_like(error),) * 2 if before is None else (before.lost.to(error), before.norm.to(error))
    return Factors(left, _own(vectors.mT, stack.dtype), lost + error, known + norm)


def _directions(stack: Stack, before: Factors | None, count: int, rank: int) -> tuple[Tensor, Tensor, Tensor]:
    """Right singular vectors ``(b, width, rank)``; the squared norms of the new rows and of everything, ``(b,)``."""
    if is_large(count, stack.width):
        return _nearly(stack, before, rank)
    if before is None and count < stack.width:
        outer = stack.outer()
        norm = outer.diagonal(dim1=-2, dim2=-1).sum(-1)
        # directions of no length, for which any would do, come from a QR that completes the basis
        return torch.linalg.qr(stack.back(leading(outer, rank))).Q, norm, norm
    gram = stack.gram()
    norm = gram.diagonal(dim1=-2, dim2=-1).sum(-1)
    if before is not None:
        basis = before.basis.double()
        gram.baddbmm_(basis.mT @ _inner(before), basis)
    total = gram.diagonal(dim1=-2, dim2=-1).sum(-1)
    return leading(gram, rank), norm, total


def _nearly(stack: Stack, before: Factors | None, rank: int) -> tuple[Tensor, Tensor, Tensor]:
    """``_directions`` without a matrix of either side."""
    inner, basis = (None, None) if before is None else (_inner(before), before.basis.double())

    def product(vectors: Tensor) -> Tensor:
        found = torch.zeros_like(vectors)
        for _, block in stack.blocks():
            found.baddbmm_(block.mT, block @ vectors)
        if inner is not None and basis is not None:
            found.baddbmm_(basis.mT, inner @ (basis @ vectors))
        return found

    norm = torch.stack([block.square().sum((1, 2)) for _, block in stack.blocks()]).sum(0)
    old = 0 if inner is None or basis is None else (inner @ basis * basis).sum((1, 2))
    return spanning(product, stack.rows, stack.width, rank), norm, norm + old


def _inner(factors: Factors) -> Tensor:
    """``A^T A``, float64 ``(b, r, r)``."""
    return Stack([factors.part], len(factors.lost), factors.count, factors.rank).gram()


def _projected(stacks: list[tuple[Stack, Tensor]], dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Rows of each stack times its vectors ``(b, width, r)``, one behind the other; and their squared norm ``(b,)``."""
    rows, rank = stacks[0][1].shape[0], stacks[0][1].shape[2]
    left = torch.empty((rows, sum(stack.count for stack, _ in stacks), rank), dtype=dtype)
    norm, done = torch.zeros(rows, dtype=torch.float64), 0
    for stack, vectors in stacks:
        for at, block in stack.blocks():
            found = block @ vectors
            left[:, done + at.start : done + at.stop] = found
            norm += found.square().sum((1, 2))
        done += stack.count
    return left, norm


def _quantized(numbers: Tensor, bits: int, change: Callable[[Tensor, slice], Tensor]) -> Rows:
    """``numbers (b, n, r)``, changed block by block, in ``bits``."""
    found = [quantize(change(numbers[:, at], at), bits) for at in slices(numbers.shape[1], numbers[:, 0].numel())]
    codes, scale, low = ([getattr(one, name) for one in found] for name in ("codes", "scale", "low"))
    return Rows(torch.cat(codes, 1), torch.cat(scale, 1), torch.cat(low, 1), bits)


def alignment(first: Tensor, second: Tensor) -> float:
    """Linear centred kernel alignment of two ``(n, width)`` matrices, in [0, 1]: how alike their token bases are
    (section 3.1), whatever their channels are."""
    one, two = (x.double() - x.double().mean(0) for x in (first, second))
    cross = (one.mT @ two).square().sum()
    return float(cross / ((one.mT @ one).norm() * (two.mT @ two).norm()).clamp_min(1e-30))


def _own(part: Tensor, dtype: torch.dtype) -> Tensor:
    """With a storage of its own size: a slice would keep all singular vectors alive."""
    return torch.empty(part.shape, dtype=dtype, device=part.device).copy_(part)
