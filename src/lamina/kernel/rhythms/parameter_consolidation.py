"""The slowest level of the consolidation clock: what was logged is trained into weights, carefully.

Each gradient step sees one new sequence and some replayed ones (``lamina.kernel.rhythms.replay``), so that new
knowledge does not overwrite old (complementary learning systems, McClelland et al., 1995). The weights are a
parameter cube: every tick writes a new version, unless a probe set from the reservoir is known worse than before by
more than one point.

What is unusual: a tick starts from the *stored* weights, and reservoir, batches and surprise follow from the log. So a
tick that died half-way is repeated exactly; and when a turn is forgotten, the store erases the weights made from it
(they name it in their lineage) and the next tick trains from the beginning.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from lamina.cube.cube import Header, Lineage, MemCube, Scope
from lamina.cube.payload import Fingerprint, Payload, TensorPayload
from lamina.errors import InvalidInput
from lamina.kernel.rhythm import Tick
from lamina.kernel.rhythms.replay import Replayed, SequenceReplay

_PROBE = 64  # items that decide whether training made things worse


class Learner(Protocol):
    """The parameter tier: anything that learns from cubes of the log and can be written down."""

    fingerprint: Fingerprint

    def begin(self) -> None:
        """A new tick: a row-sparse learner chooses its rows anew."""

    def step(self, batch: Sequence[MemCube]) -> Sequence[float]:
        """One gradient step; the loss of each cube before it."""

    def score(self, batch: Sequence[MemCube]) -> float:
        """How much of ``batch`` it knows, in [0, 1]."""

    def tensors(self) -> Mapping[str, NDArray[Any]]:
        """Weights and optimizer state, by name."""

    def load(self, tensors: Mapping[str, NDArray[Any]]) -> None:
        """Back to these tensors, bit for bit."""


class Log(Protocol):
    """What training needs of the tiers, within their transaction."""

    @property
    def scope(self) -> Scope: ...

    def identity(self, *parts: str) -> str: ...

    def turn(self, n: int) -> MemCube | None: ...

    def newest(self, id: str) -> MemCube | None: ...

    def put(self, header: Header, payload: Payload, known: MemCube | None = None) -> None: ...


def top_rows(gradient: NDArray[Any], fraction: float) -> NDArray[np.bool_]:
    """Which rows of ``gradient`` (rows, ...) have the largest norms: at most ``fraction`` of them, at least one."""
    norms = np.linalg.norm(gradient.reshape(len(gradient), -1), axis=1)
    mask = np.zeros(len(norms), bool)
    mask[np.argsort(-norms, kind="stable")[: max(1, int(fraction * len(norms)))]] = True
    return mask


class ParameterConsolidation:
    """Trains ``learner`` at ``steps_per_event`` gradient steps, each on ``fresh`` new and ``replayed`` old sequences.

    ``sequence`` is the length of a sequence: the base of the clock. Weights are rolled back when the score of the probe
    set falls by more than ``drop``. Raises ``InvalidInput`` for a negative rate.
    """

    def __init__(
        self,
        learner: Learner,
        replay: SequenceReplay,
        *,
        sequence: int = 8,
        fresh: int = 1,
        replayed: int = 1,
        steps_per_event: float = 0.25,
        drop: float = 0.01,
    ) -> None:
        if steps_per_event < 0:
            raise InvalidInput(f"steps_per_event={steps_per_event!r}: pass a number from 0")
        self.learner, self.replay, self.rollbacks = learner, replay, 0
        self._sequence, self._fresh, self._replayed = sequence, fresh, replayed
        self._rate, self._drop = steps_per_event, drop
        self._initial = {key: np.array(value) for key, value in learner.tensors().items()}

    def reset(self) -> None:
        """Let go of what was not committed: the next tick starts from the store."""
        self.replay.reservoir.clear()

    def train(self, tick: Tick, log: Log) -> Iterator[int]:
        """The action of the level; a work unit is a gradient step."""
        new = self._advance(tick)
        steps = int(tick.input * self._rate) - int(tick.since * self._rate)
        if not steps:
            return
        known = log.newest(log.identity("parameter"))
        self._load(known)
        self.learner.begin()
        rng = random.Random(f"{self.replay.reservoir.seed}:{tick.since}:{tick.input}")
        held = sorted({item for sequence in self.replay.reservoir.sequences for item in sequence})
        cubes: dict[int, MemCube | None] = {}
        probe = _cubes(rng.sample(held, min(_PROBE, len(held))), log, cubes)
        yield 0
        before = {key: np.array(value) for key, value in self.learner.tensors().items()}
        score = self.learner.score(probe) if probe else 0.0
        for step in range(steps):
            fresh = [Replayed(items) for items in rng.sample(new, min(self._fresh, len(new)))]
            self._step([*fresh, *self.replay.sample(self._replayed, rng)], log, cubes)
            if step >= tick.done:  # those before were paid for, and lost with the process that took them
                yield 1
        if probe and self.learner.score(probe) < score - self._drop:
            self.learner.load(before)
            self.rollbacks += 1
        self._write(tick, log, [cube for cube in cubes.values() if cube is not None], known)
        yield 0

    def _step(self, sequences: Sequence[Replayed], log: Log, cubes: dict[int, MemCube | None]) -> None:
        """One gradient step on the different items of ``sequences``, those forgotten left out."""
        numbers = dict.fromkeys(item for sequence in sequences for item in sequence.items)
        batch = _cubes(list(numbers), log, cubes)
        if batch:
            losses = self.learner.step(batch)
            kept = [n for n in numbers if cubes[n] is not None]
            self.replay.refresh({n: float(np.float32(loss)) for n, loss in zip(kept, losses, strict=True)})

    def _advance(self, tick: Tick) -> list[tuple[int, ...]]:
        """Bring the reservoir up to the tick; the sequences that are new."""
        reservoir, size = self.replay.reservoir, self._sequence
        while (reservoir.seen + 1) * size <= tick.input:
            first = reservoir.seen * size + 1
            reservoir.add(range(first, first + size))
        starts = range(tick.since // size * size + 1, tick.input + 1, size)
        return [tuple(range(max(n, tick.since + 1), min(n + size, tick.input + 1))) for n in starts]

    def _write(self, tick: Tick, log: Log, used: Sequence[MemCube], known: MemCube | None) -> None:
        """The next version of the weights; its lineage names every turn that was read for it."""
        self.replay.prune()
        if not used:
            return
        at = max(cube.header.recorded for cube in used)
        header = Header(
            id=log.identity("parameter"),
            kind="parameter",
            scope=log.scope,
            metadata={
                "n": tick.input,
                "surprise": {str(n): loss for n, loss in sorted(self.replay.surprise.items())},
                "succeeded": sorted(self.replay.succeeded),
            },
            lineage=Lineage(tuple((cube.id, cube.header.version) for cube in used), "train"),
            created=at,
            recorded=at,
        )
        log.put(header, TensorPayload.from_numpy(self.learner.tensors(), self.learner.fingerprint), known)

    def _load(self, stored: MemCube | None) -> None:
        """Weights and surprise as they were written, or as they were before anything was."""
        self.replay.surprise.clear()
        if stored is None:
            self.learner.load(self._initial)
            return
        assert isinstance(stored.payload, TensorPayload)
        stored.payload.fingerprint.check(self.learner.fingerprint)
        self.learner.load({key: view.numpy() for key, view in stored.payload.tensors.items()})
        self.replay.refresh({int(n): loss for n, loss in stored.header.metadata["surprise"].items()})
        self.replay.succeed(stored.header.metadata["succeeded"])


def _cubes(numbers: Sequence[int], log: Log, cubes: dict[int, MemCube | None]) -> list[MemCube]:
    """Turns by number, those forgotten left out; ``cubes`` keeps what was read."""
    for n in numbers:
        if n not in cubes:
            cubes[n] = log.turn(n)
    return [cube for n in numbers if (cube := cubes[n]) is not None]
