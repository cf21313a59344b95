"""The perceptron: its gradients against finite differences, Adam and the norm against their formulas."""

from __future__ import annotations

import numpy as np
import pytest

from lamina.text.policy.grpo import score_gradient
from lamina.text.policy.network import Adam, backward, clip_norm, forward, initial

RNG = np.random.default_rng(0)


def test_chances_are_a_softmax() -> None:
    params, features = initial(5, 4, 3, 1), RNG.standard_normal((7, 5))
    log_chances, hidden = forward(params, features)
    scores = np.tanh(features @ params["hidden.weight"] + params["hidden.bias"]) @ params["out.weight"]
    expected = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(np.exp(log_chances), expected, atol=1e-12)
    assert hidden.shape == (7, 4)


def test_gradients_are_those_of_the_loss() -> None:
    """Every weight moved by itself changes the loss as the gradient says: ``-mean(A log pi) - entropy mean(H)``."""
    params, features = initial(6, 5, 4, 2), RNG.standard_normal((9, 6))
    params["out.weight"] *= 20  # far from uniform
    actions, advantage, entropy = RNG.integers(0, 4, 9), RNG.standard_normal(9), 0.3

    def loss() -> float:
        logs, _ = forward(params, features)
        unsure = -(np.exp(logs) * logs).sum(axis=1).mean()
        return float(-(advantage * logs[np.arange(9), actions]).mean() - entropy * unsure)

    log_chances, hidden = forward(params, features)
    found = backward(params, features, hidden, score_gradient(log_chances, actions, advantage, entropy))
    for name, weights in params.items():
        numeric = np.zeros_like(weights)
        for place in np.ndindex(weights.shape):
            kept = weights[place]
            weights[place] = kept + 1e-6
            up = loss()
            weights[place] = kept - 1e-6
            numeric[place] = (up - loss()) / 2e-6
            weights[place] = kept
        np.testing.assert_allclose(found[name], numeric, atol=1e-8, err_msg=name)


def test_adam_is_torchs() -> None:
    torch = pytest.importorskip("torch")
    params = {"w": RNG.standard_normal((3, 2))}
    theirs = torch.tensor(params["w"].copy(), requires_grad=True)
    ours, other = Adam(params, 0.01), torch.optim.Adam([theirs], 0.01)
    for _ in range(5):
        gradient = RNG.standard_normal((3, 2))
        ours.step(params, {"w": gradient})
        theirs.grad = torch.tensor(gradient)
        other.step()
    np.testing.assert_allclose(params["w"], theirs.detach().numpy(), atol=1e-12)


def test_the_norm_is_joint_and_only_cut() -> None:
    large = clip_norm({"a": np.asarray([3.0]), "b": np.asarray([4.0])}, 1.0)
    assert (large["a"][0], large["b"][0]) == pytest.approx((0.6, 0.8))
    small = {"a": np.asarray([0.3])}
    assert clip_norm(small, 1.0)["a"][0] == 0.3
    assert clip_norm({"a": np.zeros(2)}, 1.0)["a"].tolist() == [0.0, 0.0]
