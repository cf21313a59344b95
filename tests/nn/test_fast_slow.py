"""The memory network against its equations; the window rule against backpropagation through the whole stream."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lamina.errors import InvalidInput
from lamina.nn.fast_slow import FastPath, FastSlowController, StreamState
from lamina.nn.memory_controller import NeuralMemoryNetwork
from lamina.nn.synthetic_gradient import FADING, InputTraces, SyntheticGradient
from lamina.nn.tasks import CreditStream

INPUTS, OUTPUTS = 5, 3


def _network(seed: int = 0) -> NeuralMemoryNetwork:
    torch.manual_seed(seed)
    return NeuralMemoryNetwork(INPUTS, OUTPUTS, slots=3, size=4, hidden=6).double()


def _stream(steps: int, rows: int = 2, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, steps, INPUTS, generator=generator, dtype=torch.float64)
    targets = torch.randint(0, OUTPUTS, (rows, steps), generator=generator)
    targets[torch.rand(rows, steps, generator=generator) < 0.5] = -100
    targets[:, -1] = torch.randint(0, OUTPUTS, (rows,), generator=generator)
    return x, targets


def _guess(network: NeuralMemoryNetwork, window: int, traces: InputTraces | None = None) -> SyntheticGradient:
    wide = window * INPUTS + (traces.width if traces else 0)
    return SyntheticGradient(network.state_size, wide, 16).double()


# -- the network -----------------------------------------------------------------------------------


def _soft(scores: np.ndarray) -> np.ndarray:
    powers = np.exp(scores - scores.max())
    return powers / powers.sum()


def _written_out(network: NeuralMemoryNetwork, x: np.ndarray, h: np.ndarray, m: np.ndarray) -> tuple[Any, Any, Any]:
    weights = {name: value.detach().numpy() for name, value in network.named_parameters()}

    def linear(name: str, given: np.ndarray) -> np.ndarray:
        return weights[f"{name}.weight"] @ given + weights[f"{name}.bias"]

    def sigmoid(given: np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(-given))

    z = _soft(m @ linear("ask", np.r_[x, h]))
    r = m.T @ z
    wide = np.r_[x, r]
    own = np.split(weights["compose.weight_ih"] @ wide + weights["compose.bias_ih"], 3)
    old = np.split(weights["compose.weight_hh"] @ h + weights["compose.bias_hh"], 3)
    reset, update = sigmoid(own[0] + old[0]), sigmoid(own[1] + old[1])
    new = np.tanh(own[2] + reset * old[2])
    h = (1 - update) * new + update * h
    seen = np.r_[x, h]
    a, g, c = _soft(m @ linear("address", seen)), sigmoid(linear("gate", seen)), np.tanh(linear("content", seen))
    m = m * (1 - g * a[:, None]) + (g * a)[:, None] * c[None]
    return h, m, linear("out", np.r_[h, r])


def test_a_step_is_its_equations() -> None:
    network, (x, _) = _network(), _stream(4)
    state = network.init_state(2)
    assert state.shape == (2, network.state_size) == (2, 6 + 12)
    hidden, memory = (part.detach().numpy() for part in network.unpack(state))
    for t in range(4):
        state, said = network.step(x[:, t], state)
        rows = [_written_out(network, x[row, t].numpy(), hidden[row], memory[row]) for row in range(2)]
        hidden, memory = np.stack([row[0] for row in rows]), np.stack([row[1] for row in rows])
        np.testing.assert_allclose(said.detach().numpy(), np.stack([row[2] for row in rows]), rtol=1e-9)
        np.testing.assert_allclose(network.unpack(state).memory.detach().numpy(), memory, rtol=1e-9)


def test_what_is_kept_stays_between_what_was_written() -> None:
    network, (x, _) = _network(), _stream(200)
    state = network.init_state(2)
    for t in range(200):
        state, _ = network.step(20 * x[:, t], state)
    assert network.unpack(state).memory.abs().max() <= max(1.0, float(network.begin.detach().abs().max()))


# -- the rule --------------------------------------------------------------------------------------


class Told(SyntheticGradient):
    """Knows the true gradient at every boundary."""

    def __init__(self, network: NeuralMemoryNetwork, window: int) -> None:
        super().__init__(network.state_size, window * INPUTS, 4)
        self.truth: list[Tensor] = []

    def forward(self, state: Tensor, conditions: Tensor) -> Tensor:
        return self.truth[0] + 0.0 * self.out.bias.sum()


def _whole_gradient(network: NeuralMemoryNetwork, x: Tensor, targets: Tensor) -> tuple[dict[str, Tensor], list[Tensor]]:
    """Of the sum of all losses: for the weights, and for the state after each step."""
    state, states, total = network.init_state(len(x)), [], torch.zeros((), dtype=torch.float64)
    for t in range(x.shape[1]):
        state, said = network.step(x[:, t], state)
        state.retain_grad()
        states.append(state)
        total = total + F.cross_entropy(said, targets[:, t], ignore_index=-100, reduction="sum")
    network.zero_grad()
    total.backward()
    found = {name: weight.grad.clone() for name, weight in network.named_parameters() if weight.grad is not None}
    return found, [each.grad for each in states if each.grad is not None]


@pytest.mark.parametrize("window", [1, 2, 4])
def test_with_the_true_gradient_windows_sum_to_the_whole_stream(window: int) -> None:
    network, (x, targets) = _network(), _stream(8)
    expected, after = _whole_gradient(network, x, targets)
    told = Told(network, window).double()
    learner = FastSlowController(network, told, inputs=INPUTS, window=window, lr=0.0, sg_lr=0.0, clip=float("inf"))
    stream, summed = learner.begin(2), {name: torch.zeros_like(value) for name, value in expected.items()}
    for start in range(0, 8, window):
        last = start + window == 8
        if not last:  # the losses of later windows alone: what this boundary's state means for them
            told.truth = [after[start + window - 1]]
        part = slice(start, start + window)
        stream, _ = learner.learn(x[:, part], targets[:, part], stream, last=last)
        for name, weight in network.named_parameters():
            if weight.grad is not None:
                summed[name] += 2 * weight.grad
    for name, value in expected.items():
        torch.testing.assert_close(summed[name], value, rtol=1e-8, atol=1e-10, msg=name)


def test_one_window_for_all_is_plain_backpropagation() -> None:
    network, other, (x, targets) = _network(), _network(), _stream(6)
    FastSlowController(network, None, inputs=INPUTS, window=6, lr=1e-2).learn(
        x, targets, FastSlowController(network, None, inputs=INPUTS, window=6).begin(2), last=True
    )
    optimizer = torch.optim.Adam(other.parameters(), 1e-2)
    _whole_gradient(other, x, targets)
    for weight in other.parameters():
        assert weight.grad is not None
        weight.grad /= 2
    torch.nn.utils.clip_grad_norm_(other.parameters(), 1.0)
    optimizer.step()
    for ours, theirs in zip(network.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-7, atol=1e-9)


def test_it_begins_as_plain_truncation_and_cuts_every_boundary() -> None:
    plain, guessed, (x, targets) = _network(), _network(), _stream(4)
    one = FastSlowController(plain, None, inputs=INPUTS, window=4)
    other = FastSlowController(guessed, _guess(guessed, 4), inputs=INPUTS, window=4)
    first, told = one.learn(x, targets, one.begin(2))
    second, also = other.learn(x, targets, other.begin(2))
    assert told.loss == also.loss and also.sg_loss is None
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), guessed.parameters(), strict=True))
    for stream in (first, second):
        assert stream.state is not None and stream.state.grad_fn is None and stream.state.is_leaf
    _, later = other.learn(x, targets, second)
    assert later.sg_loss is not None and later.sg_loss > 0 and other.sg is not None and other.sg.out.weight.any()


def test_the_guess_learns_what_the_next_window_found() -> None:
    network, (x, targets) = _network(), _stream(8, rows=16)
    traces = InputTraces(INPUTS, features=8).double()
    learner = FastSlowController(
        network, _guess(network, 4, traces), inputs=INPUTS, window=4, traces=traces, lr=0.0, sg_lr=1e-2
    )
    cosines = []
    for _ in range(300):
        stream, _ = learner.learn(x[:, :4], targets[:, :4], learner.begin(16))
        _, told = learner.learn(x[:, 4:], targets[:, 4:], stream, last=True)
        cosines.append(told.sg_cosine)
    assert cosines[0] == 0.0 and cosines[-1] is not None and cosines[-1] > 0.95
    assert learner.answer(x).shape == (16, 8, OUTPUTS)


def test_traces_are_fading_means_of_features() -> None:
    traces, (x, _) = InputTraces(INPUTS, features=7, seed=3).double(), _stream(9)
    found = traces.begin(2)
    for t in range(9):
        found = traces.after(found, x[:, t])
    features = (x @ traces.weight.T + traces.bias).relu()
    for place, fading in enumerate(FADING):
        weights = (1 - fading) * fading ** torch.arange(8, -1, -1, dtype=torch.float64)
        expected = (weights[:, None] * features).sum(1)
        torch.testing.assert_close(found[:, 7 * place : 7 * (place + 1)], expected, rtol=1e-6, atol=1e-7)
    assert torch.equal(InputTraces(INPUTS, seed=3).weight, InputTraces(INPUTS, seed=3).weight)


def test_fast_weights_move_by_surprise_fade_and_are_not_the_slow_ones() -> None:
    network, (x, targets) = _network(), _stream(4)
    guess = _guess(network, 4)
    torch.nn.init.normal_(guess.out.weight, 0.0, 0.1)
    path = FastPath(rate=0.1, fading=0.5)
    learner = FastSlowController(network, guess, inputs=INPUTS, window=4, fast=path, lr=0.0, sg_lr=0.0)
    slow = {name: weight.clone() for name, weight in learner.slow.items()}
    before = learner.answer(x)
    stream, told = learner.learn(x, targets, learner.begin(2))
    moved = {name: weight.clone() for name, weight in learner.fast.items()}
    assert told.gain == pytest.approx(1.0) and any(weight.any() for weight in moved.values())
    assert not torch.equal(learner.answer(x), before)
    assert all(torch.equal(weight, slow[name]) for name, weight in learner.slow.items())
    learner._surprise = (9.0, 1.0)
    assert learner.learn(x, torch.full_like(targets, -100), stream)[1].gain == 4.0
    kept = {name: weight.clone() for name, weight in learner.fast.items()}
    _, told = learner.learn(x, targets, stream, last=True)
    assert told.gain == 0.0 and all(torch.equal(weight, kept[name]) for name, weight in learner.fast.items())


def test_it_goes_on_in_mid_stream_as_if_never_stopped() -> None:
    def fresh() -> FastSlowController:
        network = _network()
        traces = InputTraces(INPUTS, features=4).double()
        torch.manual_seed(1)
        guess = _guess(network, 2, traces)
        return FastSlowController(network, guess, inputs=INPUTS, window=2, traces=traces, fast=FastPath())

    x, targets = _stream(12)

    def go(learner: FastSlowController, stream: StreamState, start: int, stop: int) -> tuple[StreamState, list[Any]]:
        told = []
        for at in range(start, stop, 2):
            stream, metrics = learner.learn(x[:, at : at + 2], targets[:, at : at + 2], stream)
            told.append(metrics)
        return stream, told

    whole = fresh()
    stream, _ = go(whole, whole.begin(2), 0, 6)
    kept = copy.deepcopy(whole.state_dict())
    _, expected = go(whole, stream, 6, 12)
    again = fresh()
    with torch.no_grad():
        for weight in again.controller.parameters():
            weight.add_(1.0)
    again.load_state_dict(kept)
    assert go(again, stream, 6, 12)[1] == expected


def test_a_target_that_is_not_finite_teaches_the_guess_nothing() -> None:
    network, (x, targets) = _network(), _stream(2)
    learner = FastSlowController(network, _guess(network, 2), inputs=INPUTS, window=2, lr=0.0)
    stream, _ = learner.learn(x, targets, learner.begin(2))
    broken = StreamState(torch.full_like(stream.state, float("inf")), stream.traces, stream.conditions)  # type: ignore[arg-type]
    learner.learn(x, targets, broken)
    assert learner.skipped == 1


def test_it_learns_to_keep_across_a_boundary() -> None:
    """The answer of the last step hangs on a write in another window: without the guess that is never learned."""
    task, generator = CreditStream(T=4, k=2, values=2), torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    network = NeuralMemoryNetwork(task.V, 2, slots=2, size=8, hidden=16)
    traces = InputTraces(task.V, features=16)
    guess = SyntheticGradient(network.state_size, 2 * task.V + traces.width, 64)
    learner = FastSlowController(network, guess, inputs=task.V, window=2, traces=traces, lr=1e-2)
    right = []
    for _ in range(250):
        batch = task.sample(64, generator)
        x = F.one_hot(batch.ids, task.V).float()
        stream, _ = learner.learn(x[:, :2], batch.targets[:, :2], learner.begin(64))
        _, told = learner.learn(x[:, 2:], batch.targets[:, 2:], stream, last=True)
        right.append(told.right / told.asked)
    assert np.mean(right[-20:]) > 0.9, right[-20:]


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"window": 0}, "window=0"),
        ({"window": 3}, "conditions of 10 numbers"),
        ({"sg": None, "fast": FastPath()}, "sg"),
    ],
)
def test_what_does_not_fit_is_told(wrong: dict[str, Any], told: str) -> None:
    network = _network()
    settings: dict[str, Any] = {"sg": _guess(network, 2), "window": 2} | wrong
    with pytest.raises(InvalidInput, match=told):
        FastSlowController(network, settings.pop("sg"), inputs=INPUTS, **settings)


def test_wrong_sizes_are_told() -> None:
    network, (x, targets) = _network(), _stream(2)
    learner = FastSlowController(network, None, inputs=INPUTS, window=2)
    with pytest.raises(InvalidInput, match=r"give \(rows, 1 to 2 steps, 5\)"):
        learner.learn(x.repeat(1, 2, 1), targets, learner.begin(2))
    with pytest.raises(InvalidInput, match=r"targets has shape \(2, 1\)"):
        learner.learn(x, targets[:, :1], learner.begin(2))
    with pytest.raises(InvalidInput, match="slots=0"):
        NeuralMemoryNetwork(3, 3, slots=0)
    with pytest.raises(InvalidInput, match="give 5 and 18"):
        network.step(x[:, 0, :4], network.init_state(2))
    with pytest.raises(InvalidInput, match="rate above 0"):
        FastPath(rate=0.0)
    with pytest.raises(InvalidInput, match="made for 18 and 10"):
        _guess(network, 2)(torch.zeros(1, 3), torch.zeros(1, 10))
