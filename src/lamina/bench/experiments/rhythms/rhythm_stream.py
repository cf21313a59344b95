"""What the proofs of the consolidation clock are run on: a non-stationary stream, and a small associator.

Sixteen contexts come in blocks, each a fixed round of forty things with their values; now and then a value changes. So
there is something to deduplicate, to summarise, to forget and to predict. The associator is a perceptron with one
hidden layer in numpy: from a vector of 32 for (context, thing) to one of 64 values.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamina.cube.cube import Claim, MemCube, Scope
from lamina.cube.payload import Fingerprint
from lamina.kernel.rhythms.consolidation import Observation
from lamina.kernel.rhythms.parameter_consolidation import top_rows

SCOPE = Scope(user="stream")
CONTEXTS, THINGS, CLASSES = 16, 40, 64
INPUTS, HIDDEN = 32, 128
_CHANGE = 0.05  # how often a value has changed since the last round
_START = datetime(2026, 1, 1, tzinfo=UTC)
_SAID = re.compile(r"In (context \d+), (thing \d+) is (value \d+)\.")
_BETAS = (0.9, 0.999)


def stream(
    seed: int,
    events: int,
    *,
    rounds: int = 3,
    change: float = _CHANGE,
    vector: Callable[[str, str], NDArray[np.float32]] | None = None,
) -> Iterator[Observation]:
    """``events`` observations: blocks of ``rounds`` rounds in one context after another, again from the first.

    ``vector`` gives the vector of (context, thing); default ``key_vector``.
    """
    vector = vector or key_vector
    rng = random.Random(seed)
    values = {(c, t): rng.randrange(CLASSES) for c in range(CONTEXTS) for t in range(THINGS)}
    orders = {c: rng.sample(range(THINGS), THINGS) for c in range(CONTEXTS)}
    for n in range(events):
        context = n // (rounds * THINGS) % CONTEXTS
        thing = orders[context][n % THINGS]
        if rng.random() < change:
            values[context, thing] = rng.randrange(CLASSES)
        text = f"In context {context}, thing {thing} is value {values[context, thing]}."
        yield Observation(text, _START + timedelta(seconds=n), vector(f"context {context}", f"thing {thing}"))


def extract(turn: MemCube) -> list[Claim]:
    """The fact that a turn states."""
    said = _SAID.fullmatch(turn.text)
    return [] if said is None else [Claim(said[1], said[2], said[3])]


def key_vector(context: str, thing: str) -> NDArray[np.float32]:
    """Unit vector (32,) of a pair, the same in every process."""
    digest = hashlib.sha256(f"{context}|{thing}".encode()).digest()
    vector = np.random.default_rng(int.from_bytes(digest[:8], "big")).normal(size=INPUTS)
    return np.asarray(vector / np.linalg.norm(vector), np.float32)


class Associator:
    """``Learner``: softmax over 64 values of a tanh layer of 128, trained by Adam; float32 or float64.

    ``fraction`` of the rows of each table may change in a tick (those with the largest gradients at its first step);
    1.0 updates all.
    """

    def __init__(
        self, seed: int, *, rate: float = 3e-3, fraction: float = 1.0, dtype: type[np.floating[Any]] = np.float32
    ) -> None:
        rng = np.random.default_rng(seed)
        self.weights: dict[str, NDArray[Any]] = {
            "hidden": (rng.normal(size=(HIDDEN, INPUTS)) * 1.5).astype(dtype),
            "output": np.zeros((CLASSES, HIDDEN), dtype),
        }
        self._moments = {name: np.zeros((2, *table.shape), dtype) for name, table in self.weights.items()}
        self._count = 0
        self._rate, self._fraction, self._dtype = rate, fraction, dtype
        self._rows: dict[str, NDArray[np.bool_]] = {}
        self.touched: dict[str, int] = {}
        self.fingerprint = Fingerprint("associator", f"{INPUTS}-{HIDDEN}-{CLASSES}", "", np.dtype(dtype).name)

    def begin(self) -> None:
        self._rows = {}

    def step(self, batch: Sequence[MemCube]) -> Sequence[float]:
        losses, gradients = self.gradients(*self.encode(batch))
        if not self._rows:
            self._rows = {name: top_rows(gradient, self._fraction) for name, gradient in gradients.items()}
            self.touched = {name: int(rows.sum()) for name, rows in self._rows.items()}
        self._count += 1
        for name, gradient in gradients.items():
            rows, moments = self._rows[name], self._moments[name]
            moments[0][rows] = _BETAS[0] * moments[0][rows] + (1 - _BETAS[0]) * gradient[rows]
            moments[1][rows] = _BETAS[1] * moments[1][rows] + (1 - _BETAS[1]) * gradient[rows] ** 2
            first = moments[0][rows] / (1 - _BETAS[0] ** self._count)
            second = moments[1][rows] / (1 - _BETAS[1] ** self._count)
            self.weights[name][rows] -= (self._rate * first / (np.sqrt(second) + 1e-8)).astype(self._dtype)
        return losses.tolist()  # type: ignore[no-any-return]

    def gradients(self, keys: NDArray[Any], classes: NDArray[np.int64]) -> tuple[NDArray[Any], dict[str, NDArray[Any]]]:
        """The loss of each row of ``keys`` (m, 32), and the gradient of their mean."""
        hidden = np.tanh(keys @ self.weights["hidden"].T)
        scores = hidden @ self.weights["output"].T
        scores -= scores.max(axis=1, keepdims=True)
        likely = np.exp(scores)
        likely /= likely.sum(axis=1, keepdims=True)
        rows = np.arange(len(classes))
        losses = -np.log(np.maximum(likely[rows, classes], 1e-30))
        likely[rows, classes] -= 1
        likely /= len(classes)
        back = (likely @ self.weights["output"]) * (1 - hidden**2)
        return losses, {"hidden": back.T @ keys, "output": likely.T @ hidden}

    def score(self, batch: Sequence[MemCube]) -> float:
        return self.accuracy(*self.encode(batch))

    def accuracy(self, keys: NDArray[Any], classes: NDArray[np.int64]) -> float:
        hidden = np.tanh(keys @ self.weights["hidden"].T)
        return float(((hidden @ self.weights["output"].T).argmax(axis=1) == classes).mean())

    def tensors(self) -> Mapping[str, NDArray[Any]]:
        moments = {f"{name}.moments": value for name, value in self._moments.items()}
        return {**self.weights, **moments, "count": np.asarray([self._count], np.int64)}

    def load(self, tensors: Mapping[str, NDArray[Any]]) -> None:
        self.weights = {name: np.array(tensors[name]) for name in self.weights}
        self._moments = {name: np.array(tensors[f"{name}.moments"]) for name in self._moments}
        self._count = int(tensors["count"][0])

    def encode(self, batch: Sequence[MemCube]) -> tuple[NDArray[Any], NDArray[np.int64]]:
        """Keys (m, 32) and classes (m,) of turns."""
        claims = [extract(cube)[0] for cube in batch]
        keys = np.stack([key_vector(claim.subject, str(claim.slot)) for claim in claims]).astype(self._dtype)
        return keys, np.asarray([int(str(claim.value).removeprefix("value ")) for claim in claims])
