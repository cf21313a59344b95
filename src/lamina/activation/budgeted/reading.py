"""What one layer reads of its group's factors: keys rebuilt block by block, values never.

Positions stand between a query and the factors of keys, so keys are rebuilt, ``r e`` multiplications a token; scores
are all that stays of a block. Values need no rebuilding: ``p V = (p A) B``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from lamina.activation.budgeted.factors import Factors
from lamina.tensors.rotary import Rotary

_TOKENS = 512  # rebuilt at once, a multiple of every chunk: keys of a block stay in a processor's cache


@dataclass(frozen=True, slots=True, eq=False)
class Turning:
    """Positions of the factored tokens: ``places (b, n)``, -1 for padding, and the tables of all rows, one behind the
    other, ``(b n, width / 2)``; ``rotary`` ``None``: keys carry no positions."""

    places: Tensor
    rotary: Rotary | None
    cos: Tensor
    sin: Tensor

    @classmethod
    def of(cls, places: Tensor, rotary: Rotary | None) -> Turning:
        if rotary is None:
            return cls(places, None, *(torch.empty(0),) * 2)
        return cls(places, rotary, *rotary.tables(places.clamp_min(0).flatten()))

    @property
    def nbytes(self) -> int:
        """Of the tables."""
        return self.cos.untyped_storage().nbytes() + self.sin.untyped_storage().nbytes()

    def block(self, x: Tensor, at: slice) -> Tensor:
        """``x (b, H, t, d)`` at the tokens of a slice, positions on."""
        if self.rotary is None:
            return x
        count = self.places.shape[1]
        rows = [
            self.rotary.turn(row, *(table[n * count :][at] for table in (self.cos, self.sin)))
            for n, row in enumerate(x)
        ]
        return torch.stack(rows)

    def chosen(self, x: Tensor, at: Tensor) -> Tensor:
        """``x (b, H, t, d)`` at tokens ``at (b, H, t)``."""
        if self.rotary is None:
            return x
        first = torch.arange(len(at), device=at.device)[:, None, None] * self.places.shape[1]
        flat = (at + first).flatten()
        tables = (table.index_select(0, flat) for table in (self.cos, self.sin))
        return self.rotary.turn(x.reshape(len(flat), -1), *tables).view_as(x)


@dataclass(frozen=True, slots=True, eq=False)
class FactoredLayer:
    """Layer ``number`` of the ``size`` that share ``keys`` and ``values`` (``None``: values are not factored), of
    ``heads`` key-value heads."""

    keys: Factors
    values: Factors | None
    number: int
    size: int
    heads: int
    turning: Turning
    dtype: torch.dtype

    @property
    def count(self) -> int:
        return self.keys.count

    def rebuilt(self, at: slice) -> Tensor:
        """Keys ``(b, H_kv, t, d)`` of a slice, rotated."""
        return self._rebuilt(at, self._columns(self.keys))

    def blocks(self) -> Iterator[tuple[slice, Tensor]]:
        """Slices of the tokens and their ``rebuilt`` keys."""
        columns = self._columns(self.keys)
        for start in range(0, self.count, _TOKENS):
            at = slice(start, min(start + _TOKENS, self.count))
            yield at, self._rebuilt(at, columns)

    def all_keys(self) -> Tensor:
        """``(b, H_kv, n, d)``, rotated."""
        width = self.keys.basis.shape[2] // self.size // self.heads
        found = torch.empty((len(self.keys.lost), self.heads, self.count, width), dtype=self.dtype)
        for at, keys in self.blocks():
            found[:, :, at] = keys
        return found

    def all_values(self) -> Tensor:
        """``(b, H_kv, n, d)``."""
        assert self.values is not None
        return self._split(self.values.coefficients @ self._columns(self.values))

    def scores(self, query: Tensor) -> Tensor:
        """``(b, H_kv, g, n)`` of a scaled ``query (b, H_kv, g, d)`` and every key."""
        found = query.new_empty((*query.shape[:3], self.count))
        for at, keys in self.blocks():
            found[..., at] = query @ keys.mT
        return found

    def answer(self, weights: Tensor) -> Tensor:
        """``(b, H_kv, g, d)``: values by ``weights (b, H_kv, g, n)``."""
        assert self.values is not None
        mixed = weights.flatten(1, 2) @ self.values.coefficients  # all heads at once: coefficients are read once
        answer: Tensor = mixed.view(*weights.shape[:3], -1) @ self._heads(self.values)
        return answer

    def chosen_scores(self, query: Tensor, at: Tensor) -> Tensor:
        """``(b, H_kv, g, t)`` of ``query`` and the keys of tokens ``at (b, H_kv, t)`` alone."""
        keys = self.turning.chosen(self.keys.chosen(at) @ self._heads(self.keys), at).to(self.dtype)
        scores: Tensor = query @ keys.mT
        return scores

    def chosen_answer(self, weights: Tensor, at: Tensor) -> Tensor:
        """``(b, H_kv, g, d)``: values of tokens ``at`` by ``weights (b, H_kv, g, t)``."""
        assert self.values is not None
        answer: Tensor = (weights @ self.values.chosen(at)) @ self._heads(self.values)
        return answer

    def _rebuilt(self, at: slice, columns: Tensor) -> Tensor:
        return self.turning.block(self._split(self.keys.part(at) @ columns), at).to(self.dtype)

    def _columns(self, factors: Factors) -> Tensor:
        """``(b, r, e)``: the layer's own of its group's basis."""
        basis = factors.basis
        width = basis.shape[2] // self.size
        return basis[..., self.number * width : (self.number + 1) * width]

    def _heads(self, factors: Factors) -> Tensor:
        """``(b, H_kv, r, d)``: the same, by heads."""
        return self._split(self._columns(factors))

    def _split(self, flat: Tensor) -> Tensor:
        """``(b, n, H d)`` as ``(b, H, n, d)``."""
        return flat.view(*flat.shape[:2], self.heads, -1).transpose(1, 2)
