"""One layer of a cache whose middle is factored elsewhere: the tokens that stay exact, the first and the newest."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from transformers.cache_utils import CacheLayerMixin

from lamina.errors import InvalidInput


class ExactLayer(CacheLayerMixin):
    """``keys``, ``values`` ``(b, H_kv, t, d)``: the exact ones, rotated: ``sinks`` first tokens and the tail; ``places
    (b, t)`` int32: where they stand, -1 for padding. Where values are not factored, they are all here."""

    is_croppable = False
    keys: Tensor
    values: Tensor
    places: Tensor

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen = 0

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        self.dtype, self.device = key_states.dtype, key_states.device
        self.keys, self.values = key_states[:, :, :0].clone(), value_states[:, :, :0].clone()
        self.places = torch.empty((key_states.shape[0], 0), dtype=torch.int32, device=self.device)
        self.is_initialized = True

    def update(self, key_states: Tensor, value_states: Tensor, *args: Tensor | None) -> tuple[Tensor, Tensor]:
        """The exact ones, the new behind them. One more argument: ``places (b, q)``; without it they stand right after
        those seen."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        (places,) = args or (None,)
        rows, _, count, _ = key_states.shape
        if places is None:
            places = torch.arange(self.seen, self.seen + count, dtype=torch.int32, device=self.device)[None]
        self.places = torch.cat([self.places, places.expand(rows, count)], 1)
        self.keys = torch.cat([self.keys, key_states], -2)
        self.values = torch.cat([self.values, value_states], -2)
        self.seen += count
        return self.keys, self.values

    def restore(self, seen: int, keys: Tensor, values: Tensor, places: Tensor) -> None:
        """Take up what a layer held after ``seen`` tokens."""
        self.lazy_initialization(keys, values)
        self.seen, self.keys, self.values, self.places = seen, keys, values, places

    def drop_keys(self, sinks: int) -> None:
        """Keep the first ``sinks`` alone; the rest is factored. Places go with their keys."""
        self.keys, self.places = self.keys[:, :, :sinks].clone(), self.places[:, :sinks].clone()

    def drop_values(self, sinks: int) -> None:
        self.values = self.values[:, :, :sinks].clone()

    def rows(self, choose: Callable[[Tensor], Tensor]) -> None:
        """``choose`` rows of the batch."""
        if self.is_initialized:
            self.keys, self.values, self.places = choose(self.keys), choose(self.values), choose(self.places)

    @property
    def nbytes(self) -> int:
        parts = (self.keys, self.values, self.places) if self.is_initialized else ()
        return sum(part.untyped_storage().nbytes() for part in parts)

    def get_seq_length(self) -> int:
        return self.seen

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.seen + query_length, 0

    def get_max_length(self) -> int:
        return -1

    def crop(self, tokens_to_remove: int) -> None:
        raise InvalidInput(f"crop({tokens_to_remove}): a factored cache cannot go back")
