"""Fast and slow learning: a memory's controllers taught online, window by window, on a stream that need not end.

Fast & Slow Learning, arXiv 2011.05438, of which the abstract alone is public; the rule is that of Decoupled Neural
Interfaces (arXiv 1608.05343), the rest is this library's design. A stream is cut into windows, the state is detached at
every boundary, and inside a window there is ordinary backpropagation. What the future wants of the state at the end of
a window is guessed (``SyntheticGradient``) and joins the window's own loss:

    J = L + <SG(s_out), s_out>        and        SG(s_in) learns the gradient dJ/ds_in,

so knowledge of the far future comes back one boundary a window. That is the slow path. The fast path moves a second
copy of the weights along the guess for the last step alone, by how surprising the window was, and lets it fade: a rare
event acts at once and leaves the slow weights as they are.

Activations of one window are held, never of the stream. All gradients are of the *sum* over rows: averaged ones would
shrink as batches grow, until the guess cannot leave zero.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from lamina.errors import InvalidInput
from lamina.nn.memory_controller import MemoryController
from lamina.nn.synthetic_gradient import InputTraces, SyntheticGradient

IGNORED = -100
_RECENT = 200  # norms of which the 99th percentile is the most that a target may have
_SMOOTH = 0.95  # of the mean surprise


@dataclass(frozen=True, slots=True, eq=False)
class StreamState:
    """Where rows of a stream stand between two windows, all ``(batch, ...)`` without a graph: the packed ``state``, the
    ``traces``, and the ``conditions`` at this boundary, ``None`` at the beginning of a stream."""

    state: Tensor | None
    traces: Tensor
    conditions: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Metrics:
    """Of one window: ``loss`` of an answer (nats; 0 if nothing was asked), ``right`` of how many ``asked``, the
    regression's ``sg_loss`` and cosine with its target (``None`` at a stream's beginning), and the fast path's gain."""

    loss: float
    right: int
    asked: int
    sg_loss: float | None = None
    sg_cosine: float | None = None
    gain: float = 0.0


@dataclass(frozen=True, slots=True)
class FastPath:
    """``rate`` of fast weights, times how much more than usual the newest answer surprised (up to ``most``); they fade
    by ``fading`` each window."""

    rate: float = 1e-2
    fading: float = 0.95
    most: float = 4.0

    def __post_init__(self) -> None:
        if not (self.rate > 0 and 0 <= self.fading < 1 and self.most > 0):
            raise InvalidInput(f"{self!r}: give a rate above 0, a fading in [0, 1) and a most above 0")


