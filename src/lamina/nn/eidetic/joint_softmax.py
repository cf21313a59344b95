"""Queries in chunks of places that see keys of several sources under one softmax.

Weights of separate softmaxes would say how near a key is among its own kind alone. Here all logits of a query stand in
one row, in float32 at least: in half precision the weights of a faint source are lost beside a strong one. A chunk of
queries sees one block of keys of each source, so time goes by chunks and costs grow with the text by a line.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Self

import torch
from torch import Tensor

from lamina.nn.attention import rotate
from lamina.nn.eidetic.place_grid import PlaceGrid


class Source(NamedTuple):
    """Keys as queries see them: ``logits`` ``(batch, chunks, kv_heads, queries of a group, keys)``, ``values``
    ``(batch, chunks, kv_heads, keys, head_dim)``, ``seen`` bool ``(batch, chunks, chunk, keys)``."""

    logits: Tensor
    values: Tensor
    seen: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Asking:
    """Queries on their grid: ``turned`` to their places ``(batch, chunks, kv_heads, queries of a group, head_dim)``,
    and as they were ``asked``, ``(batch, grid.length, heads, head_dim)``.

    What they see are ``pairs``, keys without positions and values, ``(batch, time, 2, kv_heads, head_dim)``.
    """

    asked: Tensor
    turned: Tensor
    grid: PlaceGrid
    theta: float

    @classmethod
    def of(cls, asked: Tensor, kv_heads: int, grid: PlaceGrid, theta: float) -> Self:
        """``asked`` ``(batch, time, heads, head_dim)`` are the queries of the new tokens."""
        asked = grid.take(asked, 0, grid.length)
        return cls(asked, _turned(asked, grid.places(0, grid.length).clamp(min=0), theta, kv_heads, grid), grid, theta)

    def near(self, pairs: Tensor, window: int, back: int = 0) -> Source:
        """The ``window`` keys that end ``back`` places before the query. The last of ``pairs`` is the newest token."""
        every = self.grid.chunk
        size, low = window + every - 1, 1 - window - back
        length = size + self.grid.length - every
        places = self.grid.places(low, length)
        keys, values = self.grid.take(pairs, low, length).transpose(1, 3).unbind(2)
        keys = rotate(keys, places.clamp(min=0), self.theta)
        keys, values = (each.unfold(2, size, every).transpose(1, 2) for each in (keys, values))
        query, key = (torch.arange(count, device=pairs.device) for count in (every, size))
        ahead = key - query[:, None]
        seen = (ahead >= 0) & (ahead < window) & (places >= 0).unfold(1, size, every)[:, :, None]
        return Source(self.turned @ keys, values.mT, seen)

    def of_chunks(self, pairs: Tensor, places: Tensor, farthest: int | None = None) -> Source:
        """Keys that all queries of a chunk see: ``pairs`` and ``places`` of ``chunks * keys``, below 0 where there is
        none. A key further away than ``farthest`` is seen as if it were so far."""
        plain, values = pairs.transpose(1, 3).unbind(2)
        turned = rotate(plain, places.clamp(min=0), self.theta)
        plain, turned, values = (_by_chunk(each, 2, self.grid).transpose(1, 2) for each in (plain, turned, values))
        logits = self.turned @ turned.mT
        stood = _by_chunk(places, 1, self.grid)[:, :, None]
        if farthest is not None:
            query = _by_chunk(self.grid.places(0, self.grid.length), 1, self.grid)[..., None]
            beyond = (query - stood > farthest)[:, :, None].repeat(1, 1, 1, logits.shape[3] // self.grid.chunk, 1)
            so_far = _turned(
                self.asked, torch.full_like(query[..., 0].flatten(1), farthest), self.theta, pairs.shape[3], self.grid
            )
            logits = torch.where(beyond, so_far @ plain.mT, logits)
        return Source(logits, values, (stood >= 0).expand(-1, -1, self.grid.chunk, -1))


def mixed(sources: list[Source]) -> Tensor:
    """What each query finds in all sources together: ``(batch, chunks * chunk, heads * head_dim)``."""
    logits = torch.cat([source.logits for source in sources], dim=-1)
    seen = torch.cat([source.seen for source in sources], dim=-1)
    wide = logits if logits.dtype == torch.float64 else logits.float()
    by_query = torch.unflatten(wide, 3, (-1, seen.shape[2]))
    # The lowest number, not -inf: a place without a query sees nothing, and must not become no number.
    masked = by_query.masked_fill(~seen[:, :, None, None], torch.finfo(wide.dtype).min)
    shares = masked.softmax(-1).to(logits.dtype).flatten(3, 4)
    found = torch.unflatten(shares @ torch.cat([source.values for source in sources], dim=3), 3, (-1, seen.shape[2]))
    return found.permute(0, 1, 4, 2, 3, 5).flatten(1, 2).flatten(2)


def _turned(asked: Tensor, places: Tensor, theta: float, kv_heads: int, grid: PlaceGrid) -> Tensor:
    """Turned by ``places`` ``(batch, length)``, scaled, and parted by chunks and groups of heads."""
    query = rotate(asked.transpose(1, 2), places, theta) * asked.shape[-1] ** -0.5
    parted = _by_chunk(torch.unflatten(query, 1, (kv_heads, -1)), 3, grid)
    return parted.permute(0, 3, 1, 2, 4, 5).flatten(3, 4)


def _by_chunk(tensor: Tensor, axis: int, grid: PlaceGrid) -> Tensor:
    return torch.unflatten(tensor, axis, (grid.chunks, -1))
