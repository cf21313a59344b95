"""Tokens that go to some of several memories: which stands where, and the gated delta rule along each memory's own.

A (row, memory) segment is what a memory is given of a row, in the order of time. Segments lie side by side in one
padded block, so that all memories of all rows are written at once and the work is that of the routed tokens. Nothing
crosses from one segment into the next, and one that is given nothing stays as it was: it does not even fade.

Blocks are as long as whole chunks, and products are of whole tiles of rows: matrix libraries round a row differently in
a product of another shape, and where later tokens go shall not change a bit of what earlier ones say.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from lamina.nn.linear_recurrence import CHUNK, gated_delta_chunk, gated_delta_step

_TILE = 8  # rows


@dataclass(frozen=True, slots=True, eq=False)
class Segments:
    """Routed tokens as ``entries``, int64 ``(n,)`` each, in the order of memory, then row, then time.

    ``token`` is ``row * time + t``, ``segment`` is ``row * memories + memory``, ``place`` counts within the segment;
    ``lengths`` int64 ``(batch, memories)``; ``counts``: entries of each memory; ``length`` of a block: the longest
    segment, up to a whole number of chunks or ``time``.
    """

    token: Tensor
    segment: Tensor
    place: Tensor
    lengths: Tensor
    counts: tuple[int, ...]
    batch: int
    time: int
    length: int

    @classmethod
    def of(cls, chosen: Tensor, mask: Tensor, memories: int, *, chunk: int = CHUNK) -> Segments:
        """Of ``chosen`` int64 ``(batch, time, k)``, distinct memories of each token, where ``mask`` is true."""
        batch, time = mask.shape
        routed = torch.zeros(batch, time, memories, dtype=torch.bool, device=mask.device)
        routed = routed.scatter(2, chosen, True) & mask[..., None]
        # nonzero goes through its axes in order: a sort by memory and row that could not be more stable in time.
        memory, row, t = routed.permute(2, 0, 1).nonzero(as_tuple=True)
        place = (routed.long().cumsum(1) - 1)[row, t, memory]
        lengths = routed.sum(1)
        counts = tuple(lengths.sum(0).tolist())
        length = min(time, -(-max(1, int(lengths.max())) // chunk) * chunk)
        return cls(row * time + t, row * memories + memory, place, lengths, counts, batch, time, length)

    @property
    def memories(self) -> int:
        return self.lengths.shape[1]

    @property
    def memory(self) -> Tensor:
        """int64 ``(n,)``."""
        return self.segment % self.memories

    @property
    def row(self) -> Tensor:
        """int64 ``(n,)``."""
        return self.segment // self.memories

    @property
    def real(self) -> Tensor:
        """bool ``(batch, memories, length)``: what of a block is no padding."""
        return torch.arange(self.length, device=self.lengths.device) < self.lengths[..., None]

    def take(self, x: Tensor) -> Tensor:
        """``(batch, time, ...)`` to entries ``(n, ...)``."""
        return x.flatten(0, 1).index_select(0, self.token)

    def add(self, entries: Tensor) -> Tensor:
        """``(n, channels)`` to ``(batch, time, channels)``: the sum of the entries of each token."""
        y = entries.new_zeros(self.batch * self.time, entries.shape[1]).index_add(0, self.token, entries)
        return y.view(self.batch, self.time, -1)

    def pack(self, entries: Tensor) -> Tensor:
        """``(n, ...)`` to ``(batch, memories, length, ...)``, zeros after the end of a segment."""
        block = entries.new_zeros(self.batch * self.memories * self.length, *entries.shape[1:])
        block = block.index_copy(0, self.segment * self.length + self.place, entries)
        return block.view(self.batch, self.memories, self.length, *entries.shape[1:])

    def unpack(self, block: Tensor) -> Tensor:
        """What ``pack`` made, back to entries."""
        return block.flatten(0, 2).index_select(0, self.segment * self.length + self.place)

    def project(self, x: Tensor, weights: Tensor) -> Tensor:
        """``(batch, time, width)`` to entries ``(n, out)``, each by the matrix of its own memory, of ``weights``
        ``(memories, out, width)``; with one matrix for all each token is projected once."""
        if len(weights) == 1:
            return self.take(F.linear(x, weights[0]))
        parts = self.take(x).split(self.counts)  # type: ignore[no-untyped-call]
        return torch.cat([self._product(part, weight) for part, weight in zip(parts, weights, strict=True)])

    def _product(self, rows: Tensor, weight: Tensor) -> Tensor:
        missing = -len(rows) % _TILE if self.time > 1 else 0
        return F.linear(F.pad(rows, (0, 0, 0, missing)), weight)[: len(rows)]


def remember(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    b: Tensor,
    a: Tensor,
    segments: Segments,
    states: Tensor | None = None,
    *,
    chunk: int = CHUNK,
) -> tuple[Tensor, Tensor]:
    """The gated delta rule along every segment: blocks ``q``, ``k`` ``(batch, memories, length, heads, dk)``, ``v``
    ``(..., heads, dv)``, ``b``, ``a`` ``(..., heads)``, on ``states`` ``(batch, memories, heads, dk, dv)`` (default:
    zeros). Nothing is written after the end of a segment, whatever stands there.

    Returns what the entries read ``(n, heads, dv)``, and the new states, float32 or float64. A single token after
    others reads and writes the states of its own memories alone, without gradients *in place*: copy a state to keep it.
    """
    if segments.time == 1 and states is not None:
        at = (segments.row, segments.memory)
        q, k, v, b, a = (segments.unpack(each) for each in (q, k, v, b, a))
        read, new = gated_delta_step(q, k, v, b, a, states[at])
        if torch.is_grad_enabled() or (states.is_inference() and not torch.is_inference_mode_enabled()):
            return read, states.to(new.dtype).index_put(at, new)
        return read, states.index_put_(at, new)
    real = segments.real[..., None]
    q, k, v, b, a = (each.transpose(2, 3) for each in (q, k, v, b * real, a * real))
    block, states = gated_delta_chunk(q, k, v, b, a, states, chunk=chunk)
    return segments.unpack(block.transpose(2, 3)), states
