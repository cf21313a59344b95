"""An expert learns its operation: cross-entropy on the teacher's words, nothing else trained, nothing computed twice.

MemLoRA (arXiv 2512.04763) distils each operation by itself, on the *text* the teacher gave. The prompt is masked from
the loss, the end of the turn is part of the target. Defaults are ours (the paper's are not public): AdamW at 2e-4,
cosine after 5% warm-up, batch 16, at most three epochs, the best epoch kept where a validation metric is given.

``cache_below=n``: when adapters sit on layers n and above only, what enters layer n is a constant of the trace. It
is computed once, without gradients, and every later step runs the upper layers alone. That is exact, since nothing
below changes: it is asserted that no adapter lies below the cut, that nothing there drops out or learns, and that
both halves in a row equal the whole model.

Of the last layer only the positions that predict a target are turned into logits.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from lamina._optional import require
from lamina.errors import InvalidInput
from lamina.llm.causal import CausalLM
from lamina.parameter.adapters import LoRA
from lamina.parameter.experts.lora import learning, lowest_layer
from lamina.parameter.experts.prompts import messages
from lamina.parameter.experts.traces import Trace

if TYPE_CHECKING:
    from torch import Tensor

Tell = Callable[[int, int, float], None]  # steps done, steps in all, loss (nats a target token)

_WINDOW = 8  # batches among which traces are sorted by length, so that little is padding
_TOLERANCE = 1e-4  # of a hidden state, between the whole model and its two halves


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to learn. ``limit`` is in tokens of prompt and target; longer traces are left out and counted.

    ``steps`` are taken in as many epochs as they need; ``epochs`` counts where it is ``None``.
    """

    lr: float = 2e-4
    batch: int = 16
    epochs: int = 3
    steps: int | None = None
    warmup: float = 0.05
    dropout: float = 0.05
    limit: int = 512
    cache_below: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        counts = self.batch, self.epochs, 1 if self.steps is None else self.steps
        if self.lr <= 0 or min(counts) < 1 or not 0 <= self.warmup < 1:
            raise InvalidInput(f"{self!r}: lr, batch, epochs and steps must be positive, and warmup in [0, 1)")


@dataclass(frozen=True, slots=True)
class Lesson:
    """One trace as tokens: ``ids`` of prompt and target; the target begins at ``start`` and ends the turn."""

    ids: tuple[int, ...]
    start: int


@dataclass(slots=True)
class Progress:
    """What happened: loss a step (nats a target token), the metric after each epoch, the epoch that was kept."""

    losses: list[float] = field(default_factory=list)
    metrics: list[float] = field(default_factory=list)
    kept: int = 0
    too_long: int = 0
    seconds: float = 0.0


def lesson(lm: CausalLM, trace: Trace) -> Lesson:
    """``trace`` as it will be met in serving: the chat template, then the target and the end of the turn."""
    prompt = lm.prompt(messages(trace.request))
    target = [*lm.encode(trace.output), int(lm.tokenizer.eos_token_id)]
    return Lesson((*prompt, *target), len(prompt))


