"""The policy: a perceptron with one hidden layer from features to action scores, and Adam, by hand in numpy.

Some thousand weights learn in milliseconds without torch, and importing this room stays cheap. Gradients are
proved against finite differences. All arrays are float64, so that a resumed training repeats bit by bit.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Params = dict[str, Floats]


def initial(inputs: int, hidden: int, actions: int, seed: int) -> Params:
    """Weights at the scale that keeps activations at theirs; the last layer near zero, so all actions start equal."""
    rng = np.random.default_rng((seed, 0))
    return {
        "hidden.weight": rng.standard_normal((inputs, hidden)) / np.sqrt(8.0),  # some eight units of input are active
        "hidden.bias": np.zeros(hidden),
        "out.weight": rng.standard_normal((hidden, actions)) * (0.1 / np.sqrt(hidden)),
        "out.bias": np.zeros(actions),
    }


def forward(params: Mapping[str, Floats], features: Floats) -> tuple[Floats, Floats]:
    """Logarithms of the action probabilities ``(n, actions)`` of ``features`` ``(n, inputs)``; the hidden layer."""
    hidden = np.tanh(features @ params["hidden.weight"] + params["hidden.bias"])
    scores = hidden @ params["out.weight"] + params["out.bias"]
    scores = scores - scores.max(axis=-1, keepdims=True)
    return scores - np.log(np.exp(scores).sum(axis=-1, keepdims=True)), hidden


def backward(params: Mapping[str, Floats], features: Floats, hidden: Floats, scores: Floats) -> Params:
    """Gradients of a loss from its gradient with respect to the ``scores`` before the softmax, ``(n, actions)``."""
    inner = (scores @ params["out.weight"].T) * (1.0 - hidden**2)
    return {
        "hidden.weight": features.T @ inner,
        "hidden.bias": inner.sum(axis=0),
        "out.weight": hidden.T @ scores,
        "out.bias": scores.sum(axis=0),
    }


def clip_norm(gradients: Params, limit: float) -> Params:
    """Gradients scaled down so that their joint norm is at most ``limit``."""
    norm = float(np.sqrt(sum(float((g * g).sum()) for g in gradients.values())))
    factor = min(1.0, limit / norm) if norm else 1.0
    return {name: gradient * factor for name, gradient in gradients.items()}


class Adam:
    """Kingma and Ba, arXiv 1412.6980, with bias correction. ``moments`` is all its state but the step count."""

    def __init__(self, params: Params, lr: float, betas: tuple[float, float] = (0.9, 0.999)) -> None:
        self.lr = lr
        self._betas = betas
        self.steps = 0
        self.moments = {
            f"{kind}.{name}": np.zeros_like(p) for kind in ("first", "second") for name, p in params.items()
        }

    def step(self, params: Params, gradients: Params) -> None:
        """Change ``params`` in place, down the gradients."""
        self.steps += 1
        one, two = self._betas
        for name, gradient in gradients.items():
            first, second = self.moments[f"first.{name}"], self.moments[f"second.{name}"]
            first += (1 - one) * (gradient - first)
            second += (1 - two) * (gradient**2 - second)
            corrected = np.sqrt(second / (1 - two**self.steps)) + 1e-8
            params[name] -= self.lr * (first / (1 - one**self.steps)) / corrected
