"""Adapter cubes: low-rank deltas over a language model's weights, worn for a while and taken off without a trace.

LoRA (arXiv 2106.09685, section 4): a linear map W acts as ``W + (alpha / r) B A``, A of shape (r, in), B of shape
(out, r). Several adapters add up: ``W + sum_i w_i (alpha_i / r_i) B_i A_i``.

Unusual: nothing in the model is replaced. A delta is added by a forward hook while a ``using`` block lasts, so names,
weights and fingerprint of the model stay what they were, and outside the block it computes bit for bit what it did
before. Adapters are named by the hash of their content, and the same hashes become ``lm.overlay``: a key-value cache
made under an adapter never passes for one of the bare model, nor for one under another adapter.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, cast

from lamina._optional import require
from lamina.cube.payload import Fingerprint, TensorPayload
from lamina.errors import InvalidInput, NotFound
from lamina.llm.causal import CausalLM

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Linear
    from torch.utils.hooks import RemovableHandle

_ALPHA = "alpha"
_NAME = re.compile(r"(?P<module>.+)\.lora_(?P<side>[AB])")


@dataclass(frozen=True, slots=True)
class LoRA:
    """``pairs``: module name (``layers.0.self_attn.q_proj``) to A (r, in) and B (out, r), in the model's dtype."""

    pairs: Mapping[str, tuple[Tensor, Tensor]]
    alpha: float

    @property
    def rank(self) -> int:
        return int(next(iter(self.pairs.values()))[0].shape[0])

    @property
    def scale(self) -> float:
        return self.alpha / self.rank

    @property
    def parameters(self) -> list[Tensor]:
        """A and B of every module, in the order of modules."""
        return [tensor for pair in self.pairs.values() for tensor in pair]

    def to_payload(self, fingerprint: Fingerprint) -> TensorPayload:
        """``<module>.lora_A``, ``<module>.lora_B`` and the scalar ``alpha`` (F64); the rank is A's first dimension."""
        torch = require("torch", "an adapter cube")
        named = {
            f"{module}.lora_{side}": tensor
            for module, pair in self.pairs.items()
            for side, tensor in zip("AB", pair, strict=True)
        }
        return TensorPayload.from_torch(named | {_ALPHA: torch.tensor(self.alpha, dtype=torch.float64)}, fingerprint)

    @classmethod
    def from_payload(cls, payload: TensorPayload) -> LoRA:
        """Copies the tensors. Raises ``InvalidInput`` if they are not those of ``to_payload``, or not finite."""
        sides: dict[str, dict[str, Tensor]] = {}
        for name, view in payload.tensors.items():
            if name == _ALPHA:
                continue
            match = _NAME.fullmatch(name)
            if match is None:
                raise InvalidInput(f"tensor {name!r} is no part of an adapter; expected <module>.lora_A or .lora_B")
            sides.setdefault(match["module"], {})[match["side"]] = view.torch().clone()
        if not sides or _ALPHA not in payload.tensors or payload.tensors[_ALPHA].shape:
            raise InvalidInput(
                "an adapter needs a scalar 'alpha' and at least one pair <module>.lora_A, <module>.lora_B"
            )
        for module, pair in sides.items():
            _check_pair(module, pair)
        if len({pair["A"].shape[0] for pair in sides.values()}) != 1:
            raise InvalidInput("all modules of an adapter must have one rank; use one adapter for each rank")
        alpha = float(payload.tensors[_ALPHA].numpy())
        if not math.isfinite(alpha):
            raise InvalidInput(f"alpha={alpha!r} of the adapter must be finite")
        return cls(MappingProxyType({module: (pair["A"], pair["B"]) for module, pair in sides.items()}), alpha)


Worn = tuple[tuple[LoRA, float], ...]  # adapters and their weights


