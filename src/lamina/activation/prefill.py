"""Between a model and kept tensors: hand it a prefix, let it read on, take back what it left."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from lamina._optional import require
from lamina.activation.eligibility import fresh
from lamina.errors import InvalidInput

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import DynamicCache

    from lamina.cube.payload import Fingerprint
    from lamina.llm.causal import CausalLM


class Prefix(Protocol):
    """A read prefix, as ``KVCube`` describes it; what storing and testing need to know of one."""

    @property
    def ids(self) -> tuple[int, ...]: ...
    @property
    def keys(self) -> tuple[Tensor, ...]: ...
    @property
    def values(self) -> tuple[Tensor, ...]: ...
    @property
    def logits(self) -> Tensor: ...
    @property
    def fingerprint(self) -> Fingerprint: ...
    def unrotated(self, layer: int) -> Tensor: ...


def checked_ids(lm: CausalLM, ids: Sequence[int], *, before: int = 0) -> tuple[int, ...]:
    """``ids`` as integers. Raises ``InvalidInput`` as ``KVCube.build`` says; ``before`` tokens stand before them."""
    try:
        checked = tuple(operator.index(id) for id in ids)
    except TypeError as error:
        raise InvalidInput("ids must be the token ids of one text, not of a batch: give a flat list") from error
    vocabulary = int(lm.model.config.vocab_size)
    if not checked:
        raise InvalidInput("ids are empty; give at least one token id")
    if wrong := [id for id in checked if not 0 <= id < vocabulary]:
        raise InvalidInput(f"ids hold {wrong[0]}, which is no token of {lm.name}: it has 0 to {vocabulary - 1}")
    if before + len(checked) > lm.limit:
        raise InvalidInput(f"ids make {before + len(checked)} tokens, over the {lm.limit} that {lm.name} reads")
    return checked


def attached(
    lm: CausalLM, keys: Sequence[Tensor], values: Sequence[Tensor], tokens: slice = slice(None)
) -> DynamicCache:
    """A fresh cache over (``tokens`` of) these tensors, which it shares.

    ``lazy_initialization`` comes first: a layer that is only assigned to counts as empty, and its content would be
    dropped without a word by the next update.
    """
    cache: DynamicCache = fresh(lm)
    layers: list[Any] = cache.layers
    for layer, key, value in zip(layers, keys, values, strict=True):
        layer.lazy_initialization(key[None], value[None])
        layer.keys, layer.values = key[None, :, tokens], value[None, :, tokens]
    return cache


def read(lm: CausalLM, cache: DynamicCache, ids: Sequence[int], **options: Any) -> tuple[DynamicCache, Tensor]:
    """``cache`` grown by ``ids``, and the logits ``(V,)`` float32 after the last of them. Not in inference mode: what
    is made here may stand before a text that an adapter is trained on."""
    torch = require("torch", lm.name)
    with lm.lock, torch.no_grad():
        ids_in = torch.tensor([list(ids)])
        out = lm.model(ids_in, past_key_values=cache, use_cache=True, logits_to_keep=1, **options)
    return cache, out.logits[0, -1].float().clone()


def taken(cache: DynamicCache) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Keys and values of each layer of a cache of one text, without the batch axis."""
    layers: list[Any] = cache.layers
    return tuple(layer.keys[0] for layer in layers), tuple(layer.values[0] for layer in layers)
