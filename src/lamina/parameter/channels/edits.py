"""Rank-1 edits of heads: a component made louder, quieter or silent in the weights, until the edit is taken back.

``W_O <- W_O + (alpha - 1) a_k (a_k^T W_O)`` on the columns of one head multiplies its component k by ``alpha`` and
touches no other (Talking Heads, arXiv 2406.09519). ``W_V`` is left alone: with grouped-query attention several heads
share it.

An edit is a memory like any other: its payload holds what is added (``a_k``, the row ``a_k^T W_O``, alpha) and the
fingerprint of the model it belongs to, some 2.5 KB a component. While it is applied, ``lm.overlay`` names it, so caches
and adapters of the bare model are refused, and a second edit too. Rounding cannot be undone by arithmetic, so the
edited heads' own columns are kept aside while the edit lasts and put back bit for bit; of the rest of the model there
is no copy.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from lamina.cube.cube import Header, MemCube, Provenance, Scope
from lamina.cube.payload import Fingerprint, TensorPayload
from lamina.errors import InvalidInput
from lamina.llm.causal import CausalLM
from lamina.parameter.channels.components import Component, Head, HeadSVD
from lamina.parameter.channels.discovery import Channel
from lamina.parameter.channels.heads import Heads

NAME = "talking-heads"
_NAMES = ("alphas", "directions", "heads", "rows")
_FIT = 1e-3  # how far a stored row may be from the model's own, relative


@dataclass(frozen=True, slots=True)
class Scaled:
    """One change: component ``k`` of a head times ``alpha``; k is for people, the direction is what counts."""

    layer: int
    head: int
    k: int
    alpha: float


class WeightDelta:
    """Some components scaled, in the weights of ``lm``: ``apply()``, ``revert()``, or ``with delta.applied():``."""

    def __init__(self, lm: CausalLM, payload: TensorPayload) -> None:
        """As ``to_payload`` made it. Raises ``FingerprintMismatch`` for another model's edit, ``InvalidInput`` for
        tensors that are none, or if something is laid over ``lm`` already."""
        _require_bare(lm)
        payload.fingerprint.check(lm.fingerprint)
        self.lm = lm
        self.payload = payload
        self._heads = Heads(lm)
        self._parts = _parts(self._heads, payload)
        self._kept: dict[Head, Tensor] = {}

    @classmethod
    def of(cls, svd: HeadSVD, edits: Sequence[tuple[int, int, int, float]]) -> Self:
        """``edits``: (layer, head, k, alpha). Changes nothing yet. Raises ``InvalidInput`` for none, for a component
        named twice, for a factor that is not finite, and as the constructor."""
        lm, heads = svd.lm, svd.heads
        with lm.lock:
            _require_bare(lm)
            channel = Channel.of(svd, [Component(*each[:3]) for each in edits])
            alphas = torch.tensor([float(each[3]) for each in edits], dtype=torch.float64)
            rows = [
                a @ heads.output_slice(member.layer, member.head).detach().to(heads.dtype)
                for a, member in zip(channel.directions, channel.members, strict=True)
            ]
            named = {
                "alphas": alphas,
                "directions": channel.directions,
                "heads": torch.tensor([list(member) for member in channel.members]),
                "rows": torch.stack(rows),
            }
            return cls(lm, TensorPayload.from_torch(named, lm.fingerprint))

    @property
    def scaled(self) -> tuple[Scaled, ...]:
        return tuple(part.scaled for part in self._parts)

    @property
    def is_applied(self) -> bool:
        return bool(self._kept)

    @property
    def kept_bytes(self) -> int:
        """Bytes of weights kept aside to be put back; 0 unless applied."""
        return sum(original.nbytes for original in self._kept.values())

    @property
    def fingerprint(self) -> Fingerprint:
        """Of the bare model that the edit belongs to."""
        return self.payload.fingerprint

    def apply(self) -> None:
        """Edit the weights in place. Raises ``InvalidInput`` if this or anything else is laid over the model."""
        with self.lm.lock:
            _require_bare(self.lm)
            self.fingerprint.check(self.lm.fingerprint)
            edited: dict[Head, Tensor] = {}
            for part in self._parts:
                at = Head(part.scaled.layer, part.scaled.head)
                weight = edited.get(at)
                if weight is None:
                    weight = self._heads.output_slice(*at).detach().double()
                edited[at] = weight + (part.scaled.alpha - 1) * torch.outer(part.direction, part.row)
            for at, weight in edited.items():
                view = self._heads.output_slice(*at).detach()
                self._kept[at] = view.clone()
                view.copy_(weight)
            self.lm.overlay = self._overlay

    def revert(self) -> None:
        """Put the weights back bit for bit. Raises ``InvalidInput`` unless this edit is the one applied."""
        with self.lm.lock:
            if not self._kept or self.lm.overlay != self._overlay:
                raise InvalidInput(f"this edit is not applied to {self.lm.name} (lm.overlay={self.lm.overlay!r})")
            for at, original in self._kept.items():
                self._heads.output_slice(*at).detach().copy_(original)
            self._kept.clear()
            self.lm.overlay = ""

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Applied for the block, which holds ``lm.lock``."""
        with self.lm.lock:
            self.apply()
            try:
                yield
            finally:
                self.revert()

    def to_cube(self, scope: Scope | None = None, **metadata: Any) -> MemCube:
        """The edit as a parameter memory; ``metadata`` says what it was made for. Read it with the constructor:
        ``WeightDelta(lm, cube.payload)``."""
        told = [[str(Component(s.layer, s.head, s.k)), s.alpha] for s in self.scaled]
        header = Header(
            kind="parameter",
            semantic_type="edit",
            scope=scope or Scope(),
            provenance=Provenance(extractor=NAME, model=self.lm.name),
            tags=(NAME,),
            metadata={"components": told, **metadata},
        )
        return MemCube(header, self.payload)

    @property
    def _overlay(self) -> str:
        return f"edit:{self.payload.sha256}"