class Adapters:
    """The adapters known to one model. Safe to share between threads: whoever wears some holds ``lm.lock``."""

    def __init__(self, lm: CausalLM) -> None:
        """Raises ``InvalidInput`` if something is laid over ``lm`` already."""
        with lm.lock:
            if lm.overlay:
                raise InvalidInput(f"lm.overlay={lm.overlay!r}: leave the block that wears it first")
            self.base = lm.fingerprint  # read now: weights are hashed before any merge can change them
        self.lm = lm
        self._known: dict[str, tuple[LoRA, TensorPayload]] = {}
        self._worn: Worn = ()
        self._handles: list[RemovableHandle] = []

    @property
    def names(self) -> list[str]:
        with self.lm.lock:
            return list(self._known)

    def add(self, payload: TensorPayload) -> str:
        """Know ``payload`` under the name returned: the hash of its content, so adding it twice is adding it once.

        Raises ``FingerprintMismatch`` for an adapter of another model, ``InvalidInput`` for tensors that do not fit
        the modules they name.
        """
        payload.fingerprint.check(self.base)
        lora = LoRA.from_payload(payload)
        for module, (down, up) in lora.pairs.items():
            weight = linear(self.lm, module).weight
            if (up.shape[0], down.shape[1]) != tuple(weight.shape) or down.dtype != weight.dtype:
                raise InvalidInput(
                    f"{module}: A {tuple(down.shape)} and B {tuple(up.shape)} of {down.dtype} do not fit a weight of "
                    f"{tuple(weight.shape)} of {weight.dtype}; rebuild the adapter for this model"
                )
        with self.lm.lock:
            self._known[payload.sha256] = lora, payload
        return payload.sha256

    def remove(self, name: str) -> None:
        """Raises ``NotFound`` for an unknown name, ``InvalidInput`` within a block of this thread that wears it."""
        with self.lm.lock:
            lora, _ = self._get(name)
            if any(worn is lora for worn, _ in self._worn):
                raise InvalidInput(f"adapter {name!r} is in use; leave its block first")
            del self._known[name]

    def to_payload(self, name: str) -> TensorPayload:
        """What was added as ``name``. Raises ``NotFound``."""
        with self.lm.lock:
            return self._get(name)[1]

    @contextmanager
    def using(self, names: Sequence[str], weights: Sequence[float] | None = None) -> Iterator[None]:
        """Wear exactly these adapters (none: the bare model), each times its weight (default 1), for the block.

        Other threads wait for the model meanwhile. A block within a block wears its own adapters only; leaving
        it, also by an exception, brings back the outer ones. Raises ``NotFound`` and ``InvalidInput``.
        """
        with self.lm.lock:
            chosen, overlay = self._choose(names, weights)
            outer, outer_overlay = self._worn, self.lm.overlay
            if bool(outer) != bool(outer_overlay):
                raise InvalidInput(f"lm.overlay={outer_overlay!r} was not put on by using(); leave that block first")
            self._wear(chosen, overlay)
            try:
                yield
            finally:
                self._wear(outer, outer_overlay)

    @contextmanager
    def merged(self, names: Sequence[str], weights: Sequence[float] | None = None) -> Iterator[None]:
        """As ``using``, but the deltas are added into the weights, which then cost nothing per token.

        The original weights are kept aside and put back bit for bit at the end. Raises also ``InvalidInput`` inside
        another block, and is no place for one: it starts from the bare weights.
        """
        with self.lm.lock:
            if self.lm.overlay:
                raise InvalidInput(f"merged() starts from bare weights, but lm.overlay={self.lm.overlay!r} is worn")
            chosen, overlay = self._choose(names, weights)
            kept = {}
            try:
                for module, delta in _deltas(chosen).items():
                    weight = linear(self.lm, module).weight.data
                    kept[module] = weight.clone()
                    weight.copy_(weight.double() + delta)
                self.lm.overlay = overlay and f"merged:{overlay}"
                yield
            finally:
                for module, original in kept.items():
                    linear(self.lm, module).weight.data.copy_(original)
                self.lm.overlay = ""

    def _wear(self, chosen: Worn, overlay: str) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles = attach(self.lm, chosen)
        self._worn, self.lm.overlay = chosen, overlay

    def _choose(self, names: Sequence[str], weights: Sequence[float] | None) -> tuple[Worn, str]:
        """The adapters in the order of names, so that equal overlays mean equal numbers, and their overlay."""
        shares = [1.0] * len(names) if weights is None else [float(weight) for weight in weights]
        if len(shares) != len(names) or len(set(names)) != len(names) or not all(map(math.isfinite, shares)):
            raise InvalidInput(f"names={list(names)!r}, weights={weights!r}: give distinct names, each a finite weight")
        pairs = sorted(zip(names, shares, strict=True))
        overlay = hashlib.sha256(json.dumps(pairs).encode()).hexdigest() if pairs else ""
        return tuple((self._get(name)[0], share) for name, share in pairs), overlay

    def _get(self, name: str) -> tuple[LoRA, TensorPayload]:
        if name not in self._known:
            raise NotFound(f"adapter name={name!r} is not known to this model; add() its payload first")
        return self._known[name]


def linear(lm: CausalLM, name: str) -> Linear:
    """The linear map ``name`` of the model's body. Raises ``InvalidInput`` if there is none.

    The output head is no part of the body: in many models it is the embedding table, and would change with it.
    """
    torch = require("torch", "adapters")
    try:
        found: Any = lm.model.base_model.get_submodule(name)
    except AttributeError:
        found = None
    if not isinstance(found, torch.nn.Linear):
        raise InvalidInput(f"module {name!r} of {lm.name} is {type(found).__name__}, not a linear map of its body")
    return cast("Linear", found)


def attach(lm: CausalLM, chosen: Worn) -> list[RemovableHandle]:
    """Hooks that add ``chosen`` to what the modules give, until each is removed. The caller holds ``lm.lock``."""
    return [
        linear(lm, module).register_forward_hook(_hook(down, up, lora.scale * weight))
        for lora, weight in chosen
        for module, (down, up) in lora.pairs.items()
    ]


def _hook(down: Tensor, up: Tensor, scale: float) -> Callable[[Any, tuple[Tensor, ...], Tensor], Tensor]:
    def add(_module: Any, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        return output + (inputs[0] @ down.T) @ up.T * scale

    return add


def _deltas(chosen: Worn) -> dict[str, Tensor]:
    """The sum of ``w (alpha / r) B A`` of each module, in float64."""
    deltas: dict[str, Tensor] = {}
    for lora, weight in chosen:
        for module, (down, up) in lora.pairs.items():
            delta = (up.double() @ down.double()) * (lora.scale * weight)
            deltas[module] = deltas[module] + delta if module in deltas else delta
    return deltas


def _check_pair(module: str, pair: Mapping[str, Tensor]) -> None:
    if set(pair) != {"A", "B"}:
        raise InvalidInput(f"{module} has only lora_{min(pair)}; an adapter needs lora_A and lora_B of each module")
    down, up = pair["A"], pair["B"]
    if down.ndim != 2 or up.ndim != 2 or down.shape[0] != up.shape[1] or not down.shape[0]:
        raise InvalidInput(
            f"{module}: lora_A {tuple(down.shape)} must be (r, in) and lora_B {tuple(up.shape)} (out, r)"
        )
    if not (down.isfinite().all() and up.isfinite().all()):
        raise InvalidInput(f"{module}: the adapter holds values that are not finite")
