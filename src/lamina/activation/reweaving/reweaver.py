"""MemoryReweaver: what is learned in Contextual Memory Reweaving, how it is identified and kept, and its report."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, Self, cast, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lamina.activation.reweaving.buffer import EMPTY, fade
from lamina.activation.reweaving.state import EXTRACTOR, LatentState
from lamina.activation.reweaving.weaving import Reweave
from lamina.cube.cube import Header, MemCube
from lamina.cube.payload import Fingerprint, TensorPayload
from lamina.errors import InvalidInput
from lamina.llm.causal import CausalLM

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Signal = Literal["surprisal", "learned"]


@dataclass(frozen=True, slots=True)
class Remembered:
    """A slot for people: the ``token`` (its id, or its text), where it stood, its salience by now, and how many
    positions' worth of reading it has had."""

    token: int | str
    position: int
    salience: float
    attended: float


class MemoryReweaver(nn.Module):
    """What is learned of a reweaver for a model of hidden states ``width`` wide whose attention sees ``window`` tokens.

    ``capture`` and ``inject`` count decoder layers from 1; ``slots`` are kept a text, each with ``code_dim`` numbers a
    captured layer, read by ``heads``. ``salience``: which signals decide what is kept. A text costs
    ``(slots + window) * (len(capture) * code_dim * bytes + 16)`` bytes and a little, however long it is.
    """

    def __init__(
        self,
        width: int,
        *,
        window: int,
        capture: Sequence[int],
        inject: Sequence[int],
        slots: int = 128,
        code_dim: int = 64,
        heads: int = 4,
        salience: Sequence[Signal] = get_args(Signal),
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.width, self.window, self.slots, self.code_dim, self.heads = width, window, slots, code_dim, heads
        self.capture, self.inject, self.signals = tuple(capture), tuple(inject), tuple(salience)
        self._check()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.encoder = nn.Parameter(torch.randn(len(capture), width, code_dim) * width**-0.5)
            self.reweaves = nn.ModuleList(Reweave(width, len(capture), code_dim, heads) for _ in inject)
        self.learned = nn.Parameter(torch.zeros(width))

    def _check(self) -> None:
        for name, value in (("window", self.window), ("width", self.width), ("slots", self.slots)):
            if value < 1:
                raise InvalidInput(f"{name}={value!r} must be a positive number")
        for name, layers in (("capture", self.capture), ("inject", self.inject)):
            if not layers or layers[0] < 1 or sorted(set(layers)) != list(layers):
                raise InvalidInput(f"{name}={layers!r}: give decoder layers, counted from 1, in rising order")
        if self.inject[0] <= self.capture[0]:
            raise InvalidInput(
                f"inject={self.inject!r} begins at or below the first of capture={self.capture!r}: the state that "
                "asks must be at least as deep as one that is kept; inject at a later layer"
            )
        if self.heads < 1 or self.code_dim % self.heads or self.slots < self.heads:
            raise InvalidInput(
                f"heads={self.heads!r} must divide code_dim={self.code_dim!r} and be no more than slots={self.slots!r}"
            )
        if not set(self.signals) <= set(get_args(Signal)) or not self.signals:
            raise InvalidInput(f"salience={self.signals!r}: give some of {get_args(Signal)}")

    def empty(self, batch: int = 1) -> LatentState:
        """The state of ``batch`` texts of which nothing is read."""
        if batch < 1:
            raise InvalidInput(f"batch={batch!r} must be a positive number")
        sizes = {"slots": self.slots, "window": self.window, "layers": len(self.capture), "code_dim": self.code_dim}
        return LatentState.empty(batch, **sizes, like=self.learned.detach())

    def encode(self, hidden: Tensor, place: int) -> Tensor:
        """``E_c RMSNorm(h)``: states ``(B, n, d)`` of captured layer number ``place`` as codes ``(B, n, code_dim)``."""
        return F.rms_norm(hidden, hidden.shape[-1:]) @ self.encoder[place]

    def raw_salience(self, surprise: Tensor, hidden: Tensor) -> Tensor:
        """``(B, n)``, before it is standardised; ``hidden`` ``(B, n, d)`` is the deepest captured state."""
        found = surprise if "surprisal" in self.signals else torch.zeros_like(surprise)
        if "learned" in self.signals:
            found = found + F.rms_norm(hidden, hidden.shape[-1:]) @ self.learned
        return found

    def report(self, state: LatentState, tokenizer: PreTrainedTokenizerBase | None = None) -> list[list[Remembered]]:
        """What is remembered of each text, the most salient first."""
        rows = []
        kept = state.buffer
        faded = fade(kept.salience.detach(), state.seen - kept.positions)
        for positions, ids, salience, attended in zip(kept.positions, kept.ids, faded, kept.attended, strict=True):
            slots = zip(ids.tolist(), positions.tolist(), salience.tolist(), attended.tolist(), strict=True)
            held = [slot for slot in slots if slot[1] != EMPTY]
            told = sorted(held, key=lambda slot: (-slot[2], slot[1]))
            rows.append([Remembered(str(tokenizer.decode([t])) if tokenizer else t, *rest) for t, *rest in told])
        return rows

    @property
    def places(self) -> list[Reweave]:
        """Where states are woven in, one for each layer of ``inject``."""
        return [cast("Reweave", place) for place in self.reweaves]

    @property
    def version(self) -> str:
        """Hash of the weights: a state of another version means nothing to this one."""
        digest = hashlib.sha256(repr((self.capture, self.inject, self.heads)).encode())
        for name, tensor in self.state_dict().items():
            digest.update(f"{name} {tuple(tensor.shape)}".encode())
            digest.update(tensor.cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
        return digest.hexdigest()[:16]

    def fingerprint(self, lm: CausalLM) -> Fingerprint:
        """The identity of the states that this reweaver makes with ``lm``, from the weights of both as they are now."""
        model = _identity(lm)
        return replace(model, weights=f"{model.weights}+reweaver-{self.version}")

    def cube(self, lm: CausalLM) -> MemCube:
        """The reweaver as a parameter cube; ``from_cube`` makes it again."""
        names = ("width", "window", "slots", "code_dim", "heads")
        settings: dict[str, Any] = {name: getattr(self, name) for name in names}
        settings |= {"capture": [*self.capture], "inject": [*self.inject], "salience": [*self.signals]}
        header = Header(kind="parameter", semantic_type="reweaver", metadata={EXTRACTOR: settings})
        return MemCube(header, TensorPayload.from_torch(self.state_dict(), _identity(lm)))

    @classmethod
    def from_cube(cls, lm: CausalLM, cube: MemCube) -> Self:
        """Raises ``FingerprintMismatch`` for another model's reweaver, ``InvalidInput`` for any other cube."""
        payload, settings = cube.payload, cube.header.metadata.get(EXTRACTOR)
        if not isinstance(payload, TensorPayload) or not isinstance(settings, dict) or "width" not in settings:
            raise InvalidInput(f"cube {cube.id!r} is no reweaver; give one made by MemoryReweaver.cube()")
        payload.fingerprint.check(_identity(lm))
        reweaver = cls(**settings).to(lm.model.dtype)
        reweaver.load_state_dict({name: view.torch() for name, view in payload.tensors.items()})
        return reweaver


def _identity(lm: CausalLM) -> Fingerprint:
    """Of ``lm`` with its weights read again: it remembers its own, and may have been taught since."""
    again = CausalLM(lm.model, lm.tokenizer, lm.name)
    again.overlay = lm.overlay
    return again.fingerprint
