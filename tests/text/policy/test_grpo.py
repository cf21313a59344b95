"""Advantages against a plain reading of their definition; what is learned in a world whose best action is known."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean, pstdev

import numpy as np
import pytest

from lamina.text.policy.grpo import COLUMNS, Recipe, RewardParts, Training, advantages, train
from lamina.text.policy.network import Adam, forward, initial

RNG = np.random.default_rng(1)


def test_history_group_is_all_chunks_of_all_rollouts() -> None:
    rewards = RNG.standard_normal((2, 3, 4))
    found = advantages(rewards, "history")
    for h in range(2):
        group = [float(value) for row in rewards[h] for value in row]
        for r in range(3):
            for t in range(4):
                assert found[h, r, t] == pytest.approx((rewards[h, r, t] - mean(group)) / (pstdev(group) + 1e-6))


def test_chunk_baseline_compares_rollouts_at_the_same_chunk() -> None:
    rewards = RNG.standard_normal((1, 3, 2))
    rewards[:, :, 1] += 5.0  # an easy position
    found = advantages(rewards, "chunk")
    spread = pstdev([float(value) for value in rewards.ravel()])
    for t in range(2):
        column = [float(value) for value in rewards[0, :, t]]
        assert found[0, :, t] == pytest.approx([(value - mean(column)) / (spread + 1e-6) for value in column])
    assert advantages(rewards, "history")[0, :, 1].min() > 0  # the published group credits the position itself


def test_a_group_without_spread_teaches_nothing() -> None:
    rewards = np.ones((2, 2, 2))
    rewards[1, 0] = 0.0
    found = advantages(rewards, "history")
    assert not found[0].any() and np.isfinite(found).all() and found[1].any()


def test_the_reward_is_the_published_sum() -> None:
    one, two = np.asarray([[0.5]]), np.asarray([[[1.0, 0.0]]])
    parts = RewardParts(r1=one, r2=two, r3=one, r4=two)
    assert parts.total(0.2, 0.1)[0, 0].tolist() == pytest.approx([0.5 + 1 + 0.1 + 0.1, 0.5 + 0.1])


class Lights:
    """An environment whose right action is the one its feature shows; ``r1`` is the share of right actions."""

    lengths: Sequence[int] = (4, 6)

    def reset(self, seeds: Sequence[int], chunks: int, rollouts: int) -> np.ndarray:
        self.shown = np.stack([np.random.default_rng(seed).integers(0, 3, chunks) for seed in seeds])
        self.right = np.zeros((len(seeds), rollouts, chunks))
        self.now = 0
        return self._features()

    def step(self, actions: np.ndarray) -> np.ndarray | None:
        self.right[:, :, self.now] = actions == self.shown[:, None, self.now]
        self.now += 1
        return self._features() if self.now < self.shown.shape[1] else None

    def reward(self) -> RewardParts:
        whole = self.right.mean(axis=2)
        return RewardParts(r1=whole, r2=np.ones_like(self.right), r3=np.zeros_like(whole), r4=np.ones_like(self.right))

    def _features(self) -> np.ndarray:
        h, r, _ = self.right.shape
        return np.broadcast_to(np.eye(3)[self.shown[:, self.now]][:, None], (h, r, 3))


def _training(seed: int = 0) -> Training:
    params = initial(3, 8, 3, seed)
    return Training(params, Adam(params, 0.02), seed)


@pytest.mark.parametrize("baseline", ["history", "chunk"])
def test_one_reward_for_a_whole_history_teaches_each_action(baseline: str) -> None:
    training = _training()
    log = train(training, Lights(), Recipe(entropy=0.01, baseline=baseline), 150)
    assert log.column("r1")[:5].mean() < 0.5
    log_chances, _ = forward(training.params, np.eye(3))
    assert log_chances.argmax(axis=1).tolist() == [0, 1, 2]


def test_rewards_of_other_plays_teach_nothing() -> None:
    training = _training()
    log = train(training, Lights(), Recipe(entropy=0.01, shuffled=True), 150)
    assert log.column("r1")[-20:].mean() < 0.6


def test_the_curve_has_every_part() -> None:
    log = train(_training(), Lights(), Recipe(), 3)
    assert len(log.rows) == 3
    assert log.column("r2").tolist() == [1.0] * 3 and set(log.column("chunks")) <= {4.0, 6.0}
    assert all(len(row) == len(COLUMNS) for row in log.rows)
    assert 0 < log.column("entropy")[0] <= np.log(3)


def test_training_in_two_parts_is_training_in_one() -> None:
    whole, parts = _training(), _training()
    train(whole, Lights(), Recipe(), 8)
    train(parts, Lights(), Recipe(), 3)
    train(parts, Lights(), Recipe(), 5)
    assert whole.log.rows == parts.log.rows
    assert all((whole.params[name] == parts.params[name]).all() for name in whole.params)
