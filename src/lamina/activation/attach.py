"""Put a cache policy into a model: everything it reads and generates within the block uses the policy's cache.

    with attach(model, CAKE("6MiB")) as attached:
        model.generate(**tokenizer(prompt, return_tensors="pt"))
    print(attached.cache.nbytes)

Works for any causal language model of transformers whose layers all attend to everything and that lets its attention
be chosen. Nothing of the model is changed but its attention function, which comes back at the end.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import wraps
from typing import TYPE_CHECKING, Any, Protocol
from weakref import WeakKeyDictionary

from lamina._optional import require
from lamina.errors import InvalidInput

if TYPE_CHECKING:
    from transformers import Cache, PreTrainedModel


class CachePolicy(Protocol):
    """What is kept of a cache, under which budget."""

    def cache(self, model: PreTrainedModel) -> Cache:
        """An empty cache for ``model``, with the methods of ``budgeted.attention.Watching``."""


@dataclass(slots=True)
class Attached:
    """``cache`` is that of the newest text begun within the block; ``None`` before the first."""

    policy: CachePolicy
    cache: Any = None
    stands_for: WeakKeyDictionary[Any, Any] = field(default_factory=WeakKeyDictionary)  # empty caches that were given


@contextmanager
def attach(model: PreTrainedModel, policy: CachePolicy) -> Iterator[Attached]:
    """Within the block every text that ``model`` begins to read with a cache gets a fresh one of ``policy``; it is in
    the output as ``past_key_values`` and goes on where it is given back.

    Whoever shares the model with other threads holds its lock for the block (``CausalLM.lock``). Raises
    ``InvalidInput`` for a model with sliding or recurrent layers, one that fixes its attention, or if another
    policy is attached; and at a call that brings a filled cache of another kind.
    """
    torch = require("torch", "attaching a cache policy")
    from lamina.activation.budgeted import attention

    _check(model)
    attached = Attached(policy)
    before, own, original = model.config._attn_implementation, "forward" in vars(model), model.forward
    names = list(inspect.signature(original).parameters)

    @wraps(original)
    def forward(*given: Any, **options: Any) -> Any:
        options |= dict(zip(names, given, strict=False))
        tokens: Any = options.get("input_ids")
        tokens = options["inputs_embeds"] if tokens is None else tokens
        cache = _chosen(attached, model, options)
        if cache is not None:
            options["past_key_values"] = cache
        places = _places(tokens, cache, options, torch)
        with attention.running(attention.Pass(cache, places)):
            return original(**options)

    model.set_attn_implementation(attention.NAME)
    model.forward = forward
    try:
        yield attached
    finally:
        if own:
            model.forward = original
        else:
            del model.forward
        model.set_attn_implementation(before)


def _check(model: PreTrainedModel) -> None:
    utils = require("transformers.cache_utils", "attaching a cache policy")
    config, name = model.config, type(model).__name__
    others = {type(layer).__name__ for layer in utils.DynamicCache(config=config).layers} - {"DynamicLayer"}
    if others or getattr(config, "is_encoder_decoder", False):
        kinds = ", ".join(sorted(others)) or "an encoder"
        raise InvalidInput(f"model={name}: has {kinds}; a policy needs layers that attend to everything")
    if config._attn_implementation == "lamina":
        raise InvalidInput(f"model={name}: a policy is attached to it already; leave that block first")
    if not model._can_set_attn_implementation():
        raise InvalidInput(f"model={name}: does not let its attention be chosen, so no policy can see it")


def _chosen(attached: Attached, model: PreTrainedModel, options: Mapping[str, Any]) -> Any:
    """The cache of this call: the one that is given back, a fresh one, or none where none is wanted."""
    given = options.get("past_key_values")
    if not (options.get("use_cache", model.config.use_cache) or given is not None):
        return None
    if given is None:
        attached.cache = attached.policy.cache(model)
        return attached.cache
    if type(given).__name__ == "DynamicCache" and not given.get_seq_length():  # it stays empty, and is given again
        if given not in attached.stands_for:
            attached.cache = attached.stands_for[given] = attached.policy.cache(model)
        return attached.stands_for[given]
    if not hasattr(given, "attended"):
        raise InvalidInput(
            f"past_key_values={type(given).__name__}: holds {given.get_seq_length()} tokens of no policy; "
            "read the text anew within the block"
        )
    return given


def _places(tokens: Any, cache: Any, options: Mapping[str, Any], torch: Any) -> Any:
    """``(b, count)`` int32: where each token stands, -1 for padding; ``None``: right after those seen."""
    count = tokens.shape[1]
    mask: Any = options.get("attention_mask")
    places: Any = options.get("position_ids")
    if mask is None or bool(mask[..., -count:].all()):
        mask = None
    elif mask.dim() != 2:
        raise InvalidInput(f"attention_mask of shape {tuple(mask.shape)}: give one of (batch, tokens)")
    if mask is None and places is None:
        return None
    if places is None:
        seen = 0 if cache is None else cache.get_seq_length()
        places = torch.arange(seen, seen + count, device=tokens.device).expand(mask.shape[0], -1)
    places = places.to(torch.int32)
    return places if mask is None else places.expand(mask.shape[0], -1).masked_fill(mask[:, -count:] == 0, -1)