class FastSlowController:
    """Teaches ``controller`` in windows of ``window`` steps. ``sg``: the guess; ``None`` for plain truncated
    backpropagation. ``traces``: of the inputs, part of the conditions. ``fast``: the fast path, which needs ``sg``.

    Raises ``InvalidInput`` for a window below 1, parts that do not fit, or ``fast`` without ``sg``.
    """

    def __init__(
        self,
        controller: MemoryController,
        sg: SyntheticGradient | None,
        *,
        inputs: int,
        window: int = 4,
        traces: InputTraces | None = None,
        fast: FastPath | None = None,
        lr: float = 3e-3,
        sg_lr: float = 3e-3,
        clip: float = 1.0,
    ) -> None:
        if isinstance(window, bool) or window < 1:
            raise InvalidInput(f"window={window!r}: give the steps of a window, from 1")
        if not isinstance(controller, nn.Module):
            raise InvalidInput(f"controller={type(controller).__name__}: give a torch module")
        wide = window * inputs + (0 if traces is None else traces.width)
        if sg is not None and (sg.state_dim, sg.cond_dim) != (controller.state_size, wide):
            raise InvalidInput(
                f"sg takes states of {sg.state_dim} and conditions of {sg.cond_dim} numbers: here are "
                f"{controller.state_size} and {wide}"
            )
        if fast is not None and sg is None:
            raise InvalidInput("fast needs sg: its direction is the guessed gradient")
        self.controller: Any = controller
        self.sg, self.traces, self.window, self.inputs, self.fast_path = sg, traces, window, inputs, fast
        self.slow_optimizer = torch.optim.Adam(controller.parameters(), lr)
        self.sg_optimizer = None if sg is None else torch.optim.Adam(sg.parameters(), sg_lr)
        self.clip = clip
        self.fast = {name: torch.zeros_like(weight) for name, weight in controller.named_parameters()}
        self.skipped = 0  # regressions whose target was not finite
        self._norms: deque[float] = deque(maxlen=_RECENT)
        self._surprise: tuple[float, float] | None = None  # loss of the newest answer, and the mean

    def begin(self, batch: int) -> StreamState:
        """Rows at the beginning of a stream."""
        none = next(iter(self.slow.values())).new_zeros(batch, 0)
        return StreamState(None, none if self.traces is None else self.traces.begin(batch))

    @property
    def slow(self) -> dict[str, Tensor]:
        """The slow weights, by name: what is kept when the stream is over."""
        return dict(self.controller.named_parameters())

    def learn(
        self, inputs: Tensor, targets: Tensor, stream: StreamState, *, last: bool = False
    ) -> tuple[StreamState, Metrics]:
        """One window: ``inputs`` ``(batch, steps, inputs)``, ``targets`` int64 ``(batch, steps)``, -100 where nothing
        is asked. ``last``: the stream ends here, and no future is guessed for it. Where it stands afterwards."""
        self._check(inputs, targets)
        rows = len(inputs)
        begin = None if stream.state is None else stream.state.detach().requires_grad_()
        before, state, answers = self._run(inputs, begin)
        loss = self._loss(answers, targets)
        after = self._after(inputs, stream, state)
        surrogate = loss
        if self.sg is not None and not last:
            assert after.conditions is not None
            with torch.no_grad():
                guess = self.sg(state, after.conditions)
            surrogate = surrogate + (guess * state).sum()
        self.slow_optimizer.zero_grad(set_to_none=True)
        if surrogate.requires_grad:
            (surrogate / rows).backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(self.controller.parameters(), self.clip)
            self.slow_optimizer.step()
        sg_loss, cosine = self._regress(begin, stream.conditions, rows)
        asked = targets != IGNORED
        right, count = int((answers.argmax(-1) == targets)[asked].sum()), int(asked.sum())
        told = float(loss.detach()) / max(1, count)
        if count:
            self._surprised(told)
        gain = 0.0 if last else self._fast_step(inputs[:, -1], before, after)
        return after, Metrics(told, right, count, sg_loss, cosine, gain)

    def answer(self, inputs: Tensor, stream: StreamState | None = None) -> Tensor:
        """Logits ``(batch, steps, outputs)`` by slow and fast weights together, nothing learned."""
        with torch.no_grad():
            _, _, answers = self._run(inputs, None if stream is None else stream.state)
        return answers

    # -- a window ----------------------------------------------------------------------------------

    def _run(self, inputs: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """The state before the last step, the last one, and the outputs of all steps."""
        state = self.controller.init_state(len(inputs)) if state is None else state
        before, answers = state, []
        for x in inputs.unbind(1):
            before = state
            state, said = self._step(x, state)
            answers.append(said)
        return before, state, torch.stack(answers, dim=1)

    def _step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        if self.fast_path is None:
            stepped: tuple[Tensor, Tensor] = self.controller.step(x, state)
            return stepped
        both = {name: weight + self.fast[name] for name, weight in self.slow.items()}
        stepped = functional_call(_Step(self.controller), {f"of.{name}": w for name, w in both.items()}, (x, state))
        return stepped

    def _loss(self, answers: Tensor, targets: Tensor) -> Tensor:
        """Summed over rows and steps."""
        return F.cross_entropy(answers.flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction="sum")

    def _after(self, inputs: Tensor, stream: StreamState, state: Tensor) -> StreamState:
        traces = stream.traces
        if self.traces is not None:
            for x in inputs.unbind(1):
                traces = self.traces.after(traces, x)
        seen = F.pad(inputs, (0, 0, 0, self.window - inputs.shape[1])).flatten(1)
        return StreamState(state.detach(), traces, torch.cat([seen, traces], dim=1))

    def _regress(self, begin: Tensor | None, conditions: Tensor | None, rows: int) -> tuple[float | None, float | None]:
        """The guess at the boundary before this window learns what the window found."""
        if self.sg is None or self.sg_optimizer is None or begin is None or begin.grad is None or conditions is None:
            return None, None
        target = rows * begin.grad
        if not torch.isfinite(target).all():
            self.skipped += 1
            return None, None
        guess = self.sg(begin.detach(), conditions)
        bounded = self._bounded(target)
        loss = F.mse_loss(guess, bounded)
        self.sg_optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.sg_optimizer.step()
        cosine = F.cosine_similarity(guess.detach().flatten(), target.flatten(), dim=0)
        return float(loss.detach()), float(cosine)

    def _bounded(self, target: Tensor) -> Tensor:
        """Rows that are longer than nearly all before are cut to that length."""
        norms = target.norm(dim=1)
        self._norms.append(float(norms.quantile(0.99)))
        most = max(self._norms) if len(self._norms) < _RECENT // 2 else float(torch.tensor(self._norms).quantile(0.99))
        shrunk: Tensor = target * (most / norms.clamp(min=1e-12)).clamp(max=1.0)[:, None]
        return shrunk

    def _surprised(self, loss: float) -> None:
        """By the newest answer, and by answers in general."""
        _, mean = self._surprise or (loss, loss)
        self._surprise = loss, _SMOOTH * mean + (1 - _SMOOTH) * loss

    def _fast_step(self, x: Tensor, before: Tensor, after: StreamState) -> float:
        """Moves the fast weights along the guess for the last step, needing no target; how many times the rate."""
        path = self.fast_path
        if path is None or self.sg is None:
            return 0.0
        newest, mean = self._surprise or (1.0, 1.0)
        gain = min(path.most, newest / max(mean, 1e-12))
        assert after.conditions is not None and after.state is not None
        with torch.no_grad():
            wanted = self.sg(after.state, after.conditions)
        weights = {name: (weight + self.fast[name]).detach().requires_grad_() for name, weight in self.slow.items()}
        named = {f"of.{name}": weight for name, weight in weights.items()}
        state, _said = functional_call(_Step(self.controller), named, (x, before.detach()))
        moved = torch.autograd.grad((wanted * state).sum() / len(x), list(weights.values()), allow_unused=True)
        for weight, gradient in zip(self.fast.values(), moved, strict=True):
            weight.mul_(path.fading)
            if gradient is not None:
                weight.sub_(path.rate * gain * gradient)
        return gain

    def _check(self, inputs: Tensor, targets: Tensor) -> None:
        if inputs.dim() != 3 or inputs.shape[2] != self.inputs or not 1 <= inputs.shape[1] <= self.window:
            raise InvalidInput(
                f"inputs has shape {tuple(inputs.shape)}: give (rows, 1 to {self.window} steps, {self.inputs})"
            )
        if targets.shape != inputs.shape[:2]:
            raise InvalidInput(f"targets has shape {tuple(targets.shape)}: give {tuple(inputs.shape[:2])}")

    # -- kept ----------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Slow and fast weights apart, the guess, the optimizers and the running norms; not copied, as torch has it."""
        return {
            "slow": self.controller.state_dict(),
            "fast": dict(self.fast),
            "sg": None if self.sg is None else self.sg.state_dict(),
            "slow_optimizer": self.slow_optimizer.state_dict(),
            "sg_optimizer": None if self.sg_optimizer is None else self.sg_optimizer.state_dict(),
            "norms": list(self._norms),
            "surprise": self._surprise,
            "skipped": self.skipped,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on exactly where ``state_dict`` was taken."""
        self.controller.load_state_dict(state["slow"])
        for name, weight in self.fast.items():
            weight.copy_(state["fast"][name])
        self.slow_optimizer.load_state_dict(state["slow_optimizer"])
        if self.sg is not None and self.sg_optimizer is not None:
            self.sg.load_state_dict(state["sg"])
            self.sg_optimizer.load_state_dict(state["sg_optimizer"])
        self._norms = deque(state["norms"], maxlen=_RECENT)
        self._surprise, self.skipped = state["surprise"], state["skipped"]


class _Step(nn.Module):
    """A controller's step as a module's call, for weights that are given."""

    def __init__(self, of: nn.Module) -> None:
        super().__init__()
        self.of: Any = of

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        stepped: tuple[Tensor, Tensor] = self.of.step(x, state)
        return stepped
