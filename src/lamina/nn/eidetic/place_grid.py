"""Rows of a batch laid out by where their tokens stand, in chunks that begin at the same places however a text is cut.

A block that does something every so many tokens must count real tokens: not columns, which padding shifts, nor calls.
A grid begins, in each row, at the beginning of the chunk that the first new token stands in, and goes as far as the
newest. What has a time axis is taken onto it (``take``) and given back (``give``); the last column of a tensor is
always the newest token of its row, so tensors with some of the past before the new tokens are laid out by the same
line.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor

from lamina.errors import InvalidInput
from lamina.nn.context import BlockContext
from lamina.nn.eidetic.innovation_store import NOWHERE, taken


@dataclass(frozen=True, slots=True, eq=False)
class PlaceGrid:
    """``chunks`` of ``chunk`` places, ``time`` columns are new; int64 ``(batch,)``: ``start``, the first of the places,
    ``first``, where the first new token stands, and ``newest``, the last (``NOWHERE`` in a row that has none)."""

    start: Tensor
    first: Tensor
    newest: Tensor
    chunks: int
    chunk: int
    time: int
    ahead: int | None  # of the newest before the start, where it is the same in all rows

    @classmethod
    def of(cls, ctx: BlockContext, chunk: int) -> Self:
        """Raises ``InvalidInput`` for rows that are padded on the right."""
        if ctx.padded and bool((ctx.mask[:, :-1] & ~ctx.mask[:, 1:]).any()):
            raise InvalidInput("attention_mask has zeros after ones: pad rows on the left (padding_side='left')")
        first = ctx.positions[:, 0]
        newest = ctx.positions[:, -1].where(ctx.mask[:, -1], NOWHERE)
        start = first // chunk * chunk
        least, most = (int(each) for each in (newest - start).aminmax())
        chunks = max(most // chunk + 1, 1)
        return cls(start, first, newest, chunks, chunk, ctx.mask.shape[1], most if least == most else None)

    @property
    def length(self) -> int:
        return self.chunks * self.chunk

    def places(self, low: int, length: int) -> Tensor:
        """int64 ``(batch, length)``: the places from ``low`` after the start; ``NOWHERE`` before the first token of the
        text and after the newest."""
        places = self._from(low, length)
        return places.where((places >= 0) & (places <= self.newest[:, None]), NOWHERE)

    def take(self, tensor: Tensor, low: int, length: int) -> Tensor:
        """``tensor`` ``(batch, columns, ...)`` at the ``places`` of the same arguments; anything at ``NOWHERE``."""
        if self.ahead is not None:
            return _stretch(tensor, low + tensor.shape[1] - 1 - self.ahead, length)
        columns = self._from(low, length) + (tensor.shape[1] - 1 - self.newest[:, None])
        return taken(tensor, columns.clamp(0, tensor.shape[1] - 1))

    def give(self, tensor: Tensor) -> Tensor:
        """``tensor`` ``(batch, length, ...)`` from the start of the grid on, at the new columns ``(batch, time, ...)``;
        anything where a column is padded."""
        if self.ahead is not None:
            return _stretch(tensor, self.ahead + 1 - self.time, self.time)
        ago = torch.arange(self.time - 1, -1, -1, device=tensor.device)
        columns = self.newest[:, None] - ago - self.start[:, None]
        return taken(tensor, columns.clamp(0, tensor.shape[1] - 1))

    def _from(self, low: int, length: int) -> Tensor:
        return self.start[:, None] + torch.arange(low, low + length, device=self.start.device)


def _stretch(tensor: Tensor, first: int, length: int) -> Tensor:
    """``length`` columns from ``first`` on, zeros where there are none: no gathering, whose gradient is slow."""
    columns = tensor.shape[1]
    begin, end = (min(max(each, 0), columns) for each in (first, first + length))
    before = min(max(-first, 0), length)
    return F.pad(tensor[:, begin:end], (0, 0) * (tensor.dim() - 2) + (before, length - before - (end - begin)))
