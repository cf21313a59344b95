"""The eidetic memory of B'MOJO: the few past tokens that the state could not predict, kept verbatim (arXiv 2407.06324).

In the spirit of Lempel and Ziv, what is predictable is stored already. A token is offered with its score, how badly it
was predicted; the store has room for ``capacity`` and keeps the largest scores, the older of two equal ones. That is
the same as the ``capacity`` largest scores among all that was ever offered, so what it holds at every boundary of a
text can be told from the scores alone (``holdings``), and gradients pass through one gathering of keys and values.

Keys are kept without positions, next to the places where they stood: so a store can be put away (``to_payload``),
merged with that of another session, and traced back to the words it holds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from lamina.cube.payload import Fingerprint, TensorPayload
from lamina.errors import CorruptCube, InvalidInput

NOWHERE = -1  # the place of what is not there
_PAIRS, _PLACES, _SCORES = "store.pairs", "store.places", "store.scores"


@dataclass(frozen=True, slots=True, eq=False)
class InnovationStore:
    """``pairs`` ``(batch, capacity, 2, kv_heads, head_dim)``, keys without positions and values; ``places`` int64 and
    ``scores`` float32 ``(batch, capacity)``, largest first; ``NOWHERE`` and ``-inf`` where nothing is kept."""

    pairs: Tensor
    places: Tensor
    scores: Tensor

    @classmethod
    def empty(cls, like: Tensor, capacity: int) -> Self:
        """Room for ``capacity`` of ``like`` ``(batch, time, 2, kv_heads, head_dim)``."""
        batch = like.shape[0]
        places = torch.full((batch, capacity), NOWHERE, device=like.device)
        scores = torch.full((batch, capacity), -torch.inf, device=like.device)
        return cls(like.new_zeros(batch, capacity, *like.shape[2:]), places, scores)

    @property
    def capacity(self) -> int:
        return self.places.shape[1]

    @property
    def held(self) -> Tensor:
        """Bool ``(batch, capacity)``: where something is kept."""
        return self.places != NOWHERE

    def offer(self, key: Tensor, value: Tensor, places: Tensor, scores: Tensor) -> InnovationStore:
        """The store after tokens later than all it was offered before: ``key`` (without positions) and ``value``
        ``(batch, time, kv_heads, head_dim)``, ``places`` and ``scores`` ``(batch, time)``, in the order of time. A
        place ``NOWHERE`` offers nothing. Raises ``InvalidInput`` for shapes that do not fit."""
        pairs = torch.stack([key, value], dim=2)
        if pairs.shape[2:] != self.pairs.shape[2:] or not pairs.shape[:2] == places.shape == scores.shape:
            shapes = f"key {tuple(key.shape)}, places {tuple(places.shape)}, scores {tuple(scores.shape)}"
            raise InvalidInput(f"{shapes}: give one place and one score for each token, and heads as kept")
        return self.merged(InnovationStore(pairs, places, _offered(scores, places)))

    def merged(self, other: InnovationStore) -> InnovationStore:
        """The largest scores of both, such as of two sessions; of equal ones those of this store."""
        scores = torch.cat([self.scores, other.scores], dim=1)
        kept = _largest(scores, self.capacity)
        return InnovationStore(
            taken(torch.cat([self.pairs, other.pairs], dim=1), kept),
            torch.cat([self.places, other.places], dim=1).gather(1, kept),
            scores.gather(1, kept),
        )

    def as_kv(self) -> tuple[Tensor, Tensor]:
        """Keys without positions and values, each ``(batch, kv_heads, capacity, head_dim)``."""
        keys, values = self.pairs.transpose(1, 3).unbind(2)
        return keys, values

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor]) -> Self:
        """From what a layer keeps between calls; raises ``KeyError`` where that is no store."""
        return cls(tensors[_PAIRS], tensors[_PLACES], tensors[_SCORES])

    def as_tensors(self) -> dict[str, Tensor]:
        """What a layer keeps between calls."""
        return {_PAIRS: self.pairs, _PLACES: self.places, _SCORES: self.scores}

    def to_payload(self, fingerprint: Fingerprint, row: int = 0) -> TensorPayload:
        """What one row holds, for a cube: copies, nothing where nothing is kept."""
        held = self.held[row]
        return TensorPayload.from_torch(
            {name: tensor[row, held].detach() for name, tensor in self.as_tensors().items()}, fingerprint
        )

    @classmethod
    def from_payload(cls, payload: TensorPayload, fingerprint: Fingerprint, capacity: int) -> Self:
        """A store of one row with what was put away; of more than ``capacity`` the largest scores.

        Raises ``FingerprintMismatch`` for another model's, ``CorruptCube`` for tensors that are no store's.
        """
        payload.fingerprint.check(fingerprint)
        if set(payload.tensors) != {_PAIRS, _PLACES, _SCORES}:
            raise CorruptCube(f"the cube holds {sorted(payload.tensors)}: no innovation store; read it as what it is")
        found = {name: view.torch()[None] for name, view in payload.tensors.items()}
        count, pairs = found[_PLACES].shape, found[_PAIRS]
        if pairs.dim() != 5 or pairs.shape[2] != 2 or not pairs.shape[:2] == count == found[_SCORES].shape:
            raise CorruptCube(f"the store in the cube has shapes {[tuple(each.shape) for each in found.values()]}")
        kept = cls.empty(pairs, capacity).merged(InnovationStore.of(found))
        return cls(kept.pairs, kept.places, kept.scores)


def holdings(scores: Tensor, places: Tensor, capacity: int, chunk: int) -> Tensor:
    """What a store holds after each of several offers: int64 ``(batch, chunks, capacity)``, columns of ``scores``.

    ``scores`` and ``places`` ``(batch, capacity + chunks * chunk)``: first the store as it was, then what is offered,
    ``chunk`` tokens at a time.
    """
    worth = _offered(scores, places)
    held = torch.arange(capacity, device=scores.device).expand(len(scores), -1)
    found = []
    for start in range(capacity, scores.shape[1], chunk):
        offered = torch.arange(start, start + chunk, device=scores.device).expand(len(scores), -1)
        together = torch.cat([held, offered], dim=1)
        held = together.gather(1, _largest(worth.gather(1, together), capacity))
        found.append(held)
    return torch.stack(found, dim=1)


def taken(tensor: Tensor, columns: Tensor) -> Tensor:
    """``tensor`` ``(batch, time, ...)`` at ``columns`` ``(batch, n)`` of each row."""
    shape = (*columns.shape, *tensor.shape[2:])
    return tensor.gather(1, columns.view(*columns.shape, *(1,) * (tensor.dim() - 2)).expand(shape))


def _offered(scores: Tensor, places: Tensor) -> Tensor:
    return scores.float().masked_fill(places == NOWHERE, -torch.inf)


def _largest(scores: Tensor, count: int) -> Tensor:
    """Columns of the ``count`` largest; of equal ones the first, which ``topk`` does not promise."""
    return scores.sort(dim=1, descending=True, stable=True).indices[:, :count]
