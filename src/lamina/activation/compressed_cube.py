"""CompressedCube: the cache of a text as a policy left it, kept as a memory.

``KVCube`` keeps every token exactly; this keeps what fits a budget: evicted, factored, rounded, in the very form in
which the model reads it, so that a stored cube takes on disk what it takes in memory. Beside it stand the policy, the
ids of the text, the fingerprint of the model, and a test: eight tokens that were read behind the cache when it was
made, and the logits after them. They are read again when the cube is loaded, and must come out alike.

Keys keep the positions that they were read at: a cube stands for a prefix and nothing else.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from lamina._optional import require
from lamina.activation.attach import CachePolicy, attach
from lamina.activation.policies import parse_policy, written_policy
from lamina.activation.prefill import checked_ids
from lamina.cube import file
from lamina.cube.payload import Fingerprint, TensorPayload
from lamina.errors import CorruptCube, InvalidInput

if TYPE_CHECKING:
    from torch import Tensor

    from lamina.activation.budgeted.snapshot import Held
    from lamina.llm.causal import CausalLM

_PROBE = 8
_TOLERANCE = 1e-3  # of the standard deviation of the logits; what other threads or builds of a BLAS change is below
_SIXTEEN = 0.1  # the same for a model of 16 bits


@dataclass(frozen=True, slots=True, eq=False)
class CompressedCube:
    """``ids`` (n) as ``policy`` keeps them, ``logits`` ``(V,)`` float32 after the last; ``probe`` ids and the
    ``answer`` ``(V,)`` float32 after them, read behind the cache."""

    ids: tuple[int, ...]
    policy: CachePolicy
    cache: Held
    logits: Tensor
    probe: tuple[int, ...]
    answer: Tensor
    fingerprint: Fingerprint

    def __repr__(self) -> str:  # neither tensors nor ids: a log is no place for what a memory says
        return f"CompressedCube({len(self.ids)} tokens in {self.nbytes} bytes by {written_policy(self.policy)})"

    @classmethod
    def build(cls, lm: CausalLM, ids: Sequence[int], policy: CachePolicy) -> Self:
        """Read ``ids`` once under ``policy``. Raises ``InvalidInput`` for ids that ``lm`` cannot read, a policy without
        a written form, or a model that no policy can be attached to; ``BudgetError``."""
        checked = checked_ids(lm, ids)
        written_policy(policy)
        with lm.lock:
            fingerprint = lm.fingerprint
            cache, logits = _read(lm, policy, None, checked)
            probe = checked[:_PROBE]
            _, answer = _read(lm, policy, copy.deepcopy(cache), probe)
        return cls(checked, policy, cache, logits, probe, answer, fingerprint)

    @contextmanager
    def attached(self, lm: CausalLM) -> Iterator[Any]:
        """Within the block, which holds ``lm.lock``, ``lm`` reads under the cube's policy; the value is a copy of the
        cache, to be given to ``lm.steps(rest, n, cache=...)``. Raises ``FingerprintMismatch`` for another model."""
        with lm.lock:
            self.fingerprint.check(lm.fingerprint)
            with attach(lm.model, self.policy):
                yield copy.deepcopy(self.cache)

    @property
    def nbytes(self) -> int:
        """Live bytes of the cache."""
        return self.cache.nbytes

    def to_payload(self) -> TensorPayload:
        """Everything ``from_payload`` needs, as it is held."""
        torch = require("torch", "storing a compressed cache")
        from lamina.activation.budgeted.snapshot import pack

        tensors = {f"cache.{name}": part.contiguous() for name, part in pack(self.cache).items()}
        said = written_policy(self.policy).encode()
        tensors |= {"policy": torch.tensor(list(said), dtype=torch.uint8)}
        tensors |= {"ids": torch.tensor(self.ids, dtype=torch.int32), "logits": self.logits}
        tensors |= {"probe": torch.tensor(self.probe, dtype=torch.int32), "answer": self.answer}
        return TensorPayload.from_torch(tensors, self.fingerprint)

    @classmethod
    def from_payload(cls, payload: TensorPayload, lm: CausalLM, *, check: bool = True) -> Self:
        """The cube in ``payload``, for ``lm``. ``check`` reads its probe again.

        Raises ``FingerprintMismatch`` for another model, ``CorruptCube`` for tensors that are missing or fail the test.
        """
        from lamina.activation.budgeted.snapshot import unpack

        payload.fingerprint.check(lm.fingerprint)
        found = {name: view.torch().clone() for name, view in payload.tensors.items()}
        if missing := {"policy", "ids", "logits", "probe", "answer"} - found.keys():
            raise CorruptCube(f"the payload holds no compressed cache: {sorted(missing)[0]!r} is missing")
        policy = _policy(found["policy"])
        tensors = {name.removeprefix("cache."): part for name, part in found.items() if name.startswith("cache.")}
        cache = unpack(policy, lm.model, tensors)
        ids, probe = (tuple(found[name].tolist()) for name in ("ids", "probe"))
        cube = cls(ids, policy, cache, found["logits"], probe, found["answer"], payload.fingerprint)
        if check:
            cube._check(lm)
        return cube

    @classmethod
    def load(cls, path: str | os.PathLike[str], lm: CausalLM, *, check: bool = True) -> Self:
        """The cube in the ``.cube`` file at ``path``. Raises as ``lamina.cube.file.read`` and ``from_payload`` do."""
        payload = file.read(path).payload
        if not isinstance(payload, TensorPayload):
            raise InvalidInput(f"path {os.fspath(path)!r} holds a memory of text, not a compressed cache")
        return cls.from_payload(payload, lm, check=check)

    def _check(self, lm: CausalLM) -> None:
        with lm.lock:
            _, again = _read(lm, self.policy, copy.deepcopy(self.cache), self.probe)
        off = float((again - self.answer).abs().max() / self.answer.std())
        allowed = _SIXTEEN if lm.model.dtype.itemsize == 2 else _TOLERANCE
        if not off <= allowed:  # NaN fails
            raise CorruptCube(
                f"the self-test of the compressed cube failed: {len(self.probe)} tokens, read again, deviate by "
                f"{off:.2g} in logits; {allowed:g} is allowed. Build the cube again from its text"
            )


def _read(lm: CausalLM, policy: CachePolicy, cache: Any, ids: Sequence[int]) -> tuple[Any, Tensor]:
    """The cache behind ``ids``, and the logits after them, ``(V,)`` float32."""
    torch = require("torch", "reading under a cache policy")
    with torch.no_grad(), attach(lm.model, policy):
        answer = lm.model(torch.tensor([list(ids)]), past_key_values=cache, use_cache=True, logits_to_keep=1)
    return answer.past_key_values, answer.logits[0, -1].float()


def _policy(said: Tensor) -> CachePolicy:
    try:
        return parse_policy(bytes(said.tolist()).decode())
    except (InvalidInput, ValueError) as error:
        raise CorruptCube(f"the compressed cube names a policy that cannot be read: {error}") from error
