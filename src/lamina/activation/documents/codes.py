"""Vector quantisation of soft memories: a token is the number of the nearest code instead of its coordinates.

After MBC (arXiv 2601.00756), which quantises a bank of memories with 512 codes. There the codes follow the compressor
while it is trained (a commitment loss, moving averages); here a finished bank is coded, so they are what such
averages converge to, the means of their own tokens: k-means (Lloyd), where a code that nothing chose starts again at
the token that is coded worst.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from lamina.errors import InvalidInput

_ROUNDS = 25
_MOST_CODES = 1 << 15  # what an int16 counts


@dataclass(frozen=True, slots=True, eq=False)
class Codebook:
    """``codes`` (count, width) float16: what a token may be."""

    codes: Tensor

    @classmethod
    def fit(cls, tokens: Tensor, *, codes: int = 512, seed: int = 0) -> Self:
        """The codebook of ``tokens`` (n, width): ``codes`` of them, fewer if there are fewer tokens.

        Raises ``InvalidInput`` for no tokens and for ``codes`` outside 1 to 32768.
        """
        if not 1 <= codes <= _MOST_CODES:
            raise InvalidInput(f"codes={codes!r} must be from 1 to {_MOST_CODES}")
        if not len(tokens):
            raise InvalidInput("tokens is empty: there is nothing to learn codes from; write documents first")
        generator = torch.Generator().manual_seed(seed)
        return cls(_means(tokens.detach().float(), min(codes, len(tokens)), generator).half())

    @property
    def nbytes(self) -> int:
        """Bytes of the storage behind the codes."""
        return self.codes.untyped_storage().nbytes()

    @property
    def version(self) -> str:
        """Hash of the codes: numbers mean nothing to another codebook."""
        digest = hashlib.sha256(f"{tuple(self.codes.shape)}".encode())
        digest.update(self.codes.contiguous().view(-1).view(torch.uint8).numpy().data)
        return digest.hexdigest()[:16]

    def encode(self, tokens: Tensor) -> Tensor:
        """Numbers (n,) int16 of the codes nearest to ``tokens`` (n, width); the first of equals."""
        return _distances(tokens.float(), self.codes.float()).argmin(1).to(torch.int16)

    def decode(self, numbers: Tensor) -> Tensor:
        """Float32 tokens (..., width) of ``numbers`` (...)."""
        return self.codes[numbers.long()].float()


def _means(points: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """``count`` centres (count, size) of ``points`` (n, size), each the mean of the points nearest to it."""
    centres = points[torch.randperm(len(points), generator=generator)[:count]]
    for _ in range(_ROUNDS):
        distances, nearest = _distances(points, centres).min(1)
        sizes = torch.bincount(nearest, minlength=count)
        sums = torch.zeros_like(centres).index_add_(0, nearest, points)
        moved = torch.where(sizes[:, None] > 0, sums / sizes.clamp(min=1)[:, None], centres)
        dead = (sizes == 0).nonzero()[:, 0]
        moved[dead] = points[distances.argsort(descending=True, stable=True)[: len(dead)]]
        if torch.equal(moved, centres):
            break
        centres = moved
    return centres


def _distances(points: Tensor, centres: Tensor) -> Tensor:
    """Euclidean (n, count); by differences, since products lose the small distances that decide."""
    return torch.cdist(points, centres, compute_mode="donot_use_mm_for_euclid_dist")
