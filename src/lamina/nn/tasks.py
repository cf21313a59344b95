"""Small synthetic tasks that tell what a memory of a model can do, each an exact generator of fresh batches.

- ``MQAR``: which value was bound to this key? (multi-query associative recall, Zoology, arXiv 2312.04927)
- ``SelectiveCopy``: repeat the tokens that stood scattered among noise (Mamba, arXiv 2312.00752)
- ``InContextRecall``: a stream of pairs whose keys come again and again (MAD, arXiv 2403.17844)
- ``CreditStream``: keep the one value that was flagged early, forget the rest (Jaderberg et al., arXiv 1608.05343)

Facts that live in the weights instead are in ``lamina.nn.facts``. Targets stand at the position that asks, as
``shift_labels`` of transformers has them: nothing is shifted later. Everything is drawn from the generator alone, on
its device and without a loop over rows: draws without replacement are the largest of log weights plus Gumbel noise
(Gumbel top-k, arXiv 1903.06059), in order of size, which is exactly the order of drawing one after the other.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

import torch
from torch import Generator, Tensor

from lamina.errors import InvalidInput

IGNORED = -100  # a target where nothing is asked: cross_entropy's own default
_LARGEST_DRAW = 1 << 20  # codes a two-token key is drawn from, a row: 8 MiB


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """``ids`` int64 ``(rows, time)``; ``targets`` of the same shape, ``IGNORED`` where nothing is asked; ``slices``:
    bool ``(rows, time)`` by name, each some of the asked positions."""

    ids: Tensor
    targets: Tensor
    slices: Mapping[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return self.ids.shape[0]

    @property
    def asked(self) -> Tensor:
        """Bool ``(rows, time)``: where there is a target."""
        return self.targets != IGNORED

    def to(self, device: torch.device | str) -> Batch:
        """The same rows on ``device``."""
        slices = {name: mask.to(device) for name, mask in self.slices.items()}
        return Batch(self.ids.to(device), self.targets.to(device), slices)

    def split(self, rows: int) -> Iterator[Batch]:
        """The same rows in pieces of at most ``rows``."""
        whole("rows", rows, 1)
        for start in range(0, len(self), rows):
            part = slice(start, start + rows)
            slices = {name: mask[part] for name, mask in self.slices.items()}
            yield Batch(self.ids[part], self.targets[part], slices)


class Task(Protocol):
    """What every task offers: ids lie in ``0 .. V-1``, rows are ``T`` long."""

    @property
    def T(self) -> int: ...

    @property
    def V(self) -> int: ...

    def sample(self, batch: int, generator: Generator) -> Batch:
        """``batch`` fresh rows, drawn from ``generator`` alone and on its device."""
        ...


def accuracy(answers: Tensor, batch: Batch) -> dict[str, float]:
    """Share of right answers among all asked positions (``"all"``) and in each slice; one that is empty is left out.

    ``answers``: logits ``(rows, time, V)``, the largest of which is the answer, or ids ``(rows, time)``.
    Raises ``InvalidInput`` for another shape.
    """
    guesses = answers.argmax(-1) if answers.dim() == 3 else answers
    if guesses.shape != batch.ids.shape:
        raise InvalidInput(
            f"answers has shape {tuple(answers.shape)}, the batch {tuple(batch.ids.shape)}: "
            "give logits (rows, time, V) or ids (rows, time)"
        )
    right = guesses == batch.targets
    masks = {"all": batch.asked, **batch.slices}
    return {name: float(right[mask].double().mean()) for name, mask in masks.items() if mask.any()}


@dataclass(frozen=True, slots=True)
class MQAR:
    """``kv`` distinct keys with distinct values, then each key once more, asking for its value.

    ``k1 v1 k2 v2 ...`` fill the first places. The rest are slots of two; slot ``j`` (from 0) has weight
    ``power * (j+1)^(power-1)``, and each key is asked at the first place of a slot of its own: a small ``power`` asks
    soon, 1 asks at uniform gaps. Keys are ``1 .. V/2-1``, values ``V/2 .. V-1``. Empty places are 0 (``filler="zero"``)
    or uniform ids (``"random"``). ``updates`` of the keys are bound anew after all bindings; the last value counts.
    Slices: ``near`` and ``far`` half of the slots; with updates also ``updated`` and ``kept`` keys.

    Raises ``InvalidInput`` for sizes that do not fit: ``V > T``, ``T`` even, ``T >= 4 * kv + 2 * updates``.
    """

    T: int
    kv: int
    V: int
    power: float = 0.01
    filler: Literal["zero", "random"] = "zero"
    updates: int = 0

    def __post_init__(self) -> None:
        whole("T", self.T, 4)
        whole("kv", self.kv, 1)
        whole("V", self.V, 2)
        whole("updates", self.updates, 0)
        least = 4 * self.kv + 2 * self.updates
        if self.T % 2 or least > self.T:
            raise InvalidInput(
                f"T={self.T} with kv={self.kv}, updates={self.updates}: give an even T from {least}, "
                "so that each key has a slot to be asked in"
            )
        if self.V <= self.T:
            raise InvalidInput(f"V={self.V}: give more ids than T={self.T}")
        if self.updates > self.kv:
            raise InvalidInput(f"updates={self.updates}: give at most kv={self.kv}, each key is bound anew once")
        if not 0 < self.power < math.inf:
            raise InvalidInput(f"power={self.power!r}: give a number above 0, such as 0.01 (soon) or 1 (uniform)")
        if self.filler not in ("zero", "random"):
            raise InvalidInput(f'filler={self.filler!r}: give "zero" or "random"')

    def sample(self, batch: int, generator: Generator) -> Batch:
        whole("batch", batch, 1)
        where, half, told = generator.device, self.V // 2, self.kv + self.updates
        slots = (self.T - 2 * told) // 2
        weights = (self.power - 1) * torch.arange(1, slots + 1, device=where, dtype=torch.float64).log()
        keys = 1 + distinct(_even(half - 1, generator), self.kv, batch, generator)
        values = half + distinct(_even(self.V - half, generator), told, batch, generator)
        chosen = distinct(weights, self.kv, batch, generator)
        renewed = distinct(_even(self.kv, generator), self.updates, batch, generator)
        answers = values[:, : self.kv].scatter(1, renewed, values[:, self.kv :])
        pairs = torch.stack([torch.cat([keys, keys.gather(1, renewed)], 1), values], 2).flatten(1)

        ids = torch.zeros(batch, self.T, dtype=torch.int64, device=where)
        if self.filler == "random":
            ids = torch.randint(self.V, ids.shape, generator=generator, device=where)
        ids[:, : 2 * told] = pairs
        asked = 2 * told + 2 * chosen
        ids.scatter_(1, asked, keys)
        slices = {"near": chosen < slots / 2, "far": chosen >= slots / 2}
        if self.updates:
            anew = torch.zeros_like(chosen, dtype=torch.bool).scatter(1, renewed, True)
            slices |= {"updated": anew, "kept": ~anew}
        return Batch(
            ids,
            torch.full_like(ids, IGNORED).scatter(1, asked, answers),
            {name: _at(asked, mask, ids) for name, mask in slices.items()},
        )


@dataclass(frozen=True, slots=True)
class SelectiveCopy:
    """``n`` data tokens (``2 .. V-1``, with repeats) at random places of the first ``T-n``, the rest 0; then ``n``
    times 1, where the data tokens are asked in their order. Slices: ``first`` and ``last`` half of the data.

    Raises ``InvalidInput`` for sizes that do not fit: ``T >= 2 * n``, ``V >= 4``.
    """

    T: int = 64
    n: int = 8
    V: int = 16

    def __post_init__(self) -> None:
        whole("n", self.n, 1)
        whole("V", self.V, 4)
        whole("T", self.T, 2 * self.n)

    def sample(self, batch: int, generator: Generator) -> Batch:
        whole("batch", batch, 1)
        where, told = generator.device, self.T - self.n
        places = distinct(_even(told, generator), self.n, batch, generator).sort(1).values
        data = torch.randint(2, self.V, (batch, self.n), generator=generator, device=where)
        ids = torch.zeros(batch, self.T, dtype=torch.int64, device=where).scatter(1, places, data)
        ids[:, told:] = 1
        targets = torch.full_like(ids, IGNORED)
        targets[:, told:] = data
        late = torch.arange(self.T, device=where).expand(batch, -1) >= told + self.n // 2
        asked = targets != IGNORED
        return Batch(ids, targets, {"first": asked & ~late, "last": asked & late})


@dataclass(frozen=True, slots=True)
class InContextRecall:
    """A stream of (key, value) pairs: ``keys`` distinct keys and a random map to values for each row, the next key
    drawn uniformly; its value is asked wherever the key stood before.

    Ids: keys, then values, equally many; ``noise`` puts with this probability one token of a third range (the last
    quarter of ``V``) before a pair. ``fuzzy``: keys and values are two tokens each, and both tokens of a value are
    asked. What does not fit into ``T`` is cut. Slices: ``second`` time of a key and ``later``.

    Raises ``InvalidInput`` for sizes that do not fit: two pairs into ``T``, ``keys`` into their range.
    """

    T: int = 64
    keys: int = 8
    V: int = 64
    noise: float = 0.0
    fuzzy: bool = False

    def __post_init__(self) -> None:
        whole("T", self.T, 4 * self._width)
        whole("V", self.V, 8)
        whole("keys", self.keys, 1)
        if not 0 <= self.noise <= 1:
            raise InvalidInput(f"noise={self.noise!r}: give a probability, 0 to 1")
        codes = self._range**self._width
        if self.keys > codes:
            raise InvalidInput(f"keys={self.keys}: V={self.V} ids make {codes} keys; give fewer keys or a larger V")
        if codes > _LARGEST_DRAW:
            raise InvalidInput(f"V={self.V} makes {codes} keys of two tokens: give fewer ids, or fuzzy=False")

    @property
    def _width(self) -> int:
        return 2 if self.fuzzy else 1

    @property
    def _range(self) -> int:
        """Ids of keys, and as many of values."""
        return (self.V - (self.V // 4 if self.noise else 0)) // 2

    def sample(self, batch: int, generator: Generator) -> Batch:
        whole("batch", batch, 1)
        where, width, size = generator.device, self._width, self._range
        codes, units = size**width, -(-self.T // (2 * width))
        known = distinct(_even(codes, generator), self.keys, batch, generator)
        bound = torch.randint(codes, (batch, self.keys), generator=generator, device=where)
        drawn = torch.randint(self.keys, (batch, units), generator=generator, device=where)
        key, value = known.gather(1, drawn), bound.gather(1, drawn)
        pair = torch.stack([_digits(key, size, width), size + _digits(value, size, width)], 2).flatten(2)
        seen = torch.nn.functional.one_hot(drawn, self.keys).cumsum(1).gather(2, drawn[..., None])  # (batch, units, 1)
        asked = pair.roll(-1, 2)
        asked[..., : width - 1] = asked[..., -1:] = IGNORED
        asked = asked.where(seen > 1, IGNORED)

        before = torch.rand(batch, units, generator=generator, device=where, dtype=torch.float64) < self.noise
        starts = 2 * width * torch.arange(units, device=where) + before.cumsum(1)
        places = (starts[..., None] + torch.arange(2 * width, device=where)).flatten(1)
        room = units * (2 * width + 1)
        ids = torch.zeros(batch, room, dtype=torch.int64, device=where)
        if self.noise:
            ids = torch.randint(2 * size, self.V, (batch, room), generator=generator, device=where)
        ids = ids.scatter(1, places, pair.flatten(1))[:, : self.T]
        targets = torch.full((batch, room), IGNORED, device=where).scatter(1, places, asked.flatten(1))[:, : self.T]
        times = torch.zeros(batch, room, dtype=torch.int64, device=where)
        times = times.scatter(1, places, seen.expand(-1, -1, 2 * width).flatten(1))[:, : self.T]
        due = targets != IGNORED
        return Batch(ids, targets, {"second": due & (times == 2), "later": due & (times > 2)})


@dataclass(frozen=True, slots=True)
class CreditStream:
    """A random value at each of ``T - 1`` steps, exactly one of the first ``k`` flagged; the last step asks for it.

    Ids: value, or ``values`` + value where flagged; the question is ``2 * values``. A learner in windows of ``k`` must
    keep the value over ``ceil(T / k) - 1`` boundaries. Raises ``InvalidInput`` unless ``T > k``.
    """

    T: int = 8
    k: int = 4
    values: int = 8

    def __post_init__(self) -> None:
        whole("k", self.k, 1)
        whole("values", self.values, 2)
        whole("T", self.T, self.k + 1)

    @property
    def V(self) -> int:
        """Two ids a value, and the question."""
        return 2 * self.values + 1

    def sample(self, batch: int, generator: Generator) -> Batch:
        whole("batch", batch, 1)
        where = generator.device
        ids = torch.randint(self.values, (batch, self.T), generator=generator, device=where)
        flagged = torch.randint(self.k, (batch, 1), generator=generator, device=where)
        targets = torch.full_like(ids, IGNORED)
        targets[:, -1:] = ids.gather(1, flagged)
        ids.scatter_add_(1, flagged, torch.full_like(flagged, self.values))
        ids[:, -1] = 2 * self.values
        return Batch(ids, targets)


def distinct(log_weights: Tensor, count: int, batch: int, generator: Generator) -> Tensor:
    """int64 ``(batch, count)``: indices of ``log_weights`` (float64 ``(n,)``), in each row drawn one after the other
    without replacement. An exponential ``E`` makes the Gumbel noise ``-log E``."""
    shape = (batch, log_weights.shape[0])
    waits = torch.empty(shape, dtype=torch.float64, device=log_weights.device).exponential_(generator=generator)
    return (log_weights - waits.log()).topk(count, 1).indices


def whole(name: str, value: int, least: int) -> None:
    """Raises ``InvalidInput`` unless ``value`` is a whole number from ``least``."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InvalidInput(f"{name}={value!r}: give a whole number from {least}")


def _even(size: int, generator: Generator) -> Tensor:
    return torch.zeros(size, dtype=torch.float64, device=generator.device)


def _at(places: Tensor, mask: Tensor, ids: Tensor) -> Tensor:
    """``mask`` of ``places`` (both ``(batch, n)``), as a mask of ``ids``."""
    return torch.zeros_like(ids, dtype=torch.bool).scatter(1, places, mask)


def _digits(codes: Tensor, size: int, width: int) -> Tensor:
    """``codes`` as ``width`` digits of base ``size``: ``(..., width)``."""
    return torch.stack([codes // size**place % size for place in reversed(range(width))], -1)
