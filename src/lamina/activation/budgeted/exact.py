"""One layer of a cache whose middle is factored elsewhere: the tokens that stay exact, the first and the newest."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import CacheLayerMixin

from lamina.errors import InvalidInput


class ExactLayer(CacheLayerMixin):
    """``keys``, ``values`` ``(b, H_kv, t, d)``: the exact ones, rotated: ``sinks`` first tokens and the tail."""

    is_croppable = False
    keys: Tensor
    values: Tensor

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen = 0

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        self.dtype, self.device = key_states.dtype, key_states.device
        self.keys, self.values = key_states[:, :, :0].clone(), value_states[:, :, :0].clone()
        self.is_initialized = True

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """The exact ones, the new behind them."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        self.keys = torch.cat([self.keys, key_states], -2)
        self.values = torch.cat([self.values, value_states], -2)
        self.seen += key_states.shape[-2]
        return self.keys, self.values

    def drop(self, sinks: int) -> None:
        """Keep the first ``sinks`` alone; the rest is factored."""
        self.keys, self.values = self.keys[:, :, :sinks].clone(), self.values[:, :, :sinks].clone()

    @property
    def nbytes(self) -> int:
        parts = (self.keys, self.values) if self.is_initialized else ()
        return sum(part.untyped_storage().nbytes() for part in parts)

    def get_seq_length(self) -> int:
        return self.seen

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.seen + query_length, 0

    def get_max_length(self) -> int:
        return -1

    def crop(self, tokens_to_remove: int) -> None:
        raise InvalidInput(f"crop({tokens_to_remove}): a factored cache cannot go back")
