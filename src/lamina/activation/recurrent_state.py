"""StateCube: what the layers of a ``lamina.nn`` model keep of a text, as a memory: a conversation forked or put away.

A mixture of memories (arXiv 2502.13685) keeps a few matrices a layer, so a conversation of any length is a cube of the
same bytes: ``rows * sum(layer.state_bytes)`` and 16 a row. It holds for every mixer that keeps its state in
``LayerState``. Tensors are copied in and out, because decoding writes to the states of a mixture in place.

At rest: ``lengths`` and ``seen`` int64, and ``layer.000.NAME`` for each named tensor of a layer, as they are.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from lamina._optional import require
from lamina.cube.payload import Fingerprint, TensorPayload
from lamina.errors import CorruptCube, InvalidInput
from lamina.llm.weights_hash import WeightsHash

if TYPE_CHECKING:
    from torch import Tensor

    from lamina.nn.context import DecodingCache
    from lamina.nn.decoder import LaminaForCausalLM

_BUILT_BY = ("mixer", "ffn", "side", "short_conv", "block", "rope_theta", "norm_eps")


@dataclass(frozen=True, slots=True, eq=False)
class StateCube:
    """``states`` of each layer by name, rows first; ``lengths`` int64 ``(rows,)``: real tokens read; ``seen``: columns,
    padding included. Never write to its tensors."""

    states: tuple[Mapping[str, Tensor], ...]
    lengths: Tensor
    seen: int
    fingerprint: Fingerprint

    def __repr__(self) -> str:  # tensors are what a text left behind: no log is a place for them
        return f"StateCube({len(self.lengths)} rows, {len(self.states)} layers, {self.nbytes} B)"

    @classmethod
    def of(cls, model: LaminaForCausalLM, cache: DecodingCache) -> Self:
        """A copy of what ``cache`` holds. Raises ``InvalidInput`` for one that has read nothing."""
        if cache.lengths is None:
            raise InvalidInput("cache has read nothing: give the past_key_values of a text that the model has read")
        states = tuple({name: each.detach().clone() for name, each in state.tensors.items()} for state in cache.states)
        return cls(states, cache.lengths.clone(), cache.get_seq_length(), fingerprint(model))

    def attach(self, model: LaminaForCausalLM) -> DecodingCache:
        """A fresh cache that goes on from here, any number of times. Raises ``FingerprintMismatch`` unless ``model`` is
        the one that read the text."""
        from lamina.nn.context import DecodingCache

        self.fingerprint.check(fingerprint(model))
        cache = DecodingCache(len(self.states))
        for state, kept in zip(cache.states, self.states, strict=True):
            state.tensors, state.seen = {name: each.clone() for name, each in kept.items()}, self.seen
        cache.lengths = self.lengths.clone()
        return cache

    @property
    def nbytes(self) -> int:
        """Live bytes of the states."""
        return sum(each.nbytes for kept in self.states for each in kept.values())

    def to_payload(self) -> TensorPayload:
        """Everything ``from_payload`` needs; nothing is rounded."""
        torch = require("torch", "storing the states of a text")
        tensors = {"lengths": self.lengths, "seen": torch.tensor([self.seen])}
        for layer, kept in enumerate(self.states):
            tensors |= {f"layer.{layer:03d}.{name}": each for name, each in kept.items()}
        return TensorPayload.from_torch(tensors, self.fingerprint)

    @classmethod
    def from_payload(cls, payload: TensorPayload, model: LaminaForCausalLM) -> Self:
        """The cube in ``payload``. Raises ``FingerprintMismatch`` for another model, ``CorruptCube`` for tensors that
        are missing, misshapen, or of no layer."""
        payload.fingerprint.check(fingerprint(model))
        rest = {name: view.torch() for name, view in payload.tensors.items()}
        if not {"lengths", "seen"} <= rest.keys() or rest["lengths"].dim() != 1 or rest["seen"].shape != (1,):
            raise CorruptCube("the payload holds no states of a text: 'lengths' or 'seen' is missing or misshapen")
        lengths, seen = rest.pop("lengths"), int(rest.pop("seen"))
        states: list[dict[str, Tensor]] = [{} for _ in model.model.layers]
        for name, each in rest.items():
            prefix, _, inner = name.removeprefix("layer.").partition(".")
            if not (prefix.isdecimal() and int(prefix) < len(states) and inner):
                raise CorruptCube(f"the payload holds {name!r}, which is no state of these {len(states)} layers")
            if each.dim() == 0 or len(each) != len(lengths):
                raise CorruptCube(f"{name!r} has shape {tuple(each.shape)}: its rows must be those of 'lengths'")
            states[int(prefix)][inner] = each
        return cls(tuple(states), lengths, seen, payload.fingerprint)


def fingerprint(model: LaminaForCausalLM) -> Fingerprint:
    """What states of ``model`` belong to: its weights (read whole, about 0.5 s a GB) and how its blocks are built."""
    told = {name: getattr(model.config, name) for name in _BUILT_BY}
    return Fingerprint(
        architecture=type(model).__name__,
        weights=WeightsHash(model).read(),
        tokenizer="",
        dtype=str(model.dtype).removeprefix("torch."),
        attention=hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest(),
    )
