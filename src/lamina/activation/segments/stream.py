"""A batch of token streams cut into segments, one at a time, so that a long stream is never copied.

Every row is cut from its own first token; only its last segment may be short. Rows end together: a row with fewer
segments begins later, and what a row lacks in front, in its first segments or in its short last one, is padding. So
the last column of a segment is the last token of every row that is in it, and a row reads alike in any batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from lamina.errors import InvalidInput

UNLABELLED = -100  # as transformers marks what no loss is taken of


@dataclass(frozen=True, slots=True, eq=False)
class Segment:
    """``ids`` (B, w) int64, right-aligned, ``mask`` (B, w) bool where they are tokens, ``labels`` (B, w) or None."""

    ids: Tensor
    mask: Tensor
    labels: Tensor | None = None

    def first(self, count: int) -> Segment:
        """The first ``count`` tokens of each row, all of a shorter one, right-aligned."""
        width, lengths = self.ids.shape[1], self.mask.sum(1, keepdim=True)
        taken, kept = lengths.clamp(max=count), min(count, width)
        place = torch.arange(kept, device=self.ids.device) - (kept - taken)  # within the row's tokens
        return Segment(self.ids.gather(1, (place + width - lengths).clamp(min=0)), place >= 0)


@dataclass(frozen=True, slots=True, eq=False)
class Stream:
    """``ids`` (B, T) int64, ``lengths`` of the rows, which end in column T, and ``labels`` (B, T) or None."""

    ids: Tensor
    lengths: tuple[int, ...]
    labels: Tensor | None = None

    @classmethod
    def of(cls, ids: Tensor, attention_mask: Tensor | None, labels: Tensor | None, vocabulary: int) -> Stream:
        """Raises ``InvalidInput`` for no ids of the vocabulary, an empty row, padding that is not on the left, and
        labels or a mask of another shape."""
        if ids.ndim != 2 or not ids.numel() or ids.dtype not in (torch.int64, torch.int32):
            raise InvalidInput(f"input_ids of shape {tuple(ids.shape)} and {ids.dtype}: give token ids (rows, tokens)")
        for name, other in (("attention_mask", attention_mask), ("labels", labels)):
            if other is not None and other.shape != ids.shape:
                raise InvalidInput(
                    f"{name} has shape {tuple(other.shape)}, input_ids {tuple(ids.shape)}: make them equal"
                )
        if int(ids.min()) < 0 or int(ids.max()) >= vocabulary:
            raise InvalidInput(
                f"input_ids reach from {int(ids.min())} to {int(ids.max())}, ids from 0 to {vocabulary - 1}"
            )
        if attention_mask is None:
            return cls(ids.long(), (ids.shape[1],) * len(ids), labels)
        mask = attention_mask.bool()
        if not bool(mask[:, -1].all()) or bool((mask[:, :-1] & ~mask[:, 1:]).any()):
            raise InvalidInput("attention_mask must be 0 on the left of each row and 1 up to its end: pad on the left")
        return cls(ids.long(), tuple(mask.sum(1).tolist()), labels)

    def segments(self, size: int) -> Iterator[Segment]:
        """Of up to ``size`` tokens a row, in order. The label of a row's first token, which nothing predicts, is
        taken off."""
        counts = [-(-length // size) for length in self.lengths]
        for place in range(max(counts)):
            cuts = [self._cut(row, (place - max(counts) + count) * size, size) for row, count in enumerate(counts)]
            width = max(len(cut) for cut in cuts)
            yield self._stacked(cuts, width)

    def _cut(self, row: int, start: int, size: int) -> range:
        """Columns of the tokens ``start`` to ``start + size`` of a row; none before its first."""
        begin, end = self.ids.shape[1] - self.lengths[row], self.ids.shape[1]
        return range(begin + start, min(begin + start + size, end)) if start >= 0 else range(0)

    def _stacked(self, cuts: list[range], width: int) -> Segment:
        ids = self.ids.new_zeros(len(cuts), width)
        mask = torch.zeros_like(ids, dtype=torch.bool)
        labels = None if self.labels is None else torch.full_like(ids, UNLABELLED)
        for row, cut in enumerate(cuts):
            if not cut:
                continue
            columns, place = slice(cut.start, cut.stop), slice(width - len(cut), width)
            ids[row, place], mask[row, place] = self.ids[row, columns], True
            if labels is not None and self.labels is not None:
                labels[row, place] = self.labels[row, columns]
                if cut.start == self.ids.shape[1] - self.lengths[row]:
                    labels[row, place.start] = UNLABELLED
        return Segment(ids, mask, labels)
