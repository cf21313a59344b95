"""Which factored tokens a query needs: those of the chunks whose mean key it looks at most.

xKV, second version of arXiv 2503.18893 (selective reconstruction), after ShadowKV, arXiv 2410.21465. Tokens are taken
in chunks of eight; a chunk's landmark is the mean of its rotated keys, for each layer and head. Always read are the
last four chunks, the rest that fills none, and the chunks that their landmark stands for worst: some member of theirs
looks another way. Of the others, a query reads the chunks whose landmarks it gives the most weight to.

What is unusual: landmarks come from rebuilt keys, so that they follow when a tail is folded in, and the chunks that are
always read are rebuilt like those that are chosen instead of being kept a second time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional as F

from lamina.activation.budgeted.reading import FactoredLayer

CHUNK = 8
_LOCAL = 4  # last chunks that are always read
_OUTLIERS = 24 / 1024  # chunks that landmarks stand for badly, by tokens that may be chosen


@dataclass(frozen=True, slots=True, eq=False)
class Landmarks:
    """``means (b, H_kv, c, d)``; ``always (b, H_kv, a)``: chunks that are read whatever is asked; ``hidden (b, H_kv,
    c)``: those and chunks of padding alone, which are not chosen from."""

    means: Tensor
    always: Tensor
    hidden: Tensor
    count: int
    chosen: int

    @classmethod
    def of(cls, layer: FactoredLayer, tokens: int) -> Self | None:
        """For choosing ``tokens`` at a time; ``None`` where that would be all there are."""
        chunks, outliers = layer.count // CHUNK, round(tokens * _OUTLIERS)
        if chunks - _LOCAL - outliers <= max(tokens // CHUNK, 1):
            return None
        means, worst = [], []
        for at, keys in layer.blocks():
            whole, seen = _chunks(keys), _chunks(layer.turning.places[:, None, at, None])[..., 0] >= 0
            mean = (whole * seen[..., None]).sum(3) / seen.sum(3).clamp_min(1)[..., None]
            likeness = F.cosine_similarity(whole, mean[:, :, :, None], dim=-1)
            means.append(mean)
            worst.append(likeness.masked_fill(~seen, 1).amin(-1))
        likeness = torch.cat(worst, 2)
        likeness[:, :, chunks - _LOCAL :] = 2  # read in any case
        odd = likeness.topk(outliers, -1, largest=False).indices
        local = torch.arange(chunks - _LOCAL, chunks).expand(*odd.shape[:2], -1)
        always = torch.cat([odd, local], -1)
        empty = (_chunks(layer.turning.places[:, None, :, None])[..., 0] < 0).all(-1)
        hidden = empty.repeat(1, likeness.shape[1], 1).scatter_(2, always, True)
        return cls(torch.cat(means, 2), always, hidden, layer.count, max(tokens // CHUNK, 1))

    @property
    def nbytes(self) -> int:
        """Live bytes."""
        return sum(part.untyped_storage().nbytes() for part in (self.means, self.always, self.hidden))

    def tokens(self, query: Tensor) -> Tensor:
        """``(b, H_kv, t)``: what a scaled ``query (b, H_kv, g, d)`` reads; of its heads the keenest counts."""
        scores = (query @ self.means.mT).masked_fill(self.hidden[:, :, None], -torch.inf)
        keen = scores.softmax(-1).nan_to_num(0).amax(2).masked_fill(self.hidden, -1)
        chunks = torch.cat([self.always, keen.topk(self.chosen, -1).indices], -1)
        found = (chunks[..., None] * CHUNK + torch.arange(CHUNK, device=chunks.device)).flatten(2)
        rest = torch.arange(self.count // CHUNK * CHUNK, self.count, device=chunks.device)
        return torch.cat([found, rest.expand(*found.shape[:2], -1)], -1)


def _chunks(x: Tensor) -> Tensor:
    """``(b, H, n, d)`` as ``(b, H, n // 8, 8, d)``, without the rest."""
    count = x.shape[2] // CHUNK
    return x[:, :, : count * CHUNK].reshape(*x.shape[:2], count, CHUNK, x.shape[3])
