"""Ways to make keys and values of neighbouring layers cheaper, on the same exact prefill: what xKV is compared with.

* ``error``: relative squared error of a factored cache.
* ``turned_error``: the same factors of keys that were not turned back, xKV's own ablation.
* ``MiniCache`` (arXiv 2405.14366): from the middle on, two layers keep one direction a token, found by spherical
  interpolation, and a length each; tokens whose directions are furthest apart stay as they are. The shallower half is
  kept exactly, so that it takes about three quarters of the bytes: more than the paper offers is not asked of it.
* ``premise``: neighbouring layers are aligned as wholes and unlike token by token (xKV, section 3.1).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional as F

from lamina.activation.budgeted.factors import Factors, alignment, factorise
from lamina.activation.cross_layer_svd import XKVCache
from lamina.bench.experiments.caches.compressed_context import Prefilled
from lamina.tensors.rotary import Rotary

_TOWARDS_SECOND = 0.6  # MiniCache: interpolation between the two layers
_APART = 0.05  # MiniCache: of the range of distances between directions, its far end; tokens there are not merged


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
    policy = replace(cache.policy, ratio=ratio)
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


def minicache(read: Prefilled) -> tuple[list[Tensor], list[Tensor], int]:
    """Keys and values with every two layers of the deeper half merged; and the bytes that its form takes."""
    found: tuple[list[Tensor], list[Tensor]] = ([], [])
    size = 0
    for merged, layers in zip(found, (read.keys, read.values), strict=True):
        middle = len(layers) // 2
        pairs = [layers[first : first + 2] for first in range(middle, len(layers), 2)]
        for some in ([layer] for layer in layers[:middle]):
            merged += some
            size += some[0].nbytes
        for pair in pairs:
            kept, taken = _merged(pair)
            merged += kept
            size += taken
    return *found, size


def _merged(pair: Sequence[Tensor]) -> tuple[list[Tensor], int]:
    """Layers ``(1, H, n, d)`` of which two have one direction a token and head; and the bytes of that: a direction, a
    length a layer, and where the directions are far apart both vectors and their place."""
    if len(pair) == 1:
        return list(pair), pair[0].nbytes
    lengths = [layer.norm(dim=-1, keepdim=True) for layer in pair]
    units = [layer / length.clamp_min(1e-12) for layer, length in zip(pair, lengths, strict=True)]
    angle = (units[0] * units[1]).sum(-1, keepdim=True).clamp(-1 + 1e-6, 1 - 1e-6).acos()
    shared = (angle * (1 - _TOWARDS_SECOND)).sin() * units[0] + (angle * _TOWARDS_SECOND).sin() * units[1]
    shared = shared / angle.sin()
    near, far = angle.amin(2, keepdim=True), angle.amax(2, keepdim=True)
    apart = angle > far - _APART * (far - near)
    merged = [torch.where(apart, own, shared * length) for own, length in zip(pair, lengths, strict=True)]
    single, both = int((~apart).sum()), int(apart.sum())
    number, width = pair[0].element_size(), pair[0].shape[3]
    return merged, number * (single * (width + 2) + both * 2 * width) + 4 * both


def _flat(layers: Sequence[Tensor]) -> Tensor:
    """Layers ``(b, H, n, d)`` side by side, ``(b, n, layers H d)``."""
    return torch.cat([layer.transpose(1, 2).flatten(2) for layer in layers], -1)
