"""Reading a text with a model that is never changed: its states, and the keys and values of one layer.

Keys are taken as ``k_proj`` gives them, before any rotation, so that they can be used at any distance. The model runs
as it is, without gradient; hooks listen while it does. ``Lower`` runs only the layers below the one whose keys are
wanted: all that writing a memory needs.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from lamina.cube.payload import Fingerprint
from lamina.errors import InvalidInput
from lamina.tensors.rotary import Rotary

if TYPE_CHECKING:
    from transformers import Cache, PreTrainedModel

_PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj")
Versions = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """``states`` ``(B, T, d)`` of the residual stream before every ``stride``-th layer and after the last; ``keys``
    without positions and ``values`` ``(B, kv_heads, T, head_dim)`` of the memory layer."""

    states: tuple[Tensor, ...]
    keys: Tensor
    values: Tensor


def check(model: PreTrainedModel) -> None:
    """Raise ``InvalidInput`` unless ``model`` is built as Llama is: what the side network copies must be there."""
    base, name = model.base_model, type(model).__name__
    layers: Any = getattr(base, "layers", None)
    if layers is None or not all(hasattr(base, part) for part in ("embed_tokens", "norm", "rotary_emb")):
        raise InvalidInput(f"backbone={name}: its layers are not found; give a Llama-like model with rotary positions")
    for number, layer in enumerate(layers):
        parts = [part for part, _ in getattr(layer, "self_attn", nn.Identity()).named_children()]
        blocks = {part for part, _ in layer.named_children()}
        if sorted(parts) != sorted(_PROJECTIONS) or blocks != {
            "self_attn",
            "mlp",
            "input_layernorm",
            "post_attention_layernorm",
        }:
            raise InvalidInput(f"backbone={name}: layer {number} is not built as Llama's (attention of {parts})")
    if getattr(model.config, "sliding_window", None) is not None and getattr(model.config, "use_sliding_window", True):
        raise InvalidInput(f"backbone={name}: has sliding windows; a segment must be seen as a whole")
    if not all(getattr(layer.self_attn, "use_rope", True) for layer in layers):
        raise InvalidInput(f"backbone={name}: some of its layers know no positions; give one that turns all keys")
    width = Rotary.of(model).width
    if any(layer.self_attn.head_dim != width for layer in layers):
        raise InvalidInput(f"backbone={name}: turns {width} channels of each head; a head must be turned as a whole")
    _check_head(model)


@torch.no_grad()
def _check_head(model: PreTrainedModel) -> None:
    """Raise ``InvalidInput`` unless logits are the output embeddings on the last states, as the side network's are."""
    base: Any = model.base_model
    head: Any = model
    ids = torch.arange(4, device=model.device)[None] % int(model.config.vocab_size)
    states = base(input_ids=ids, use_cache=False).last_hidden_state
    if not torch.allclose(head.get_output_embeddings()(states), head(ids).logits, rtol=1e-2, atol=1e-2):
        raise InvalidInput(f"backbone={type(model).__name__}: scales or caps its logits; give a model that does not")


@torch.no_grad()
def read(model: PreTrainedModel, ids: Tensor, *, stride: int, layer: int, cache: Cache | None = None) -> Reading:
    """Read ``ids`` ``(B, T)``, behind what ``cache`` holds; the cache grows. The model's head does not run."""
    base: Any = model.base_model
    own = attention(model, layer)
    listened = [*base.layers[::stride], base.norm]
    with _inputs(listened) as states, outputs([own.k_proj, own.v_proj]) as projected:
        base(input_ids=ids, past_key_values=cache, use_cache=cache is not None)
    keys, values = (heads(tensor, own.head_dim) for tensor in projected)
    return Reading(tuple(states), keys, values)


class Lower:
    """The layers of ``model`` below ``layer``, with its weights and none of their own."""

    def __init__(self, model: PreTrainedModel, layer: int) -> None:
        base: Any = model.base_model
        block = base.layers[layer]
        config = copy(base.config)
        config.num_hidden_layers = layer
        with torch.device("meta"):
            lower: Any = type(base)(config)
        lower.embed_tokens, lower.rotary_emb = base.embed_tokens, base.rotary_emb
        lower.layers, lower.norm = nn.ModuleList(base.layers[:layer]), block.input_layernorm
        self._lower, self._attention = lower.eval(), block.self_attn

    @torch.no_grad()
    def read(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """``keys`` and ``values`` as of ``Reading``."""
        states = self._lower(input_ids=ids, use_cache=False).last_hidden_state
        projected = (self._attention.k_proj(states), self._attention.v_proj(states))
        keys, values = (heads(tensor, self._attention.head_dim) for tensor in projected)
        return keys, values


def attention(model: PreTrainedModel, layer: int) -> Any:
    """The attention of layer ``layer``."""
    base: Any = model.base_model
    return base.layers[layer].self_attn


def versions(model: PreTrainedModel) -> Versions:
    """Differs from what it was once a weight was replaced, moved, or written to; reads no weights.

    Counts as torch's own check of gradients does: optimizers, ``load_state_dict`` and in-place operations are seen,
    writing into ``weight.data`` is not, nor into weights made in inference mode.
    """
    tensors = model.state_dict(keep_vars=True).values()
    return tuple((tensor.data_ptr(), 0 if tensor.is_inference() else tensor._version) for tensor in tensors)


def fingerprint(model: PreTrainedModel, layer: int) -> Fingerprint:
    """What keys and values of ``layer`` belong to. Reads all weights once."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return Fingerprint(
        architecture=f"LongMem({type(model).__name__})",
        weights=f"{digest.hexdigest()}+layer-{layer}",
        tokenizer="",
        dtype=str(model.dtype).removeprefix("torch."),
        rope=json.dumps(getattr(model.config, "rope_parameters", None), sort_keys=True, default=str) + " taken off",
    )


def heads(projected: Tensor, head_dim: int) -> Tensor:
    """``(B, T, heads * head_dim)`` as ``(B, heads, T, head_dim)``."""
    return projected.view(*projected.shape[:-1], -1, head_dim).transpose(1, 2)


@contextmanager
def _inputs(modules: Sequence[nn.Module]) -> Iterator[list[Tensor]]:
    """What each of ``modules`` is given, in the order in which they run."""
    heard: list[Tensor] = []

    def hear(_: nn.Module, given: tuple[Any, ...], options: dict[str, Any]) -> None:
        heard.append(given[0] if given else options["hidden_states"])

    hooks = [module.register_forward_pre_hook(hear, with_kwargs=True) for module in modules]
    try:
        yield heard
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def outputs(modules: Sequence[nn.Module]) -> Iterator[list[Tensor]]:
    """What each of ``modules`` makes, in the order in which they run."""
    heard: list[Tensor] = []

    def hear(_: nn.Module, __: tuple[Any, ...], made: Tensor) -> None:
        heard.append(made)

    hooks = [module.register_forward_hook(hear) for module in modules]
    try:
        yield heard
    finally:
        for hook in hooks:
            hook.remove()
