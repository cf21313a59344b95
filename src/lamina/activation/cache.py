"""KVCube: the key-value cache of a token prefix, kept as a memory.

MemOS, arXiv 2507.03724, section 3 (activation memory): what is read at every call is read once, and its keys and
values are handed to the model instead of its text. Reading on from an attached cube gives the tokens that reading the
whole prompt would give.

At rest (``to_payload``) keys have their positions taken off, in float32 and before any rounding, so that a cube can
be placed elsewhere. In memory keys stand at positions 0..n-1, where a prefix stands: ``attach`` copies nothing, and a
prefix takes its own bytes and no second form of them. Tensors are shared and never written to: transformers' dynamic
layers grow by concatenation into new tensors, so neither a reply nor a thread can change a cube.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from lamina._optional import require
from lamina.activation import self_test, storage
from lamina.activation.eligibility import fresh, layout
from lamina.activation.prefill import attached, checked_ids, read, taken
from lamina.cube import file
from lamina.cube.payload import Fingerprint, TensorPayload
from lamina.errors import CorruptCube, InvalidInput
from lamina.tensors.rotary import Rotary

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import DynamicCache

    from lamina.activation.storage import Form
    from lamina.llm.causal import CausalLM


@dataclass(frozen=True, slots=True, eq=False)
class KVCube:
    """``ids`` (n), for each layer ``keys`` ``(H_kv, n, d)`` turned to positions 0..n-1 and ``values`` ``(H_kv, n, d)``
    in the model's dtype, and ``logits`` ``(V,)`` float32 after the last token. Never write to its tensors.

    ``exact`` is False for a merge of fragments, which lacks the attention between them.
    """

    ids: tuple[int, ...]
    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]
    logits: Tensor
    fingerprint: Fingerprint
    rotary: Rotary
    exact: bool = True

    def __repr__(self) -> str:  # neither tensors nor ids: a log is no place for what a memory says
        return f"KVCube({len(self.ids)} tokens of {self.fingerprint.architecture}, exact={self.exact})"

    @classmethod
    def build(cls, lm: CausalLM, ids: Sequence[int]) -> Self:
        """Read ``ids`` once. Raises ``InvalidInput`` for ids that are empty, no ids of ``lm``, several texts, or over
        its context, and (code ``UNSUPPORTED_MODEL``) for a model whose cache is no plain prefix."""
        shape = layout(lm)
        checked = checked_ids(lm, ids)
        with lm.lock:
            fingerprint = lm.fingerprint
            cache, logits = read(lm, fresh(lm), checked)
        keys, values = taken(cache)
        return cls(checked, keys, values, logits, fingerprint, shape.rotary)

    def extend(self, lm: CausalLM, ids: Sequence[int]) -> KVCube:
        """A new cube of these tokens and then ``ids``, of which only ``ids`` are read. Raises as ``build`` does."""
        return self._continued(lm, len(self.ids), checked_ids(lm, ids, before=len(self.ids)))

    def become(self, lm: CausalLM, ids: Sequence[int]) -> KVCube:
        """The cube of ``ids``; leading tokens that it shares with this one are not read again (but for the last
        token, if all are shared: its logits are not known). Raises as ``build`` does."""
        wanted = checked_ids(lm, ids)
        if wanted == self.ids:
            self.check(lm)
            return self
        keep = min(self.shared(wanted), len(wanted) - 1)
        return self._continued(lm, keep, wanted[keep:]) if keep else KVCube.build(lm, wanted)

    def shared(self, ids: Sequence[int]) -> int:
        """Leading tokens of ``ids`` that this cube holds."""
        pairs = enumerate(zip(self.ids, ids, strict=False))
        return next((place for place, (mine, other) in pairs if mine != other), min(len(self.ids), len(ids)))

    def matches(self, prompt_ids: Sequence[int]) -> bool:
        """Whether ``prompt_ids`` begin with all tokens of this cube: only then may it stand for them."""
        return self.shared(prompt_ids) == len(self.ids)

    def attach(self, lm: CausalLM) -> DynamicCache:
        """A fresh cache that holds this prefix; give it to ``lm.steps(rest, n, cache=...)``. Copies nothing.

        Raises ``FingerprintMismatch`` if ``lm`` is not the model that made it, or is under another adapter.
        """
        self.check(lm)
        return attached(lm, self.keys, self.values)

    def check(self, lm: CausalLM) -> None:
        """Raise ``FingerprintMismatch`` unless ``lm`` is the model of this cube."""
        self.fingerprint.check(lm.fingerprint)

    def unrotated(self, layer: int) -> Tensor:
        """Keys of ``layer`` without positions, ``(H_kv, n, d)`` float32 (float64 for float64); a new tensor."""
        torch = require("torch", "reading a key-value cube")
        return self.rotary.unrotate(self.keys[layer], torch.arange(len(self.ids)))

    @property
    def nbytes(self) -> int:
        """Live bytes of keys and values, counted from the storages behind them, each once."""
        storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in (*self.keys, *self.values)}
        return sum(storages.values())

    def to_payload(self, form: Form = "float32") -> TensorPayload:
        """Everything ``from_payload`` needs. ``form`` is what keys and values are rounded to (``activation.storage``).

        Raises ``InvalidInput`` for a merge of fragments: keep its fragments instead.
        """
        if not self.exact:
            raise InvalidInput("this cube is a merge of fragments, not the cache of a text: keep its fragments instead")
        return storage.pack(self, form)

    @classmethod
    def from_payload(cls, payload: TensorPayload, lm: CausalLM, *, check: bool = True) -> Self:
        """The cube in ``payload``, for ``lm``. ``check`` reads its last tokens again (``activation.self_test``).

        Raises ``FingerprintMismatch`` for another model, ``CorruptCube`` for tensors that are missing, misshapen or
        fail the test, ``InvalidInput`` for a model that keeps no plain prefix.
        """
        payload.fingerprint.check(lm.fingerprint)
        shape = layout(lm)
        stored = storage.unpack(payload, shape, lm.model.dtype)
        try:
            ids = checked_ids(lm, stored.ids)
        except InvalidInput as error:
            raise CorruptCube(f"the cube's ids do not fit its model: {error}") from error
        cube = cls(ids, stored.keys, stored.values, stored.logits, payload.fingerprint, shape.rotary)
        if check:
            self_test.check(lm, cube, stored.form)
        return cube

    @classmethod
    def load(cls, path: str | os.PathLike[str], lm: CausalLM, *, check: bool = True) -> Self:
        """The cube in the ``.cube`` file at ``path``: mapped, so that values stored in the model's own dtype stay on
        the disk until they are used. Raises as ``lamina.cube.file.read`` and ``from_payload`` do."""
        payload = file.read(path).payload
        if not isinstance(payload, TensorPayload):
            raise InvalidInput(f"path {os.fspath(path)!r} holds a memory of text, not a key-value cache")
        return cls.from_payload(payload, lm, check=check)

    def _continued(self, lm: CausalLM, keep: int, ids: tuple[int, ...]) -> KVCube:
        with lm.lock:
            self.check(lm)
            cache, logits = read(lm, attached(lm, self.keys, self.values, slice(keep)), ids)
        keys, values = taken(cache)
        return KVCube((*self.ids[:keep], *ids), keys, values, logits, self.fingerprint, self.rotary, self.exact)
