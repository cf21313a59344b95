"""LatentState: what Contextual Memory Reweaving holds of a text, a buffer of slots and a ring of candidates.

A slot is one token of what scrolled away: where it stood, which it was, its salience, and a low-rank code of its
hidden state at each captured layer. The ring holds the same of the last ``window`` tokens, which attention still sees.
Everything is a tensor of fixed size, a row of it a text of the batch, so the bytes do not depend on how much was read:
``expected_bytes`` is the formula, ``nbytes`` counts the storages.

A state is an activation memory: ``cube`` and ``from_cube``, refused for another model or reweaver.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Self

import torch
from torch import Tensor

from lamina.activation.reweaving.buffer import EMPTY, Kept
from lamina.cube.cube import Header, MemCube, Scope
from lamina.cube.payload import Fingerprint, TensorPayload
from lamina.errors import CorruptCube, InvalidInput

EXTRACTOR = "contextual-memory-reweaving"
_RUNNING = ("sums", "ahead", "normalizer")


@dataclass(frozen=True, slots=True, eq=False)
class LatentState:
    """Of ``B`` texts, each ``seen`` tokens long.

    ``buffer`` has ``K`` places, ``ring`` ``W``. ``sums`` ``(B, 2)`` float64: running sum of raw salience and of its
    square. ``ahead`` ``(B, d)`` and ``normalizer`` ``(B,)``: the last hidden state and the logarithm of the sum of its
    exponentiated logits, from which it is known how likely the next token was.
    """

    seen: int
    buffer: Kept
    ring: Kept
    sums: Tensor
    ahead: Tensor
    normalizer: Tensor

    @classmethod
    def empty(cls, batch: int, *, slots: int, window: int, layers: int, code_dim: int, like: Tensor) -> Self:
        """Nothing read yet by a model of hidden states as wide as ``like`` ``(d, ...)``, of its dtype and device."""
        return cls(
            0,
            Kept.empty(like.new_zeros(batch, slots, layers, code_dim)),
            Kept.empty(like.new_zeros(batch, window, layers, code_dim)),
            like.new_zeros(batch, 2, dtype=torch.float64),
            like.new_zeros(batch, len(like)),
            like.new_zeros(batch, dtype=torch.promote_types(like.dtype, torch.float32)),
        )

    def __repr__(self) -> str:  # no ids: a log is no place for what a memory says
        rows, slots = self.buffer.positions.shape
        held = int((self.buffer.positions != EMPTY).sum())
        return f"LatentState({rows} texts of {self.seen} tokens, {held} of {rows * slots} slots taken)"

    @property
    def rows(self) -> int:
        """Texts in it."""
        return len(self.sums)

    @property
    def tensors(self) -> dict[str, Tensor]:
        """All of them, by name."""
        parts = {"buffer": self.buffer, "ring": self.ring}
        held = {f"{part}.{name}": tensor for part, kept in parts.items() for name, tensor in kept.tensors.items()}
        return held | {name: getattr(self, name) for name in _RUNNING}

    @property
    def nbytes(self) -> int:
        """Live bytes, counted from the storages behind all tensors, each once."""
        storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in self.tensors.values()}
        return sum(storages.values())

    @property
    def expected_bytes(self) -> int:
        """``B ((K + W)(m p b + 12 + s) + d b + 16 + s)``: ``b`` bytes a number of a code, ``s`` a salience (4, or 8 in
        float64), int32 for position and id, float32 for the count of reading, then the running figures."""
        _, slots, layers, code_dim = self.buffer.codes.shape
        number, score = self.ahead.element_size(), self.normalizer.element_size()
        token = layers * code_dim * number + 12 + score
        return self.rows * ((slots + len(self.ring)) * token + self.ahead.shape[1] * number + 16 + score)

    def detached(self) -> LatentState:
        """The same without its graph: what is learned later does not reach back before it."""
        buffer, ring = (Kept(**{n: t.detach() for n, t in kept.tensors.items()}) for kept in (self.buffer, self.ring))
        return replace(self, buffer=buffer, ring=ring)

    def forgotten(self) -> LatentState:
        """The same text with an empty buffer: what lies before the window is gone."""
        return replace(self, buffer=Kept.empty(self.buffer.codes.detach()))

    def merge(self, other: LatentState) -> LatentState:
        """The slots of both, of which the ``K`` most salient stay; a token that both hold counts once.

        Positions stay as they are, so both should be of one text or of stretches that do not overlap. The window is
        that of whichever has read further (this one, if neither has). Raises ``InvalidInput`` for other sizes.
        """
        mine, theirs = ({name: (tuple(t.shape), t.dtype) for name, t in s.tensors.items()} for s in (self, other))
        if differing := [name for name in mine if mine[name] != theirs[name]]:
            raise InvalidInput(
                f"other={other!r}: its {differing[0]} is {theirs[differing[0]]}, here it is {mine[differing[0]]}; "
                "merge states of one reweaver with equally many texts"
            )
        ahead = self if self.seen >= other.seen else other
        known = _places_in(other.buffer, self.buffer)
        new = replace(other.buffer, positions=other.buffer.positions.masked_fill(known, EMPTY))
        return replace(ahead, buffer=self.buffer.joined(new).ordered().strongest(len(self.buffer), ahead.seen))

    def cube(self, made_by: Fingerprint, *, scope: Scope | None = None) -> MemCube:
        """This state as an activation memory; ``made_by`` is what ``MemoryReweaver.fingerprint`` says."""
        header = Header(
            kind="activation",
            semantic_type="latent_state",
            scope=scope or Scope(),
            metadata={EXTRACTOR: {"seen": self.seen}},
        )
        return MemCube(header, TensorPayload.from_torch({n: t.detach() for n, t in self.tensors.items()}, made_by))

    @classmethod
    def from_cube(cls, cube: MemCube, made_by: Fingerprint) -> Self:
        """Raises ``FingerprintMismatch`` for a state of another model or reweaver, ``InvalidInput`` for a cube that is
        none, ``CorruptCube`` for tensors that are missing or do not fit each other."""
        payload, told = cube.payload, cube.header.metadata.get(EXTRACTOR)
        if not isinstance(payload, TensorPayload) or not isinstance(told, dict):
            raise InvalidInput(f"cube {cube.id!r} is no latent state; give one made by LatentState.cube()")
        payload.fingerprint.check(made_by)
        tensors = {name: view.torch().clone() for name, view in payload.tensors.items()}
        try:
            held = [Kept(**{f.name: tensors[f"{part}.{f.name}"] for f in fields(Kept)}) for part in ("buffer", "ring")]
            state = cls(int(told["seen"]), held[0], held[1], *(tensors[name] for name in _RUNNING))
        except KeyError as error:
            raise CorruptCube(f"cube {cube.id!r} lacks {error} of a latent state") from error
        if state.nbytes != state.expected_bytes:
            raise CorruptCube(f"cube {cube.id!r}: its tensors do not fit each other")
        return state


def _places_in(kept: Kept, other: Kept) -> Tensor:
    """Bool ``(B, n)``: which places of ``kept`` hold a token that ``other`` holds too."""
    position = kept.positions[:, :, None] == other.positions[:, None]
    return (position & (kept.ids[:, :, None] == other.ids[:, None])).any(2)
