"""Recall in context: which value was bound to this key, when most pairs do not belong to the topic of the text?

A text begins with its topic; pairs of a key and a value follow, ``relevant`` of them with keys of the topic and
``distractors`` with keys of all others, shuffled; keys of the topic are asked at the end. Every key belongs to one
topic, so each is wanted in some texts and noise in all others: no look at a token alone tells which, and there are
more pairs than a small state can hold. Nothing tells a model what is relevant but the topic and the questions.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from lamina.errors import InvalidInput
from lamina.nn.tasks import IGNORED, Batch, distinct, whole


@dataclass(frozen=True, slots=True)
class ContextualRecall:
    """Ids: ``keys`` (key ``n`` belongs to topic ``n % topics``), then ``values``, then ``topics``.

    ``rebound``: share of the keys of a text that are bound a second time later on, to another value; the last counts.
    ``corrupted``: share of the value tokens that are overwritten by any other one; the right answer stays. Slices of
    the questions: ``late`` (bound in the second half of the pairs) and ``early``; with ``rebound`` also ``rebound`` and
    ``once``. Raises ``InvalidInput`` for sizes that do not fit each other.
    """

    topics: int = 8
    keys: int = 256
    values: int = 64
    relevant: int = 16
    distractors: int = 48
    queries: int = 6
    rebound: float = 0.0
    corrupted: float = 0.0

    def __post_init__(self) -> None:
        sizes = ("topics", "keys", "values", "relevant", "distractors", "queries")
        for name, least in zip(sizes, (2, 2, 2, 1, 0, 1), strict=True):
            whole(name, getattr(self, name), least)
        own = self.keys // self.topics
        if self.keys % self.topics or self.relevant > own or self.distractors > self.keys - own:
            told = f"keys={self.keys} of topics={self.topics}"
            raise InvalidInput(f"{told}: {own} a topic are too few for {self.relevant} and {self.distractors} others")
        if self.queries > self.relevant:
            raise InvalidInput(f"queries={self.queries}: give at most relevant={self.relevant}, each is asked once")
        if not (0 <= self.rebound <= 1 and 0 <= self.corrupted <= 1):
            raise InvalidInput(f"rebound={self.rebound!r}, corrupted={self.corrupted!r}: give shares from 0 to 1")

    @property
    def V(self) -> int:
        return self.keys + self.values + self.topics

    @property
    def pairs(self) -> int:
        """Bindings in a text."""
        return self.relevant + self.distractors + self._again(self.relevant) + self._again(self.distractors)

    @property
    def T(self) -> int:
        return 1 + 2 * self.pairs + self.queries

    def sample(self, batch: int, generator: Generator) -> Batch:
        """``batch`` fresh texts, drawn from ``generator`` alone."""
        return self.pieces(batch, generator)[0]

    def pieces(self, batch: int, generator: Generator) -> tuple[Batch, Tensor]:
        """The same, and which of the ``pairs`` belong to the topic: bool ``(batch, pairs)``, to judge a gate by. Pair
        ``p`` stands at ``1 + 2 p``."""
        whole("batch", batch, 1)
        where = generator.device
        topic = torch.randint(self.topics, (batch, 1), generator=generator, device=where)
        chosen = self._keys(topic, batch, generator)
        order, place = self._order(batch, generator)
        key = chosen.gather(1, order)
        first = torch.randint(self.values, chosen.shape, generator=generator, device=where)
        shift = torch.randint(1, self.values, chosen.shape, generator=generator, device=where)
        second = torch.zeros_like(order).scatter(1, place[:, chosen.shape[1] :], 1).bool()
        value = torch.where(second, (first + shift).remainder(self.values).gather(1, order), first.gather(1, order))

        asked = distinct(torch.zeros(self.relevant, dtype=torch.float64, device=where), self.queries, batch, generator)
        newest = place[:, : chosen.shape[1]].clone()
        again = self._rebound_ones(where)
        newest[:, again] = place[:, chosen.shape[1] :]
        bound = newest.gather(1, asked)
        shown = self._corrupt(value, generator) + self.keys
        context = torch.stack([key, shown], dim=2).flatten(1)
        ids = torch.cat([topic + self.keys + self.values, context, chosen.gather(1, asked)], dim=1)
        targets = torch.full_like(ids, IGNORED)
        targets[:, -self.queries :] = value.gather(1, bound) + self.keys
        slices = {"late": bound >= self.pairs // 2, "early": bound < self.pairs // 2}
        if self.rebound:
            twice = torch.isin(asked, again)
            slices |= {"rebound": twice, "once": ~twice}
        masks = {name: _last(mask, ids) for name, mask in slices.items()}
        return Batch(ids, targets, masks), key.remainder(self.topics) == topic

    def _again(self, count: int) -> int:
        return round(self.rebound * count)

    def _rebound_ones(self, where: torch.device) -> Tensor:
        """Which of the chosen keys come twice: the first ones of the topic and of the others. They were drawn in any
        order, so these are any."""
        own = torch.arange(self._again(self.relevant), device=where)
        return torch.cat([own, self.relevant + torch.arange(self._again(self.distractors), device=where)])

    def _keys(self, topic: Tensor, batch: int, generator: Generator) -> Tensor:
        """Distinct keys ``(batch, relevant + distractors)``, those of the topic first."""
        own, where = self.keys // self.topics, generator.device
        inside = distinct(torch.zeros(own, dtype=torch.float64, device=where), self.relevant, batch, generator)
        relevant = inside * self.topics + topic
        if not self.distractors:
            return relevant
        others = self.keys - own
        outside = distinct(torch.zeros(others, dtype=torch.float64, device=where), self.distractors, batch, generator)
        away = outside.remainder(self.topics - 1) + 1
        rest = outside // (self.topics - 1) * self.topics + (topic + away).remainder(self.topics)
        return torch.cat([relevant, rest], dim=1)

    def _order(self, batch: int, generator: Generator) -> tuple[Tensor, Tensor]:
        """Which chosen key stands in each pair ``(batch, pairs)``, and in which pair each binding stands, second ones
        behind all the first: of two of one key the second comes later."""
        where, again = generator.device, self._rebound_ones(generator.device)
        once = self.relevant + self.distractors
        place = torch.rand(batch, self.pairs, generator=generator, device=where).argsort(1)
        early = torch.minimum(place[:, again], place[:, once:])
        late = torch.maximum(place[:, again], place[:, once:])
        place[:, again], place[:, once:] = early, late
        which = torch.cat([torch.arange(once, device=where), again]).expand(batch, -1)
        return torch.empty_like(place).scatter(1, place, which), place

    def _corrupt(self, value: Tensor, generator: Generator) -> Tensor:
        if not self.corrupted:
            return value
        where = generator.device
        hit = torch.rand(value.shape, generator=generator, device=where) < self.corrupted
        shift = torch.randint(1, self.values, value.shape, generator=generator, device=where)
        return torch.where(hit, (value + shift).remainder(self.values), value)


def _last(mask: Tensor, ids: Tensor) -> Tensor:
    """``mask`` of the questions as a mask of ``ids``."""
    whole_mask = torch.zeros_like(ids, dtype=torch.bool)
    whole_mask[:, -mask.shape[1] :] = mask
    return whole_mask
