"""Truncated SVD of a matrix that grows by rows: coefficients ``A = U S`` and an orthonormal basis ``B = V^T``.

xKV, arXiv 2503.18893, section 3.3. The best rank-``r`` approximation of ``[A B; X]`` needs neither the rows that ``A``
stands for nor a factorisation of anything tall: it follows from the Gram matrix of the side that is smaller, in
float64, since half precision loses the tail of the spectrum.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

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
        return dequantize(self.left).to(self.dtype) if isinstance(self.left, Rows) else self.left

    @property
    def basis(self) -> Tensor:
        return dequantize(self.right).to(self.dtype) if isinstance(self.right, Rows) else self.right

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
        left, right = coefficients / sizes[:, None], basis * sizes[..., None]
        return Factors(quantize(left, bits), quantize(right, bits), self.lost, self.norm, basis.dtype)

    def kept(self, chosen: Tensor, rank: int) -> Factors:
        """Of the rows ``chosen (b, m)`` alone, the best factors of rank ``rank``, as numbers. The error of rows that
        are gone counts as if it were that of those that stay."""
        coefficients, basis = self.coefficients.double(), self.basis.double()
        rows = coefficients.gather(1, chosen[..., None].expand(*chosen.shape, coefficients.shape[2]))
        axes, mixing = torch.linalg.qr(basis.mT)
        core = rows @ mixing.mT
        vectors = torch.linalg.eigh(core.mT @ core).eigenvectors.flip(-1)[..., :rank]
        found, total = core @ vectors, core.square().sum((1, 2))
        error = (total - found.square().sum((1, 2))).clamp_min(0)
        dtype = self.dtype if isinstance(self.left, Rows) else self.left.dtype
        return Factors(
            _own(found, dtype),
            _own(vectors.mT @ axes.mT, dtype),
            self.lost + error,
            self.lost + total,
        )


def factorise(rows: Tensor, rank: int, before: Factors | None = None) -> Factors:
    """The best factors of rank ``rank`` (at most the smaller side) of what ``before`` stands for and ``rows
    (b, t, width)`` behind it, in the dtype of ``rows``."""
    wide = rows.double()
    if before is None:
        stack, gram = wide, wide.mT @ wide
        lost = torch.zeros(len(rows), dtype=torch.float64)
        norm = wide.square().sum((1, 2))
    else:
        coefficients, basis = before.coefficients.double(), before.basis.double()
        stack, gram = wide, basis.mT @ (coefficients.mT @ coefficients) @ basis + wide.mT @ wide
        lost, norm = before.lost, before.norm + wide.square().sum((1, 2))
    count = rows.shape[1] + (0 if before is None else before.count)
    rank = min(rank, count, rows.shape[2])
    if before is None and count < rows.shape[2]:
        vectors = _right_from_left(wide, rank)
    else:
        vectors = torch.linalg.eigh(gram).eigenvectors.flip(-1)[..., :rank]
    found = stack @ vectors
    total = gram.diagonal(dim1=-2, dim2=-1).sum(-1)
    if before is not None:
        found = torch.cat([coefficients @ (basis @ vectors), found], 1)
    error = (total - found.square().sum((1, 2))).clamp_min(0)
    return Factors(
        _own(found, rows.dtype),
        _own(vectors.mT, rows.dtype),
        lost.to(error) + error,
        norm.to(error),
    )


def alignment(first: Tensor, second: Tensor) -> float:
    """Linear centred kernel alignment of two ``(n, width)`` matrices, in [0, 1]: how alike their token bases are
    (section 3.1), whatever their channels are."""
    one, two = (x.double() - x.double().mean(0) for x in (first, second))
    cross = (one.mT @ two).square().sum()
    return float(cross / ((one.mT @ one).norm() * (two.mT @ two).norm()).clamp_min(1e-30))


def _right_from_left(wide: Tensor, rank: int) -> Tensor:
    """Right singular vectors ``(b, width, rank)`` of a matrix with fewer rows than columns. Directions of no length,
    for which any would do, come from a QR that completes the basis."""
    left = torch.linalg.eigh(wide @ wide.mT).eigenvectors.flip(-1)[..., :rank]
    found: Tensor = torch.linalg.qr(wide.mT @ left).Q
    return found


def _own(part: Tensor, dtype: torch.dtype) -> Tensor:
    """With a storage of its own size: a slice would keep all singular vectors alive."""
    return torch.empty(part.shape, dtype=dtype, device=part.device).copy_(part)