def edit(lm: CausalLM | HeadSVD, edits: Sequence[tuple[int, int, int, float]]) -> WeightDelta:
    """Scale components of ``lm`` in its weights, at once: (layer, head, k, alpha) each. ``revert()`` undoes it.

    Raises as ``WeightDelta.of`` and ``apply``.
    """
    delta = WeightDelta.of(lm if isinstance(lm, HeadSVD) else HeadSVD(lm), edits)
    delta.apply()
    return delta


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    """``direction`` (d,) and ``row`` (d_h,) in float64."""

    scaled: Scaled
    direction: Tensor
    row: Tensor


def _require_bare(lm: CausalLM) -> None:
    if lm.overlay:
        raise InvalidInput(
            f"lm.overlay={lm.overlay!r} lies over {lm.name}; revert that edit, or leave its block, first"
        )


def _parts(heads: Heads, payload: TensorPayload) -> list[_Part]:
    if tuple(payload.tensors) != _NAMES:
        raise InvalidInput(f"an edit holds the tensors {_NAMES}, not {tuple(payload.tensors)[:8]}")
    alphas, directions, named, rows = (payload.tensors[name].torch() for name in _NAMES)
    count = len(alphas) if alphas.ndim == 1 else 0
    shapes = [tuple(tensor.shape) for tensor in (directions, named, rows)]
    if not count or shapes != [(count, heads.width), (count, 3), (count, heads.head_dim)]:
        raise InvalidInput(f"the edit's tensors have shapes {shapes}, which do not fit {heads.lm.name}")
    if named.is_floating_point() or not all(t.double().isfinite().all() for t in (alphas, directions, rows)):
        raise InvalidInput("the edit's heads must be integers and its numbers finite")
    found = []
    for alpha, direction, at, row in zip(alphas, directions, named.tolist(), rows, strict=True):
        own = direction.double() @ heads.output_slice(at[0], at[1]).detach().double()
        if abs(float(direction.double().norm()) - 1) > _FIT or float((own - row).norm()) > _FIT * float(own.norm()):
            raise InvalidInput(f"the edit of {Component(*at)} is no component of {heads.lm.name}; make it anew")
        found.append(_Part(Scaled(at[0], at[1], at[2], float(alpha)), direction.double(), row.double()))
    if len({part.scaled.layer * heads.heads + part.scaled.head for part in found}) < len(found):
        _require_orthogonal(found)
    return found


def _require_orthogonal(parts: Sequence[_Part]) -> None:
    """Components of one head do not touch each other; the same one twice would."""
    for i, part in enumerate(parts):
        for other in parts[:i]:
            same = (part.scaled.layer, part.scaled.head) == (other.scaled.layer, other.scaled.head)
            if same and abs(float(part.direction @ other.direction)) > _FIT:
                raise InvalidInput(f"components {part.scaled} and {other.scaled} of one head overlap; name each once")
