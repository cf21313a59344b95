"""May the key-value cache of this model be kept and moved? If not, why; if so, its shape.

A kept cache is a list of full-attention layers whose keys carry rotary positions and nothing else carries any. What a
configuration does not tell (interleaved pairs, layers without positions, learned positions besides) is measured: in
a text of one token repeated, all values are equal, so attention returns the same whatever its weights, and the hidden
states of all positions are the same in every layer. Keys with their positions taken off must then be equal too. If
they are not, positions enter in a way that ``tensors.rotary`` does not undo, and the model is refused.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lamina._optional import require
from lamina.errors import InvalidInput
from lamina.tensors.rotary import Rotary

if TYPE_CHECKING:
    from lamina.llm.causal import CausalLM

UNSUPPORTED = "UNSUPPORTED_MODEL"
_REPEATS = 6
_TOLERANCE = {"float64": 1e-4, "float32": 1e-3, "bfloat16": 0.1, "float16": 0.02}  # of the largest key
_known: weakref.WeakKeyDictionary[CausalLM, KVLayout] = weakref.WeakKeyDictionary()


@dataclass(frozen=True, slots=True, eq=False)
class KVLayout:
    """What one token leaves in the cache: ``(H_kv, d_key, d_value)`` of each layer, and how keys are turned."""

    rotary: Rotary
    layers: tuple[tuple[int, int, int], ...]
    itemsize: int

    @property
    def bytes_per_token(self) -> int:
        """Of keys and values, in the model's own dtype."""
        return self.itemsize * sum(heads * (key + value) for heads, key, value in self.layers)


def layout(lm: CausalLM) -> KVLayout:
    """The layout of ``lm``, found once for each. Raises ``InvalidInput`` (``UNSUPPORTED_MODEL``) with the reason."""
    with lm.lock:
        found = _known.get(lm)
        if found is None:
            found = _known[lm] = _measure(lm, _rotary(lm))
        return found


def fresh(lm: CausalLM) -> Any:
    """An empty ``DynamicCache`` for ``lm``. Raises ``InvalidInput`` if not all its layers keep all tokens."""
    utils = require("transformers.cache_utils", lm.name)
    cache = utils.DynamicCache(config=lm.model.config)
    for number, layer in enumerate(cache.layers):
        if type(layer) is not utils.DynamicLayer:
            raise _refused(lm, f"layer {number} keeps a {type(layer).__name__}, which does not hold every token")
    return cache


def _rotary(lm: CausalLM) -> Rotary:
    config = lm.model.config
    if getattr(config, "is_encoder_decoder", False):
        raise _refused(lm, "it is an encoder-decoder, whose cache depends on the encoder's input")
    if getattr(lm.model, "_is_stateful", False):
        raise _refused(lm, "it keeps a recurrent state, which cannot be cut at a token")
    implementation = getattr(lm.model.generation_config, "cache_implementation", None)
    if implementation not in (None, "dynamic"):
        raise _refused(lm, f"it is set to decode with a {implementation!r} cache")
    fresh(lm)
    try:
        return Rotary.of(lm.model)
    except InvalidInput as error:
        raise _refused(lm, str(error)) from error


def _measure(lm: CausalLM, rotary: Rotary) -> KVLayout:
    torch = require("torch", lm.name)
    cache = fresh(lm)
    with torch.no_grad():
        ids = torch.full((1, _REPEATS), int(lm.model.config.vocab_size) // 2)
        lm.model(ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
    tolerance = _TOLERANCE.get(str(lm.model.dtype).removeprefix("torch."), 0.1)
    shapes = []
    for number, layer in enumerate(cache.layers):
        if not layer.is_initialized or layer.keys.dim() != 4 or layer.keys.shape[-2] != _REPEATS:
            raise _refused(lm, f"layer {number} does not keep one key for each token")
        if layer.keys.shape[-1] < rotary.width:
            raise _refused(lm, f"the keys of layer {number} are narrower than its rotary embedding")
        plain = rotary.unrotate(layer.keys[0], torch.arange(_REPEATS))
        if (plain - plain[:, :1]).abs().max() > tolerance * plain.abs().max():
            raise _refused(lm, f"the keys of layer {number} carry positions in another way than half-split rotation")
        shapes.append((layer.keys.shape[1], layer.keys.shape[3], layer.values.shape[3]))
    return KVLayout(rotary, tuple(shapes), int(cache.layers[0].keys.element_size()))


def _refused(lm: CausalLM, reason: str) -> InvalidInput:
    return InvalidInput(
        f"the key-value cache of {lm.name} ({type(lm.model).__name__}) cannot be kept as memory: {reason}. "
        "Keep these memories as text",
        code=UNSUPPORTED,
    )
