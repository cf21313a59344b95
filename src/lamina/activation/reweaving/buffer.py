"""The buffer of Contextual Memory Reweaving: which tokens are retained, and which of them each position may read.

A token is a candidate once it has left the attention window; it enters if its salience beats the smallest one
retained, and salience fades by ``DECAY`` a step. All that is retained fades alike, so the order of two tokens never
changes: it is that of ``salience * DECAY ** -position``, and what is retained at any time is simply the ``K`` strongest
of all candidates so far. So a chunk of many positions needs no loop over them, and reading in chunks retains, and
reads, exactly what reading token by token does.

A position ``i`` reads a slot ``j`` only if ``j < i - window``: nothing that attention still sees, and nothing later.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Self

import torch
from torch import Tensor

DECAY = 0.999
EMPTY = -1  # position of a place that holds nothing


@dataclass(frozen=True, slots=True, eq=False)
class Kept:
    """Tokens of ``B`` texts, in the order of each text; places with position -1 hold nothing.

    ``positions`` and ``ids`` int32 ``(B, n)``, ``salience`` as it was when the token was read, ``attended`` float32
    how many positions' worth of reading each has had, all ``(B, n)``; ``codes`` ``(B, n, layers, code_dim)``.
    """

    positions: Tensor
    ids: Tensor
    salience: Tensor
    attended: Tensor
    codes: Tensor

    @classmethod
    def empty(cls, codes: Tensor) -> Self:
        """Nothing, with room for ``codes`` ``(B, n, layers, code_dim)``, of their dtype and device."""
        flat = codes[..., 0, 0]
        return cls(
            torch.full_like(flat, EMPTY, dtype=torch.int32),
            torch.zeros_like(flat, dtype=torch.int32),
            torch.zeros_like(flat, dtype=torch.promote_types(codes.dtype, torch.float32)),
            torch.zeros_like(flat, dtype=torch.float32),
            torch.zeros_like(codes),
        )

    def __len__(self) -> int:
        """Places, taken or not."""
        return self.positions.shape[1]

    @property
    def tensors(self) -> dict[str, Tensor]:
        """All of them, by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def joined(self, other: Kept) -> Kept:
        """These and then ``other``."""
        theirs = other.tensors
        return Kept(**{name: torch.cat([mine, theirs[name]], 1) for name, mine in self.tensors.items()})

    def part(self, places: slice) -> Kept:
        """The same ``places`` of every text; shares memory."""
        return Kept(**{name: tensor[:, places] for name, tensor in self.tensors.items()})

    def taken(self, places: Tensor) -> Kept:
        """``places`` ``(B, n)`` of each text; new tensors."""
        across = places[:, :, None, None].expand(-1, -1, *self.codes.shape[2:])
        flat = {name: tensor.gather(1, places) for name, tensor in self.tensors.items() if name != "codes"}
        return Kept(**flat, codes=self.codes.gather(1, across))

    def ordered(self) -> Kept:
        """By position; what is empty stands first."""
        return self.taken(self.positions.argsort(dim=1, stable=True))

    def strongest(self, count: int, now: int) -> Kept:
        """The ``count`` most salient at step ``now``, of equal ones the earlier; still in the order of the text."""
        if len(self) <= count:
            return self
        chosen = self.ranked(now)[:, :count].sort(dim=1).values
        return self.taken(chosen)

    def ranked(self, now: int) -> Tensor:
        """Places ``(B, n)``, the strongest first, empty ones last."""
        faded = fade(self.salience.detach().double(), now - self.positions)
        return faded.masked_fill(self.positions == EMPTY, -torch.inf).argsort(dim=1, descending=True, stable=True)

    def readable(self, slots: int, window: int, first: int, count: int) -> Tensor:
        """Bool ``(B, count, n)``: whether the position ``first + i`` reads a place.

        It does if the place is among the ``slots`` strongest of what lies before its window.
        """
        now = torch.arange(first, first + count, device=self.positions.device)
        behind = (self.positions[:, None] < now[:, None] - window) & (self.positions != EMPTY)[:, None]
        if len(self) <= slots:
            return behind
        order = self.ranked(first)[:, None].expand_as(behind)
        stronger = behind.gather(2, order).cumsum(2)
        return behind & (torch.empty_like(stronger).scatter(2, order, stronger) <= slots)

    def pruned(self, readable: Tensor, least: int) -> tuple[Kept, Tensor]:
        """Only places that someone reads, by ``readable`` ``(B, count, n)``, but ``least`` of them; and its columns.

        Whatever is retained after the chunk its last position reads, but for the token that leaves the window then.
        """
        read = readable.any(1)
        count = max(least, int(read.sum(1).max()))
        if count >= len(self):
            return self, readable
        places = read.byte().argsort(dim=1, descending=True, stable=True)[:, :count].sort(dim=1).values
        return self.taken(places), readable.gather(2, places[:, None].expand(-1, readable.shape[1], -1))


def fade(salience: Tensor, age: Tensor) -> Tensor:
    """``salience`` after ``age`` steps."""
    return salience * DECAY ** age.to(salience.dtype)
