"""How a write policy learns: GRPO over whole histories (Mem-alpha, arXiv 2509.25911, section 3.3).

A history is played several times (rollouts). The reward of the action at chunk t of one rollout is
``r1 + r2_t + beta r3 + gamma r4_t``: answers over the whole history, the call worked, the memory is small, the entry
has the form of its store. The advantage is ``(r - mean) / (std + 1e-6)`` within the group of *all chunks of all
rollouts of that history*, as published (``baseline="history"``). That also rewards positions that are easy; since the
chunks of a history are the same in every rollout, the mean over rollouts at the same t is as unbiased and free of
that (``baseline="chunk"``). A group whose rewards are all equal teaches nothing and is left out.

One step per batch of rollouts: the policy that is updated is the one that acted, so the importance ratio is 1,
its clip never binds and the gradient is that of ``-mean(A log pi)``. The published KL term is off.

Randomness of update i comes from (seed, i) alone: training resumed from a file repeats bit by bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from lamina.text.policy.network import Adam, Params, backward, clip_norm, forward

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Baseline = Literal["history", "chunk"]
COLUMNS = ("r1", "r2", "r3", "r4", "entropy", "chunks")
EPSILON = 1e-6  # spread of rewards below which a group teaches nothing
CLIP = 1.0  # norm of the gradient


@dataclass(frozen=True, slots=True)
class RewardParts:
    """The four rewards, apart: ``r1`` answers and ``r3`` smallness ``(histories, rollouts)``, ``r2`` calls that
    worked and ``r4`` entries of the right form ``(histories, rollouts, chunks)``; each at most 1."""

    r1: Floats
    r2: Floats
    r3: Floats
    r4: Floats

    def total(self, beta: float, gamma: float) -> Floats:
        """The reward of each action, ``(histories, rollouts, chunks)``."""
        whole = self.r1 + beta * self.r3
        return np.asarray(whole[:, :, None] + self.r2 + gamma * self.r4)


class Environment(Protocol):
    """Histories to learn from; all rollouts of all histories of a batch move together."""

    lengths: Sequence[int]  # numbers of chunks that training draws from

    def reset(self, seeds: Sequence[int], chunks: int, rollouts: int) -> Floats:
        """Start one history per seed; features ``(histories, rollouts, features)`` of the first chunk."""

    def step(self, actions: Ints) -> Floats | None:
        """Act on the chunk, ``(histories, rollouts)``; features of the next one, ``None`` at the end."""

    def reward(self) -> RewardParts:
        """After the last step."""


@dataclass(slots=True)
class TrainLog:
    """The learning curve, one row per update: the reward parts (``r1`` is the accuracy), the entropy of the policy
    in nats, and how many chunks its histories had."""

    rows: list[tuple[float, ...]] = field(default_factory=list)

    def column(self, name: str) -> Floats:
        """One of ``COLUMNS`` over the updates."""
        return np.asarray([row[COLUMNS.index(name)] for row in self.rows])


@dataclass(slots=True)
class Training:
    """All that a training is: weights, the optimizer with its moments, the curve so far, and the seed."""

    params: Params
    adam: Adam
    seed: int
    log: TrainLog = field(default_factory=TrainLog)


@dataclass(frozen=True, slots=True)
class Recipe:
    """The settings of a training. ``beta`` weighs a small memory, ``gamma`` well-formed entries."""

    histories: int = 6
    rollouts: int = 8
    beta: float = 0.05
    gamma: float = 0.1
    entropy: float = 0.15  # with 0.05 the policy is certain before it has learned the core; chosen on validation
    baseline: Baseline = "history"
    shuffled: bool = False  # control: answers rewarded to the wrong histories and rollouts


def train(training: Training, env: Environment, recipe: Recipe, updates: int) -> TrainLog:
    """``updates`` more updates of ``training``, in place; its log."""
    first = len(training.log.rows)
    for update in range(first, first + updates):
        training.log.rows.append(_update(training, env, recipe, update))
    return training.log


def advantages(rewards: Floats, baseline: Baseline) -> Floats:
    """Rewards ``(histories, rollouts, chunks)`` relative to their group; zero where a group has no spread."""
    mean = rewards.mean(axis=(1, 2) if baseline == "history" else 1, keepdims=True)
    spread = rewards.std(axis=(1, 2), keepdims=True)
    return np.where(spread > EPSILON, (rewards - mean) / (spread + EPSILON), 0.0)


def score_gradient(log_chances: Floats, actions: Ints, advantage: Floats, entropy: float) -> Floats:
    """Gradient of ``-mean(A log pi(action)) - entropy * mean(H)`` with respect to the scores, ``(n, actions)``."""
    chances = np.exp(log_chances)
    taken = np.eye(chances.shape[1])[actions]
    surprise = (chances * log_chances).sum(axis=1, keepdims=True)  # minus the entropy
    return np.asarray(
        (advantage[:, None] * (chances - taken) + entropy * chances * (log_chances - surprise)) / len(actions)
    )


def _update(training: Training, env: Environment, recipe: Recipe, update: int) -> tuple[float, ...]:
    rng = np.random.default_rng((training.seed, 1, update))
    chunks = int(rng.choice(np.asarray(env.lengths)))
    seeds = rng.integers(0, 2**31, recipe.histories).tolist()
    seen, actions = _play(training.params, env, env.reset(seeds, chunks, recipe.rollouts), rng)
    parts = env.reward()
    advantage = advantages(_rewarded(parts, recipe, rng).total(recipe.beta, recipe.gamma), recipe.baseline)
    flat = seen.reshape(-1, seen.shape[-1])
    log_chances, hidden = forward(training.params, flat)
    slope = score_gradient(log_chances, actions.ravel(), advantage.ravel(), recipe.entropy)
    training.adam.step(training.params, clip_norm(backward(training.params, flat, hidden, slope), CLIP))
    unsure = float(-(np.exp(log_chances) * log_chances).sum(axis=1).mean())
    means = (float(part.mean()) for part in (parts.r1, parts.r2, parts.r3, parts.r4))
    return (*means, unsure, float(chunks))


def _play(params: Params, env: Environment, features: Floats | None, rng: np.random.Generator) -> tuple[Floats, Ints]:
    """Sample every rollout to its end; features ``(h, r, chunks, f)`` and actions ``(h, r, chunks)``."""
    seen: list[Floats] = []
    taken: list[Ints] = []
    while features is not None:
        seen.append(features)
        log_chances, _ = forward(params, features.reshape(-1, features.shape[-1]))
        noise = rng.gumbel(size=log_chances.shape)  # the arg max of scores plus Gumbel noise is a sample
        taken.append((log_chances + noise).argmax(axis=1).reshape(features.shape[:2]))
        features = env.step(taken[-1])
    return np.stack(seen, axis=2), np.stack(taken, axis=2)


def _rewarded(parts: RewardParts, recipe: Recipe, rng: np.random.Generator) -> RewardParts:
    if not recipe.shuffled:
        return parts
    return RewardParts(rng.permutation(parts.r1.ravel()).reshape(parts.r1.shape), parts.r2, parts.r3, parts.r4)


def as_metadata(recipe: Recipe) -> dict[str, Any]:
    """The recipe as JSON values."""
    return {name: getattr(recipe, name) for name in recipe.__slots__}
