"""One layer of a cache that evicts: keys and values of the tokens it keeps, where they stood, and what they scored.

What transformers needs to know of it: its length is the number of tokens *seen*, so that positions go on rightly after
an eviction; what is stored is shorter. Each key-value head keeps its own tokens. Eviction copies what is kept, so that
the memory of the rest is free at once.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from transformers.cache_utils import CacheLayerMixin

from lamina.errors import InvalidInput
from lamina.tensors.quantize import Rows, dequantize, quantize


class EvictingLayer(CacheLayerMixin):
    """``keys``, ``values`` ``(b, H_kv, n, d)`` with rotated keys; ``positions (b, H_kv, n)`` int32, -1 for padding;
    ``scores (b, H_kv, m)`` of the oldest ``m`` tokens, in the order of their positions.

    With ``bits`` keys and values are rounded, each token's by itself, when the layer has read (``settle``); ``keys``
    and ``values`` are then there only while it reads.
    """

    is_croppable = False
    keys: Tensor
    values: Tensor

    def __init__(self, bits: int | None = None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.bits = bits
        self.seen = 0
        self.positions = torch.empty(0)
        self.scores = torch.empty(0)
        self.rounded: tuple[Rows, Rows] | None = None  # of keys and of values

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        self.dtype, self.device = key_states.dtype, key_states.device
        rows, heads = key_states.shape[:2]
        self.keys, self.values = key_states[:, :, :0].clone(), value_states[:, :, :0].clone()
        self.positions = torch.empty((rows, heads, 0), dtype=torch.int32, device=self.device)
        self.scores = torch.empty((rows, heads, 0), dtype=torch.float32, device=self.device)
        if self.bits is not None:
            self.rounded = (quantize(self.keys, self.bits), quantize(self.values, self.bits))
        self.is_initialized = True

    def update(self, key_states: Tensor, value_states: Tensor, *args: Tensor | None) -> tuple[Tensor, Tensor]:
        """Everything stored and the new ones behind it. One more argument: ``places (b, q)``, where they stand, -1 for
        padding; without it they stand right after those seen."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        rows, heads, count = key_states.shape[:3]
        (places,) = args or (None,)
        if places is None:
            places = torch.arange(self.seen, self.seen + count, dtype=torch.int32, device=self.device)[None]
        before = (self.keys, self.values) if self.rounded is None else self._dense(self.rounded)
        self.keys = torch.cat([before[0], key_states], -2)
        self.values = torch.cat([before[1], value_states], -2)
        self.positions = torch.cat([self.positions, places[:, None].expand(rows, heads, count)], -1)
        self.seen += count
        return self.keys, self.values

    def restore(
        self,
        dtype: torch.dtype,
        seen: int,
        positions: Tensor,
        scores: Tensor,
        keys: Tensor | Rows,
        values: Tensor | Rows,
    ) -> None:
        """Take up what a layer with the same ``bits``, of a model of ``dtype``, held after ``seen`` tokens."""
        self.lazy_initialization(*(part if isinstance(part, Tensor) else dequantize(part).to(dtype)
                                   for part in (keys, values)))  # fmt: skip
        if isinstance(keys, Rows) and isinstance(values, Rows):
            self.rounded = keys, values
        elif isinstance(keys, Tensor) and isinstance(values, Tensor):
            self.keys, self.values = keys, values
        self.seen, self.positions, self.scores = seen, positions, scores

    def settle(self) -> None:
        """The layer has read: what is new is rounded, and only the rounded form stays. Nothing without ``bits``."""
        if self.rounded is None or self.bits is None:
            return
        count = self.rounded[0].codes.shape[-2]
        new = (quantize(self.keys[:, :, count:], self.bits), quantize(self.values[:, :, count:], self.bits))
        self.rounded = (self.rounded[0].before(new[0], -2), self.rounded[1].before(new[1], -2))
        self.keys, self.values = self.keys[:, :, :0].clone(), self.values[:, :, :0].clone()

    def _dense(self, rounded: tuple[Rows, Rows]) -> tuple[Tensor, Tensor]:
        keys, values = (dequantize(part).to(self.dtype) for part in rounded)
        return keys, values

    @property
    def stored(self) -> int:
        """Tokens of each head."""
        return self.positions.shape[-1] if self.is_initialized else 0

    @property
    def valid(self) -> Tensor | None:
        """``(b, H_kv, n)``: what is no padding; ``None`` if all is."""
        found = self.positions >= 0
        return None if bool(found.all()) else found

    def keep(self, count: int) -> None:
        """Of the scored tokens the best ``count`` of each head, and all that have no score yet; the rest is freed.
        Settled before."""
        scored = self.scores.shape[-1]
        if count >= scored:
            return
        ranked = self.scores.masked_fill(self.positions[..., :scored] < 0, -torch.inf)
        best = ranked.topk(count, -1).indices.sort(-1).values
        late = torch.arange(scored, self.stored, device=self.device).expand(*best.shape[:2], -1)
        chosen = torch.cat([best, late], -1)
        if self.rounded is None:
            self.keys, self.values = _taken(self.keys, chosen), _taken(self.values, chosen)
        else:
            keys, values = self.rounded
            self.rounded = keys.map(partial(_taken, chosen=chosen)), values.map(partial(_taken, chosen=chosen))
        self.positions, self.scores = self.positions.gather(-1, chosen), self.scores.gather(-1, best)

    @property
    def nbytes(self) -> int:
        """Bytes of the storages behind it; its tensors share none."""
        parts = (self.keys, self.values, self.positions, self.scores) if self.is_initialized else ()
        rounded = sum(part.nbytes for part in self.rounded or ())
        return rounded + sum(part.untyped_storage().nbytes() for part in parts)

    # -- what transformers asks ------------------------------------------------------------------

    def get_seq_length(self) -> int:
        return self.seen

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.stored + query_length, self.seen - self.stored

    def get_max_length(self) -> int:
        return -1

    def reset(self) -> None:
        self.__init__(self.bits)  # type: ignore[misc]

    def crop(self, tokens_to_remove: int) -> None:
        raise InvalidInput(f"crop({tokens_to_remove}): an evicting cache cannot go back; what it evicted is gone")

    def reorder_cache(self, beam_idx: Tensor) -> None:
        self._rows(lambda part: part.index_select(0, beam_idx.to(part.device)))

    def batch_repeat_interleave(self, repeats: int) -> None:
        self._rows(lambda part: part.repeat_interleave(repeats, 0))

    def batch_select_indices(self, indices: Tensor) -> None:
        self._rows(lambda part: part[indices])

    def _rows(self, choose: Callable[[Tensor], Tensor]) -> None:
        if self.is_initialized:
            for name in ("keys", "values", "positions", "scores"):
                setattr(self, name, choose(getattr(self, name)))
        if self.rounded is not None:
            self.rounded = self.rounded[0].map(choose), self.rounded[1].map(choose)


def _taken(states: Tensor, chosen: Tensor) -> Tensor:
    return states.gather(-2, chosen[..., None].expand(*chosen.shape, states.shape[-1]))
