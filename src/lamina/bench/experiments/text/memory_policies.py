"""How write policies are compared in the memory gym: the same unseen histories, everybody's answers and words.

A contender is a function from the gym and its features to actions. ``gold_rules`` reads the kind of each chunk, which
no policy can: a yardstick for how much of the task is deciding, not a competitor on equal terms.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lamina.bench.experiments.text import memory_gym as gym
from lamina.bench.experiments.text.memory_gym import HistoryEnv
from lamina.text.construction_policy import DEFAULT_ACTIONS, MemAlpha
from lamina.text.policy.features import FEATURES

Act = Callable[[HistoryEnv, NDArray[np.float64]], NDArray[np.int64]]
_ENTITY, _ATTRIBUTE = FEATURES.index("same_entity"), FEATURES.index("same_attribute")
_GOLD = {"fact": gym.INSERT_SEMANTIC, "event": gym.INSERT_EPISODIC, "trait": gym.CORE}


@dataclass(frozen=True, slots=True)
class Score:
    """Means over histories: share of questions answered, in all and by kind, and words held over words read."""

    accuracy: float
    memory: float
    fact: float
    event: float
    trait: float

    @property
    def worst(self) -> float:
        """The kind answered worst: near zero for a policy that ignores one of the stores."""
        return min(self.fact, self.event, self.trait)


def evaluate(env: HistoryEnv, act: Act, seeds: Sequence[int], chunks: int) -> Score:
    """Play the history of each seed once."""
    features: NDArray[np.float64] | None = env.reset(seeds, chunks, 1)
    while features is not None:
        features = env.step(act(env, features))
    accuracy = float(env.reward().r1.mean())
    rows = [(kinds, right[0]) for kinds, right in zip(env.question_kinds(), env.answers, strict=True)]
    return Score(
        accuracy, float(env.memory_share().mean()), *(_of_kind(kind, rows) for kind in ("fact", "event", "trait"))
    )


def greedy(policy: MemAlpha) -> Act:
    """A learned policy's most probable actions."""
    return lambda _, features: policy.choose(features)


def constant(action: int) -> Act:
    return lambda _, features: np.full(features.shape[:2], action)


def random_actions(seed: int) -> Act:
    rng = np.random.default_rng((seed, 3))
    return lambda _, features: rng.integers(0, len(DEFAULT_ACTIONS), features.shape[:2])


def gold_rules(env: HistoryEnv, features: NDArray[np.float64]) -> NDArray[np.int64]:
    """Each kind to its store; a change updates its best match if that has the same entity and attribute."""
    actions = np.full(features.shape[:2], gym.SKIP)
    for place, history in enumerate(env.histories):
        kind = history.chunks[env.position].kind
        if kind == "change":
            known = (features[place, :, _ENTITY] > 0) & (features[place, :, _ATTRIBUTE] > 0)
            actions[place] = np.where(known, gym.UPDATE, gym.INSERT_SEMANTIC)
        else:
            actions[place] = _GOLD.get(kind, gym.SKIP)
    return actions


CONSTANT: dict[str, Act] = {action.name: constant(place) for place, action in enumerate(DEFAULT_ACTIONS)}


def _of_kind(kind: str, rows: Sequence[tuple[list[str], NDArray[np.bool_]]]) -> float:
    """Mean over the histories that ask such questions; 0 if none does."""
    shares = [right[np.asarray(kinds) == kind].mean() for kinds, right in rows if kind in kinds]
    return float(np.mean(shares)) if shares else 0.0