class LowerStates:
    """What enters layer ``cut`` for each lesson, computed once under ``no_grad``; shared by all that learn above it."""

    def __init__(self, lm: CausalLM, cut: int, *, batch: int = 16) -> None:
        """Raises ``InvalidInput`` if the model cannot be cut at layer ``cut``."""
        depth = int(lm.model.config.num_hidden_layers)
        if not 0 < cut < depth:
            raise InvalidInput(f"cache_below={cut} leaves nothing on one side: give 1 to {depth - 1}")
        self.cut = cut
        self._lm = lm
        self._batch = batch
        self._states: dict[tuple[int, ...], Tensor] = {}
        self._is_checked = False

    def __len__(self) -> int:
        return len(self._states)

    def of(self, lessons: Sequence[Lesson]) -> list[Tensor]:
        """(tokens, width) each, on the model's device. Call it with the adapters off or above the cut."""
        fresh = sorted({each.ids for each in lessons} - self._states.keys(), key=len)
        for start in range(0, len(fresh), self._batch):
            rows = fresh[start : start + self._batch]
            for row, state in zip(rows, self._lower(rows), strict=True):
                self._states[row] = state[: len(row)].clone()
        return [self._states[each.ids] for each in lessons]

    def _lower(self, rows: Sequence[tuple[int, ...]]) -> Tensor:
        torch, inner = require("torch", "training"), self._lm.model.base_model
        ids = _padded(torch, rows, 0).to(self._lm.model.device)
        with torch.no_grad(), _only(inner, slice(None, self.cut), norm=False):
            states: Tensor = inner(input_ids=ids, use_cache=False).last_hidden_state
        if not self._is_checked:
            self._check(torch, ids, states)
        return states

    def _check(self, torch: Any, ids: Tensor, states: Tensor) -> None:
        inner = self._lm.model.base_model
        with torch.no_grad():
            whole = inner(input_ids=ids, use_cache=False).last_hidden_state
            with _only(inner, slice(self.cut, None), norm=True):
                halves = inner(inputs_embeds=states, use_cache=False).last_hidden_state
        worst = float((whole - halves).abs().max())
        if not worst <= _TOLERANCE * float(whole.abs().max()):
            raise InvalidInput(
                f"cache_below={self.cut}: {type(inner).__name__} cannot be cut there (its halves differ from the whole "
                f"by {worst:.2g}); train without it"
            )
        self._is_checked = True


def fit(
    lm: CausalLM,
    lora: LoRA,
    lessons: Sequence[Lesson],
    recipe: Recipe,
    *,
    states: LowerStates | None = None,
    budget_s: float | None = None,
    metric: Callable[[], float] | None = None,
    tell: Tell | None = None,
) -> Progress:
    """Train ``lora`` in place on ``lessons``. ``metric`` (higher is better) is taken after each epoch; ``tell`` is
    told of every step.

    ``states`` may be shared between calls; with ``recipe.cache_below`` alone one is made. ``budget_s`` ends training
    in the middle of an epoch; the schedule then does not reach its end. Raises ``InvalidInput`` if no lesson fits
    ``recipe.limit``, or for a cut above an adapted layer.
    """
    torch = require("torch", "training")
    started = time.perf_counter()
    deadline = math.inf if budget_s is None else started + budget_s
    usable = [each for each in lessons if len(each.ids) <= recipe.limit]
    progress = Progress(too_long=len(lessons) - len(usable))
    if not usable:
        raise InvalidInput(f"none of {len(lessons)} traces has at most limit={recipe.limit} tokens; raise the limit")
    if states is None and recipe.cache_below is not None:
        states = LowerStates(lm, recipe.cache_below, batch=recipe.batch)
    if states is not None:
        _check_cut(lm, lora, states)
        states.of(usable[:1])  # checked before any adapter is on; the others when they are met
    best = -math.inf
    kept: list[Tensor] = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        for epoch in _epochs(lm, lora, usable, recipe, states, progress, deadline, tell):
            value = metric() if metric is not None else math.inf
            progress.metrics += [value] if metric is not None else []
            if metric is None or value > best:
                best, progress.kept = value, epoch
                kept = [weight.detach().clone() for weight in lora.parameters]
    with torch.no_grad():
        for weight, at_best in zip(lora.parameters, kept, strict=True):
            weight.copy_(at_best)
    progress.seconds = time.perf_counter() - started
    return progress


def _epochs(
    lm: CausalLM,
    lora: LoRA,
    lessons: Sequence[Lesson],
    recipe: Recipe,
    states: LowerStates | None,
    progress: Progress,
    deadline: float,
    tell: Tell | None,
) -> Iterator[int]:
    """Train one epoch a turn; yields its number, from 1."""
    torch = require("torch", "training")
    random = np.random.default_rng(recipe.seed)
    rounds = math.ceil(len(lessons) / recipe.batch)  # an epoch
    steps = recipe.epochs * rounds if recipe.steps is None else recipe.steps
    optimizer = torch.optim.AdamW(lora.parameters, lr=recipe.lr, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _cosine(step, steps, recipe.warmup))
    for epoch in range(1, math.ceil(steps / rounds) + 1):
        with learning(lm, lora, dropout=recipe.dropout):
            for rows in _batches(lessons, recipe.batch, random):
                if time.perf_counter() > deadline or len(progress.losses) == steps:
                    break
                value: Any = loss(lm, rows, states)
                optimizer.zero_grad()
                value.backward()
                torch.nn.utils.clip_grad_norm_(lora.parameters, 1.0)
                optimizer.step()
                schedule.step()
                progress.losses.append(float(value.detach()))
                if tell is not None:
                    tell(len(progress.losses), steps, progress.losses[-1])
        yield epoch
        if time.perf_counter() > deadline:
            return


