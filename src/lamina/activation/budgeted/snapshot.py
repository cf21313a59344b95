"""What a cache of a policy holds, as named tensors, and back: for storing it.

Only what reading on needs: keys, values or factors as they are held (rounded ones as codes), positions, and what the
policy knows of its layers (``state``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lamina.activation.budgeted.factors import Factors
from lamina.activation.cascade_eviction import CakeCache
from lamina.activation.cross_layer_svd import XKVCache
from lamina.activation.evicted_bases import EvictedBasesCache
from lamina.errors import CorruptCube
from lamina.tensors.quantize import Rows

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from lamina.activation.attach import CachePolicy

Held = CakeCache | XKVCache
"""Caches that can be stored."""


def pack(cache: Held) -> dict[str, Tensor]:
    """Everything ``unpack`` needs. Tensors are those of the cache, not copies."""
    found = _packed_cake(cache) if isinstance(cache, CakeCache) else _packed_xkv(cache)
    return found | {"seen": torch.tensor([cache.get_seq_length()]), "peak": torch.tensor([cache.peak_nbytes])}


def unpack(policy: CachePolicy, model: PreTrainedModel, tensors: Mapping[str, Tensor]) -> Held:
    """A cache that goes on where the packed one stood. Raises ``CorruptCube`` naming what is missing."""
    cache = policy.cache(model)
    assert isinstance(cache, CakeCache | XKVCache), policy
    try:
        if isinstance(cache, CakeCache):
            _fill_cake(cache, tensors, model.dtype)
        else:
            _fill_xkv(cache, tensors)
        cache.peak_nbytes = int(tensors["peak"])
    except KeyError as error:
        raise CorruptCube(f"the compressed cache lacks {error.args[0]!r}") from error
    return cache


# -- CAKE and its special cases -------------------------------------------------------------------


def _packed_cake(cache: CakeCache) -> dict[str, Tensor]:
    found = cache.state()
    for number, layer in enumerate(cache.layers):
        at = f"layer.{number:03d}"
        found |= {f"{at}.position": layer.positions, f"{at}.score": layer.scores}
        pair = (layer.keys, layer.values) if layer.rounded is None else layer.rounded
        found |= _put(f"{at}.key", pair[0]) | _put(f"{at}.value", pair[1])
    return found


def _fill_cake(cache: CakeCache, tensors: Mapping[str, Tensor], dtype: torch.dtype) -> None:
    cache.load_state(tensors)
    for number, layer in enumerate(cache.layers):
        at, bits = f"layer.{number:03d}", layer.bits
        layer.restore(
            dtype,
            int(tensors["seen"]),
            tensors[f"{at}.position"],
            tensors[f"{at}.score"],
            _get(tensors, f"{at}.key", bits),
            _get(tensors, f"{at}.value", bits),
        )


# -- xKV, with and without eviction ---------------------------------------------------------------


def _packed_xkv(cache: XKVCache) -> dict[str, Tensor]:
    found = {"groups": torch.tensor([[members.start, members.stop] for members in cache.groups])}
    if isinstance(cache, EvictedBasesCache):
        found |= cache.state()
    for number, layer in enumerate(cache.layers):
        at = f"layer.{number:03d}"
        found |= {f"{at}.key": layer.keys, f"{at}.value": layer.values, f"{at}.place": layer.places}
    for number, pair in cache.factors.items():
        found[f"group.{number:03d}.place"] = cache.places[number]
        for kind, factors in zip(_kinds(cache), pair, strict=True):
            at = f"group.{number:03d}.{kind}"
            found |= _put(f"{at}.left", factors.left) | _put(f"{at}.right", factors.right)
            found |= {f"{at}.lost": factors.lost, f"{at}.norm": factors.norm}
    return found


def _fill_xkv(cache: XKVCache, tensors: Mapping[str, Tensor]) -> None:
    cache.groups = [range(start, stop) for start, stop in tensors["groups"].tolist()]
    if isinstance(cache, EvictedBasesCache):
        cache.load_state(tensors)
    for number, layer in enumerate(cache.layers):
        at = f"layer.{number:03d}"
        layer.restore(int(tensors["seen"]), tensors[f"{at}.key"], tensors[f"{at}.value"], tensors[f"{at}.place"])
    dtype, bits = cache.layers[0].dtype, cache.policy.bits
    for number in range(len(cache.groups)):
        if f"group.{number:03d}.place" not in tensors:
            continue
        cache.places[number] = tensors[f"group.{number:03d}.place"]
        kinds = (f"group.{number:03d}.{kind}" for kind in _kinds(cache))
        cache.factors[number] = tuple(_factors(tensors, kind, bits, dtype) for kind in kinds)


def _kinds(cache: XKVCache) -> tuple[str, ...]:
    """What of a group is factored: keys and values, or latents, which stand for both."""
    return ("key",) if cache.rotary is None else ("key", "value")


def _factors(tensors: Mapping[str, Tensor], at: str, bits: int | None, dtype: torch.dtype) -> Factors:
    left, right = _get(tensors, f"{at}.left", bits), _get(tensors, f"{at}.right", bits)
    return Factors(left, right, tensors[f"{at}.lost"], tensors[f"{at}.norm"], dtype)


# -- one matrix, rounded or not -------------------------------------------------------------------


def _put(name: str, part: Tensor | Rows) -> dict[str, Tensor]:
    if isinstance(part, Tensor):
        return {name: part}
    return {name: part.codes, f"{name}.scale": part.scale, f"{name}.low": part.low}


def _get(tensors: Mapping[str, Tensor], name: str, bits: int | None) -> Tensor | Rows:
    if bits is None:
        return tensors[name]
    return Rows(tensors[name], tensors[f"{name}.scale"], tensors[f"{name}.low"], bits)
