"""What travels with a forward pass: which tokens are real, where they stand, and what a layer keeps for the next ones.

It is passed to every block and never stored on one, so that threads, checkpointing of activations and two texts of one
model do not meet. What a block keeps between calls, whatever kind of mixer it is, are named tensors whose first axis is
the row of the batch (``LayerState``): so every cache is reordered, copied, counted and saved by the same few lines.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin

from lamina.errors import InvalidInput


class LayerState(CacheLayerMixin):  # type: ignore[no-untyped-call]
    """The named ``tensors`` that one layer keeps, each ``(batch, ...)``; empty before the first token."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.tensors: dict[str, Tensor] = {}
        self.seen = 0  # columns, padding included

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Nothing to prepare: a block makes what it keeps."""

    def update(self, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        raise InvalidInput("this cache belongs to models of lamina.nn, whose blocks keep what they need themselves")

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.seen + query_length, 0

    def get_seq_length(self) -> int:
        return self.seen

    def get_max_length(self) -> int:
        return -1

    def reset(self) -> None:
        self.tensors, self.seen = {}, 0

    def reorder_cache(self, beam_idx: Tensor) -> None:
        self.batch_select_indices(beam_idx)

    def batch_repeat_interleave(self, repeats: int) -> None:
        self.tensors = {name: tensor.repeat_interleave(repeats, 0) for name, tensor in self.tensors.items()}

    def batch_select_indices(self, indices: Tensor) -> None:
        self.tensors = {name: tensor.index_select(0, indices) for name, tensor in self.tensors.items()}

    def crop(self, tokens_to_remove: int) -> None:
        """Raises ``InvalidInput``: what a recurrent state has read cannot be taken out of it again."""
        raise InvalidInput(f"crop({tokens_to_remove}): these states cannot be cut back; copy the cache beforehand")

    @property
    def nbytes(self) -> int:
        return sum(tensor.nbytes for tensor in self.tensors.values())


class DecodingCache(Cache):
    """What every layer keeps, and how many real tokens each row has read. A transformers ``Cache``."""

    def __init__(self, layers: int) -> None:
        self.states = [LayerState() for _ in range(layers)]
        super().__init__(layers=list(self.states))
        self.lengths: Tensor | None = None  # int64 (batch,)

    def advance(self, mask: Tensor) -> Tensor:
        """Positions int64 ``(batch, time)`` of the tokens of ``mask`` (bool), which follow those read before."""
        ordinals = mask.long().cumsum(1) - 1
        positions = ordinals if self.lengths is None else ordinals + self.lengths[:, None]
        self.lengths = positions[:, -1] + 1
        for state in self.states:
            state.seen += mask.shape[1]
        return positions.clamp(min=0)

    @property
    def nbytes(self) -> int:
        """Bytes of all layers, measured from the tensors."""
        return sum(state.nbytes for state in self.states)

    def reset(self) -> None:
        super().reset()  # type: ignore[no-untyped-call]
        self.lengths = None

    def reorder_cache(self, beam_idx: Tensor) -> None:
        self.batch_select_indices(beam_idx)

    def batch_repeat_interleave(self, repeats: int) -> None:
        super().batch_repeat_interleave(repeats)
        if self.lengths is not None:
            self.lengths = self.lengths.repeat_interleave(repeats)

    def batch_select_indices(self, indices: Tensor) -> None:
        super().batch_select_indices(indices)
        if self.lengths is not None:
            self.lengths = self.lengths[indices]


@dataclass(frozen=True, slots=True)
class BlockContext:
    """Of one forward pass: ``mask`` bool ``(batch, time)``, false where a row is padded (on the left);
    ``positions`` int64 ``(batch, time)``, counted in real tokens; ``state`` of the layer, ``None`` where nothing is
    kept; ``route`` as a block may be told which of its parts to use. Blocks add to ``aux`` (scalars that join the loss)
    and ``stats`` (whatever is worth looking at, by name)."""

    mask: Tensor
    positions: Tensor
    layer: int = 0
    state: LayerState | None = None
    route: Any = None
    aux: list[Tensor] = field(default_factory=list)
    stats: dict[str, Tensor] = field(default_factory=dict)

    def of_layer(self, layer: int, state: LayerState | None) -> BlockContext:
        """The same pass in another layer."""
        return replace(self, layer=layer, state=state)

    @property
    def padded(self) -> bool:
        """Whether any token is padding."""
        return not bool(self.mask.all())

    def tell(self, name: str, value: Tensor) -> None:
        """Keep ``value``, without its graph, as ``stats["LAYER.name"]``."""
        self.stats[f"{self.layer}.{name}"] = value.detach()


def whole(ids: Tensor) -> BlockContext:
    """The context of ``ids`` ``(batch, time, ...)`` without padding and without a cache."""
    batch, time = ids.shape[:2]
    mask = torch.ones(batch, time, dtype=torch.bool, device=ids.device)
    return BlockContext(mask, mask.long().cumsum(1) - 1)