def loss(lm: CausalLM, lessons: Sequence[Lesson], states: LowerStates | None = None) -> Tensor:
    """Mean cross-entropy of the target tokens, a scalar with gradient. Padding is on the right, where a causal
    model cannot see it from the positions that count."""
    torch = require("torch", "training")
    model: Any = lm.model
    rows = [each.ids for each in lessons]
    ids = _padded(torch, rows, 0).to(model.device)
    if states is None:
        hidden = model.base_model(input_ids=ids, use_cache=False).last_hidden_state
    else:
        below = torch.nn.utils.rnn.pad_sequence(states.of(lessons), batch_first=True)
        with _only(model.base_model, slice(states.cut, None), norm=True):
            hidden = model.base_model(inputs_embeds=below, use_cache=False).last_hidden_state
    predicts = torch.zeros(ids.shape, dtype=torch.bool)
    for row, each in enumerate(lessons):
        predicts[row, each.start - 1 : len(each.ids) - 1] = True
    predicts = predicts.to(model.device)
    logits = model.get_output_embeddings()(hidden[predicts])
    wanted = ids.roll(-1, dims=1)[predicts]
    result: Tensor = torch.nn.functional.cross_entropy(
        logits.float() if logits.dtype != torch.float64 else logits, wanted
    )
    return result


def _check_cut(lm: CausalLM, lora: LoRA, states: LowerStates) -> None:
    if lowest_layer(lora) < states.cut:
        raise InvalidInput(
            f"cache_below={states.cut}: the adapter changes layer {lowest_layer(lora)}; give it layers from the cut on"
        )
    layers: Any = lm.model.base_model.layers
    if any(module.training for module in layers.modules()):
        raise InvalidInput(f"cache_below={states.cut}: the model is in training mode; call model.eval() first")


@contextmanager
def _only(inner: Any, layers: slice, *, norm: bool) -> Iterator[None]:
    """The decoder with some of its layers, and its last norm or none, for the time of the block."""
    torch = require("torch", "training")
    whole, last = inner.layers, inner.norm
    inner.layers, inner.norm = whole[layers], last if norm else torch.nn.Identity()
    try:
        yield
    finally:
        inner.layers, inner.norm = whole, last


def _padded(torch: Any, rows: Sequence[tuple[int, ...]], fill: int) -> Tensor:
    out: Tensor = torch.full((len(rows), max(map(len, rows))), fill)
    for place, row in enumerate(rows):
        out[place, : len(row)] = torch.tensor(row)
    return out


def _batches(lessons: Sequence[Lesson], size: int, random: np.random.Generator) -> Iterator[list[Lesson]]:
    """All lessons in random batches of like lengths."""
    order = [int(place) for place in random.permutation(len(lessons))]
    batches: list[list[Lesson]] = []
    for start in range(0, len(order), size * _WINDOW):
        window = sorted(order[start : start + size * _WINDOW], key=lambda place: len(lessons[place].ids))
        batches += [[lessons[place] for place in window[at : at + size]] for at in range(0, len(window), size)]
    for place in random.permutation(len(batches)):
        yield batches[int(place)]


def _cosine(step: int, steps: int, warmup: float) -> float:
    """Share of the learning rate at ``step``: linear warm-up, then half a cosine to zero."""
    rise = max(1, round(warmup * steps))
    if step < rise:
        return (step + 1) / rise
    return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, steps - rise)))
