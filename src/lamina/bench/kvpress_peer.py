"""kvpress (NVIDIA, package ``kvpress``) as a live peer: the real presses, beside the transformers that is installed.

A press is a hook after each attention layer that shortens the cache; layers behind it still see exact states, so that
one exact prefill serves every press. kvpress 0.5.5 reads ``cache_position`` from the arguments of an attention layer,
which transformers 5 no longer passes: it is put there. Two of its modules import ``datasets`` to download statistics;
where it is not installed a module without contents stands in for it, and neither of the two is used.
"""

from __future__ import annotations

import sys
from importlib.metadata import version
from types import ModuleType
from typing import TYPE_CHECKING, Any

from lamina._optional import available, require

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import DynamicCache

    from lamina.bench.experiments.caches.compressed_context import Prefilled

MISSING = "kvpress is not installed, so nothing was compared with it: pip install --no-deps kvpress cachetools fire"


def installed() -> bool:
    return available("kvpress")


def name(press: str) -> str:
    """A press with the version of its package, as results state it."""
    return f"kvpress {version('kvpress')} {press}"


def press(kind: str, **settings: Any) -> Any:
    """``kvpress.KIND(**settings)``. Raises ``MissingDependency``."""
    if "datasets" not in sys.modules and not available("datasets"):
        stand_in = ModuleType("datasets")
        stand_in.load_dataset = None  # type: ignore[attr-defined]
        sys.modules["datasets"] = stand_in
        try:
            module = require("kvpress", "a comparison with kvpress")
        finally:
            del sys.modules["datasets"]
    else:
        module = require("kvpress", "a comparison with kvpress")
    return getattr(module, kind)(**settings)


def compressed(model: Any, chosen: Any, read: Prefilled) -> DynamicCache:
    """What the press ``chosen`` leaves of a text that was read exactly: its own hook after each attention layer, with
    the arguments that a live prefill gives it."""
    torch = require("torch", "a comparison with kvpress")
    left: DynamicCache = require("transformers", "a comparison with kvpress").DynamicCache(config=model.config)
    for number, pair in enumerate(zip(read.keys, read.values, strict=True)):
        left.update(*pair, number)
    places = torch.arange(len(read.passage.ids))
    with torch.no_grad(), chosen(model):  # entered for what a press prepares from the model
        turns = model.model.rotary_emb(read.hidden[0], places[None])
        for layer, hidden in zip(model.model.layers, read.hidden, strict=True):
            arguments = {"hidden_states": hidden, "past_key_values": left, "cache_position": places}
            chosen.forward_hook(layer.self_attn, [], arguments | {"position_embeddings": turns}, [None, None])
    return left


def nbytes(left: DynamicCache) -> int:
    """Live bytes of keys and values."""
    layers: list[Any] = left.layers
    return sum(part.untyped_storage().nbytes() for layer in layers for part in (layer.keys, layer.values))


def answers(model: Any, left: DynamicCache, read: Prefilled) -> Tensor:
    """Logits ``(len(then), V)`` of what comes after. Positions are given: a shortened cache would be taken for a
    shorter text."""
    torch = require("torch", "a comparison with kvpress")
    first, then = len(read.passage.ids), read.passage.then
    with torch.no_grad():
        logits: Tensor = model(
            torch.tensor([then]), past_key_values=left, position_ids=torch.arange(first, first + len(then))[None]
        ).logits[0]
    return logits
