"""SequenceReplay: what a slow tier trains on, drawn as whole ordered sequences from a reservoir over all time.

Half of what is drawn is uniform, half in proportion to surprise (last loss + 0.05), refreshed when an item is
replayed. Complementary learning systems (McClelland et al., 1995) replay to keep old knowledge; order and reversal
follow hippocampal replay. The reservoir is Vitter's algorithm R (1985) over sequences: a sequence stays or goes by
chance alone. Unsurprising ones are *not* evicted: keeping only what is surprising forgets the oldest.

What is unusual: only numbers of events are kept, and draws are seeded by where they fall in the stream, so that after
a crash the same stream gives the same reservoir and the same batches.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lamina.errors import InvalidInput

FLOOR = 0.05  # surprise of an item that is known perfectly: it can still be drawn


@dataclass(frozen=True, slots=True)
class Replayed:
    """Items of one sequence in the order of replay; ``reversed`` says that this is the last first."""

    items: tuple[int, ...]
    reversed: bool = False


class Reservoir:
    """A uniform sample of ``capacity`` sequences of all that were added (algorithm R), deterministic by ``seed``."""

    def __init__(self, capacity: int, seed: int = 0) -> None:
        if isinstance(capacity, bool) or not isinstance(capacity, int) or capacity < 1:
            raise InvalidInput(f"capacity={capacity!r}: pass how many sequences to keep, from 1")
        self.capacity, self.seed = capacity, seed
        self.clear()

    def __len__(self) -> int:
        return len(self.sequences)

    def clear(self) -> None:
        """As new: adding the same sequences again gives the same sample."""
        self.sequences: list[tuple[int, ...]] = []
        self.seen = 0
        self._rng = random.Random(self.seed)

    def add(self, sequence: Sequence[int]) -> None:
        self.seen += 1
        if len(self.sequences) < self.capacity:
            self.sequences.append(tuple(sequence))
            return
        place = self._rng.randrange(self.seen)
        if place < self.capacity:
            self.sequences[place] = tuple(sequence)


class SequenceReplay:
    """Draws from ``reservoir``: ``1 - mix`` uniformly, ``mix`` by surprise; after a success ``forward`` in order.

    A sequence is as surprising as the mean of its items; one never replayed is as surprising as the most surprising.
    Raises ``InvalidInput`` for shares outside [0, 1].
    """

    def __init__(self, reservoir: Reservoir, mix: float = 0.5, forward: float = 0.7) -> None:
        for name, value in (("mix", mix), ("forward", forward)):
            if not 0 <= value <= 1:
                raise InvalidInput(f"{name}={value!r}: pass a share from 0 to 1")
        self.reservoir, self.mix, self.forward = reservoir, mix, forward
        self.surprise: dict[int, float] = {}
        self.succeeded: set[int] = set()

    def sample(self, k: int, rng: random.Random) -> list[Replayed]:
        """``k`` different sequences, or all there are. Nothing is drawn twice: a hot item would dominate."""
        left = list(dict.fromkeys(self.reservoir.sequences))
        drawn: list[Replayed] = []
        while left and len(drawn) < k:
            weights = self._weights(left) if rng.random() < self.mix else None
            (place,) = rng.choices(range(len(left)), weights)
            items = left.pop(place)
            backward = rng.random() >= self.forward and not self.succeeded.isdisjoint(items)
            drawn.append(Replayed(items[::-1] if backward else items, backward))
        return drawn

    def refresh(self, losses: Mapping[int, float]) -> None:
        """The losses of items just replayed, under the current weights."""
        self.surprise.update(losses)

    def succeed(self, items: Sequence[int]) -> None:
        """These items led to success: their sequences may be replayed in reverse."""
        self.succeeded.update(items)

    def prune(self) -> None:
        """Let go of what was noted about items that left the reservoir."""
        kept = {item for sequence in self.reservoir.sequences for item in sequence}
        self.surprise = {item: loss for item, loss in self.surprise.items() if item in kept}
        self.succeeded &= kept

    def _weights(self, sequences: Sequence[tuple[int, ...]]) -> list[float]:
        highest = max(self.surprise.values(), default=1.0)
        return [
            sum(self.surprise.get(item, highest) for item in sequence) / max(len(sequence), 1) + FLOOR
            for sequence in sequences
        ]
