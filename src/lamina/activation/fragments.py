"""One cache from several that were read apart: near, never exact, and measured.

Each fragment was read from position 0. Put behind another its keys belong elsewhere, and are moved there exactly
(``tensors.rotary``). What stays missing is attention: no token of a later fragment has seen an earlier one. CacheBlend
(arXiv 2405.16444) mends this by reading a share of the tokens again over all that is there; here that share is the
first tokens of each later fragment, as in EPIC (arXiv 2410.15332): read apart, they drew the attention that the
beginning of any text draws. The last token is always read again, for its logits.

Merges are ``exact=False`` and cannot be stored. Where an exact prefix is possible, use ``activation.prefix``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from lamina._optional import require
from lamina.activation.cache import KVCube
from lamina.activation.prefill import attached, checked_ids, read
from lamina.errors import InvalidInput

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import DynamicCache

    from lamina.llm.causal import CausalLM


@dataclass(frozen=True, slots=True)
class Divergence:
    """From reading everything at once, over the tokens of a query: ``kl`` is the mean of KL(exact || merged) of the
    next token in nats, ``last_kl`` that after the last token, ``agreement`` the share of equal most likely tokens,
    ``reread`` the tokens read to merge."""

    kl: float
    last_kl: float
    agreement: float
    reread: int


def concatenate(lm: CausalLM, cubes: Sequence[KVCube], *, recompute: float = 0.0, move: bool = True) -> KVCube:
    """``cubes`` one after the other. ``recompute`` is the share in 0..1 of each later fragment that is read again.

    ``move=False`` leaves the keys where they were read, which is wrong and there to be compared with. Raises
    ``FingerprintMismatch`` for a cube of another model, ``InvalidInput`` for no cubes, a share outside 0..1, or more
    tokens than the model reads. A single cube is returned as it is.
    """
    if not cubes or not 0.0 <= recompute <= 1.0:
        raise InvalidInput(f"give at least one cube and a share in 0..1, got {len(cubes)} and recompute={recompute}")
    for cube in cubes:
        cube.check(lm)
    if len(cubes) == 1:
        return cubes[0]
    torch = require("torch", "merging key-value cubes")
    ids = checked_ids(lm, [id for cube in cubes for id in cube.ids])
    keys = [torch.cat(parts, dim=1) for parts in zip(*_moved(cubes, move), strict=True)]
    values = [torch.cat(parts, dim=1) for parts in zip(*(cube.values for cube in cubes), strict=True)]
    logits = _reread(lm, ids, keys, values, again(cubes, recompute))
    return KVCube(ids, tuple(keys), tuple(values), logits, cubes[0].fingerprint, cubes[0].rotary, exact=False)


def again(cubes: Sequence[KVCube], recompute: float) -> list[int]:
    """Places in the merge that are read again: the first of each later fragment, and the last of all."""
    starts = [0, *accumulate(len(cube.ids) for cube in cubes)]
    later = zip(starts[1:-1], cubes[1:], strict=True)
    chosen = {start + place for start, cube in later for place in range(math.ceil(recompute * len(cube.ids)))}
    return sorted(chosen | {starts[-1] - 1})


def divergence(
    lm: CausalLM, cubes: Sequence[KVCube], query_ids: Sequence[int], *, recompute: float = 0.0, move: bool = True
) -> Divergence:
    """How far a merge of ``cubes`` is from the exact cache of their ids, seen by ``query_ids``. Raises as
    ``concatenate`` does."""
    merged = concatenate(lm, cubes, recompute=recompute, move=move)
    query = checked_ids(lm, query_ids, before=len(merged.ids))
    exact = _seen(lm, KVCube.build(lm, merged.ids), query)
    near = _seen(lm, merged, query)
    kl = (exact.exp() * (exact - near)).sum(-1)
    same = exact.argmax(-1) == near.argmax(-1)
    reread = len(again(cubes, recompute)) if len(cubes) > 1 else 0
    return Divergence(float(kl.mean()), float(kl[-1]), float(same.double().mean()), reread)


def _moved(cubes: Sequence[KVCube], move: bool) -> list[tuple[Tensor, ...]]:
    """Keys of each cube and layer, at the positions of its tokens in the merge."""
    torch = require("torch", "merging key-value cubes")
    if not move:
        return [cube.keys for cube in cubes]
    moved, offset = [], 0
    for cube in cubes:
        old = torch.arange(len(cube.ids))
        moved.append(tuple(cube.rotary.move(key, old, old + offset).to(key.dtype) for key in cube.keys))
        offset += len(cube.ids)
    return moved


def _reread(lm: CausalLM, ids: Sequence[int], keys: list[Tensor], values: list[Tensor], places: list[int]) -> Tensor:
    """Read the tokens at ``places`` over all that stands before each; ``keys`` and ``values`` are replaced there.

    Gives the logits after the last token. The cache does not grow: what a layer makes is put in its place.
    """
    torch = require("torch", "merging key-value cubes")
    at = torch.tensor(places)
    cache: DynamicCache = attached(lm, keys, values)
    layers: list[Any] = cache.layers
    layers[:] = [_placing(layer, at) for layer in layers]
    mask = (torch.arange(len(ids)) <= at[:, None])[None, None]
    floor = torch.finfo(lm.model.dtype).min  # additive, which every attention function understands
    added = torch.zeros(mask.shape, dtype=lm.model.dtype).masked_fill(~mask, floor)
    _, logits = read(lm, cache, [ids[place] for place in places], attention_mask=added, position_ids=at[None])
    for layer, grown in enumerate(layers):
        keys[layer], values[layer] = grown.keys[0], grown.values[0]
    return logits


def _placing(layer: Any, at: Tensor) -> Any:
    """``layer``, but what it is given replaces its tokens ``at`` instead of going to its end."""
    utils = require("transformers.cache_utils", "merging key-value cubes")

    class Placing(utils.DynamicLayer):  # type: ignore[misc, name-defined]
        def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
            self.keys = layer.keys.index_copy(2, at, key_states)
            self.values = layer.values.index_copy(2, at, value_states)
            return self.keys, self.values

    return Placing()


def _seen(lm: CausalLM, cube: KVCube, query: Sequence[int]) -> Tensor:
    """Log-probabilities ``(len(query), V)`` float64 of the token after each of ``query``."""
    torch = require("torch", "comparing key-value cubes")
    with lm.lock, torch.no_grad():
        out = lm.model(torch.tensor([list(query)]), past_key_values=cube.attach(lm), use_cache=True)
        seen: Tensor = out.logits[0].double().log_softmax(-1)
        return seen
