"""Ways to make keys and values of neighbouring layers cheaper, on the same exact prefill: what xKV is compared with.

* ``error``: relative squared error of a factored cache.
* ``turned_error``: the same factors of keys that were not turned back, xKV's own ablation.
* ``MiniCache`` (arXiv 2405.14366): two layers keep one direction a token, found by spherical interpolation, and a
  length each. The paper merges the deeper half; here all layers, to take half the bytes as the others do.
* ``premise``: neighbouring layers are aligned as wholes and unlike token by token (xKV, section 3.1).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional as F

from lamina.activation.budgeted.factors import Factors, alignment, factorise
from lamina.activation.cross_layer_svd import XKV, XKVCache
from lamina.bench.experiments.caches.compressed_context import Prefilled
from lamina.tensors.rotary import Rotary

_TOWARDS_SECOND = 0.6  # MiniCache, section 3.3: interpolation between the two layers


def error(cache: XKVCache) -> tuple[float, float]:
    """Of keys and of values, over all groups."""
    pairs = list(cache.factors.values())
    return _share([keys for keys, _ in pairs]), _share([values for _, values in pairs])


def _share(parts: Sequence[Factors]) -> float:
    return float(sum(part.lost.sum() for part in parts) / sum(part.norm.sum() for part in parts))


def turned_error(cache: XKVCache, read: Prefilled) -> float:
    """Of keys, at the ranks and groups of ``cache``, had their positions been left on."""
    sinks = cache.policy.sinks
    return _share([
        factorise(_flat([read.keys[n][:, :, sinks:] for n in members]), cache.factors[number][0].rank)
        for number, members in enumerate(cache.groups)
    ])  # fmt: skip


def truncated(cache: XKVCache, ratio: float) -> XKVCache:
    """``cache`` as it would be at a larger ``ratio``: of a singular value decomposition the first so many columns are
    the decomposition of that rank."""
    policy = XKV(ratio, group=cache.policy.group, tail=cache.policy.tail, sinks=cache.policy.sinks)
    found = XKVCache(policy, len(cache.layers), cache.rotary)
    found.layers, found.groups, found.places = copy.deepcopy(cache.layers), cache.groups, dict(cache.places)
    for number, (keys, values) in cache.factors.items():
        ranks = policy.ranks(keys.count, keys.basis.shape[2], values.basis.shape[2])
        assert ranks is not None
        found.factors[number] = (_first(keys, ranks[0]), _first(values, ranks[1]))
    return found


def _first(factors: Factors, rank: int) -> Factors:
    dropped = factors.coefficients[..., rank:].double().square().sum((1, 2))
    return Factors(
        factors.coefficients[..., :rank].clone(),
        factors.basis[:, :rank].clone(),
        factors.lost + dropped.to(factors.lost),
        factors.norm,
    )


def premise(read: Prefilled, rotary: Rotary) -> dict[str, float]:
    """Means over neighbouring layers: alignment of all tokens and cosine of single ones, keys (positions off) and
    values."""
    places = torch.arange(read.keys[0].shape[2])
    keys = [_flat([rotary.unrotate(layer[0], places)[None]])[0] for layer in read.keys]
    values = [_flat([layer])[0] for layer in read.values]
    found: dict[str, float] = {}
    for name, layers in (("keys", keys), ("values", values)):
        pairs = list(pairwise(layers))
        found[f"alignment of {name}"] = sum(alignment(a, b) for a, b in pairs) / len(pairs)
        found[f"cosine of {name}"] = float(torch.stack([F.cosine_similarity(a, b).mean() for a, b in pairs]).mean())
    return found


def minicache(read: Prefilled, sinks: int = 4) -> tuple[list[Tensor], list[Tensor], int]:
    """Keys and values with every two layers merged as MiniCache does; and the bytes that its form takes."""
    found: tuple[list[Tensor], list[Tensor]] = ([], [])
    size = 0
    for merged, layers in zip(found, (read.keys, read.values), strict=True):
        for first in range(0, len(layers), 2):
            pair = layers[first : first + 2]
            merged += _merged(pair, sinks)
            size += _merged_bytes(pair, sinks)
    return *found, size


def _merged(pair: Sequence[Tensor], sinks: int) -> list[Tensor]:
    if len(pair) == 1:
        return list(pair)
    lengths = [layer.norm(dim=-1, keepdim=True) for layer in pair]
    units = [layer / length.clamp_min(1e-12) for layer, length in zip(pair, lengths, strict=True)]
    angle = (units[0] * units[1]).sum(-1, keepdim=True).clamp(-1 + 1e-6, 1 - 1e-6).acos()
    shared = (angle * (1 - _TOWARDS_SECOND)).sin() * units[0] + (angle * _TOWARDS_SECOND).sin() * units[1]
    shared = shared / angle.sin()
    merged = [shared * length for length in lengths]
    return [torch.cat([own[:, :, :sinks], new[:, :, sinks:]], 2) for own, new in zip(pair, merged, strict=True)]


def _merged_bytes(pair: Sequence[Tensor], sinks: int) -> int:
    """One direction and a length a layer for each token and head; the first ``sinks`` tokens as they are."""
    rows, heads, count, width = pair[0].shape
    if len(pair) == 1:
        return rows * heads * count * width * pair[0].element_size()
    return rows * heads * pair[0].element_size() * ((count - sinks) * (width + 2) + 2 * sinks * width)


def _flat(layers: Sequence[Tensor]) -> Tensor:
    """Layers ``(b, H, n, d)`` side by side, ``(b, n, layers H d)``."""
    return torch.cat([layer.transpose(1, 2).flatten(2) for layer in layers], -1)
