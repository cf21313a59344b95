"""Context distillation: what a model says with memories in its context, taught to an adapter that goes without.

Teacher and student are one model. The teacher reads the memories as its system turn (once: its key-value cache
serves all questions), the student wears the adapter and reads the question alone. Loss (MemOS, arXiv 2507.03724,
names the path from plaintext to parameter; after "Learning by Distilling Context", arXiv 2209.15189):

    KL(teacher || student) of answers + 1.0 cross-entropy of answers + 4.0 KL(base || student) of guard text

The guard text holds the model where it was on everything else. Teacher and base are kept as their 64 most probable
tokens and the rest as one: a KL between these is a lower bound of the full one, at a 700th of the bytes.

Each step asks for as many different memories as it can: what tells one from the others is then in every gradient, and
not only the form that their answers share. Unusual: the adapter lies on the upper layers alone. What enters them is a
constant of each question, so it is computed once, and a step runs the upper layers only; nothing is approximated.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from lamina._optional import require
from lamina.cube.payload import TensorPayload
from lamina.errors import InvalidInput
from lamina.llm.causal import CausalLM
from lamina.parameter.adapters import LoRA, attach
from lamina.parameter.probes import Probe
from lamina.parameter.scoring import Continuation, forward, guard_texts, packs, pieces, questions

if TYPE_CHECKING:
    from torch import Generator, Tensor
    from torch.optim import Optimizer
    from transformers import Cache

_Thing = TypeVar("_Thing")
Progress = Callable[[int, int, float], None]  # step (from 1), steps, loss

_TOP = 64  # tokens kept of a distribution
_LAYER = re.compile(r"layers\.(\d+)\.")
_LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
_BATCH = 8  # questions a step
_WARMUP = 5  # steps
_ANSWER, _GUARD = 1.0, 4.0  # weights of the second and third term of the loss


@dataclass(frozen=True, slots=True)
class Distilled:
    """An adapter as a payload, the loss of each step, and the wall-clock seconds it took."""

    payload: TensorPayload
    losses: tuple[float, ...]
    seconds: float


@dataclass(frozen=True, slots=True)
class _Lesson:
    """A text to read, and the distribution to give at each scored token: ids (n, k), log-probabilities (n, k + 1).

    ``states`` (tokens, width) enter the lowest layer that learns.
    """

    text: Continuation
    memory: int
    ids: Tensor
    target: Tensor
    states: Tensor


@dataclass(frozen=True, slots=True)
class _Beginning:
    """What all questions begin with, and what of it enters layer ``cut``, the lowest that learns."""

    ids: Sequence[int]
    states: Tensor
    cut: int


def distill(
    lm: CausalLM,
    context: str,
    probes: Sequence[Probe],
    *,
    rank: int = 8,
    alpha: float = 16.0,
    targets: Sequence[str] = _LINEAR,
    cut: int | None = None,
    steps: int = 60,
    learning_rate: float = 4e-3,
    seed: int = 0,
    budget_s: float | None = None,
    guard: Sequence[str] | None = None,
    teacher_cache: Cache | None = None,
    progress: Progress | None = None,
) -> Distilled:
    """An adapter that answers ``probes`` as ``lm`` does with ``context`` for its system message.

    ``targets``: last parts of module names, in the layers from ``cut`` on (default: the upper half); ``guard``: default
    ``guard_texts(16)``; ``teacher_cache``: that of ``lm.prompt([system turn], reply=False)``, left unchanged. Equal
    arguments give equal adapters, unless ``budget_s`` (wall-clock seconds) ends it early. ``lm`` is locked for one
    step at a time. Raises ``InvalidInput``.
    """
    torch = require("torch", "distilling memories into an adapter")
    if not probes or not context.strip() or rank < 1 or steps < 1:
        raise InvalidInput(f"probes ({len(probes)}), context, rank={rank} and steps={steps} must not be empty or zero")
    with lm.lock:  # another thread's adapter must not be taken for the base
        if lm.overlay:
            raise InvalidInput(f"lm.overlay={lm.overlay!r}: the teacher is the bare model; leave the block first")
        base = lm.fingerprint
    start = time.monotonic()
    depth = len(_body(lm).layers)
    first = depth // 2 if cut is None else cut
    if not 0 <= first < depth:
        raise InvalidInput(f"cut={cut} leaves no layer to learn: give 0 to {depth - 1}")
    generator = torch.Generator().manual_seed(seed)
    lora = fresh(lm, targets, rank, alpha, generator, first)
    beginning, asked = _lessons(lm, context, probes, teacher_cache, first)
    kept = _guarded(lm, guard_texts(16) if guard is None else guard, steps, generator, first)
    optimizer = torch.optim.AdamW(lora.parameters, lr=learning_rate, weight_decay=0.0)
    draws, guards = _draws(asked, _BATCH, generator), _draws(kept, 1, generator)
    losses: list[float] = []
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = learning_rate * _schedule(step, steps)
        losses.append(_step(lm, lora, optimizer, beginning, next(draws), next(guards)))
        if progress is not None:
            progress(step + 1, steps, losses[-1])
        if budget_s is not None and time.monotonic() - start > budget_s:
            break
    return Distilled(lora.to_payload(base), tuple(losses), time.monotonic() - start)


def _step(
    lm: CausalLM,
    lora: LoRA,
    optimizer: Optimizer,
    beginning: _Beginning,
    asked: Sequence[_Lesson],
    kept: Sequence[_Lesson],
) -> float:
    torch = require("torch", "distilling memories into an adapter")
    loss, gradients = _loss(lm, lora, beginning, asked, kept)
    for weight, gradient in zip(lora.parameters, gradients, strict=True):
        weight.grad = gradient
    torch.nn.utils.clip_grad_norm_(lora.parameters, 1.0)
    optimizer.step()
    return loss


def fresh(lm: CausalLM, targets: Sequence[str], rank: int, alpha: float, generator: Generator, cut: int = 0) -> LoRA:
    """An adapter on layers from ``cut`` on that changes nothing yet: A uniform within 1 / sqrt(in), B zero.

    Both ask for gradients.
    """
    torch = require("torch", "adapters")
    pairs = {}
    for name, module in lm.model.base_model.named_modules():
        layer = _LAYER.match(name)
        if name.rpartition(".")[2] not in targets or not isinstance(module, torch.nn.Linear):
            continue
        if layer is not None and int(layer[1]) < cut:
            continue
        down = torch.rand(rank, module.in_features, generator=generator, dtype=torch.float64) * 2 - 1
        down = (down / math.sqrt(module.in_features)).to(module.weight.dtype)
        up = torch.zeros(module.out_features, rank, dtype=module.weight.dtype)
        pairs[name] = down.requires_grad_(), up.requires_grad_()
    if not pairs:
        raise InvalidInput(f"targets={list(targets)!r} name no linear map of {lm.name}; see its named_modules()")
    return LoRA(pairs, alpha)


def _lessons(
    lm: CausalLM, context: str, probes: Sequence[Probe], cache: Cache | None, cut: int
) -> tuple[_Beginning, list[_Lesson]]:
    """The student's common beginning, and each question with what the teacher says to it."""
    torch = require("torch", "distilling memories into an adapter")
    beginning, student = questions(lm, probes)
    told, teacher = questions(lm, probes, context)
    with lm.lock, torch.inference_mode():
        if cache is None:
            cache = lm.model(torch.tensor([told]), use_cache=True, logits_to_keep=1).past_key_values
        if cache is None or cache.get_seq_length() != len(told):
            raise InvalidInput(f"teacher_cache must hold the {len(told)} tokens of the system turn of context")
    first, states = _entering(lm, beginning, student, cut)
    targets = _targets(lm, told, teacher, cache)
    return _Beginning(beginning, first, cut), [
        _Lesson(text, probe.memory, *target, entering)
        for text, probe, target, entering in zip(student, probes, targets, states, strict=True)
    ]


def _guarded(lm: CausalLM, texts: Sequence[str], count: int, generator: Generator, cut: int) -> list[_Lesson]:
    """``count`` pieces of ``texts`` chosen at random, with what the bare model says in each."""
    torch = require("torch", "distilling memories into an adapter")
    parts = pieces(lm, texts)
    if not parts:
        raise InvalidInput("guard must hold at least one text of two tokens or more")
    chosen = [parts[place] for place in torch.randperm(len(parts), generator=generator)[:count].tolist()]
    _, states = _entering(lm, [], chosen, cut)
    targets = _targets(lm, [], chosen, None)
    return [
        _Lesson(text, place, *target, entering)
        for place, (text, target, entering) in enumerate(zip(chosen, targets, states, strict=True))
    ]


def _entering(
    lm: CausalLM, beginning: Sequence[int], texts: Sequence[Continuation], cut: int
) -> tuple[Tensor, list[Tensor]]:
    """What enters layer ``cut`` of the bare model: of the beginning, and of each text after it."""
    torch = require("torch", "distilling memories into an adapter")
    seen: list[Tensor] = []
    found: list[Tensor] = []

    def see(_module: Any, given: tuple[Any, ...], named: dict[str, Any]) -> None:
        seen.append((given[0] if given else named["hidden_states"])[0].clone())

    for pack in packs(texts):
        with lm.lock, torch.no_grad():
            handle = _body(lm).layers[cut].register_forward_pre_hook(see, with_kwargs=True)
            try:
                with _only(lm, slice(cut + 1)):
                    forward(lm, beginning, pack)
            finally:
                handle.remove()
        found += torch.split(seen[-1][len(beginning) :], [len(text.ids) for text in pack])
    return seen[-1][: len(beginning)], found


def _body(lm: CausalLM) -> Any:
    """The decoder: a module with a list of ``layers``."""
    return lm.model.base_model


@contextmanager
def _only(lm: CausalLM, part: slice) -> Iterator[None]:
    """The model with some of its layers, for the block. The caller holds ``lm.lock``."""
    body = _body(lm)
    whole = body.layers
    body.layers = whole[part]
    try:
        yield
    finally:
        body.layers = whole


def _targets(
    lm: CausalLM, beginning: Sequence[int], texts: Sequence[Continuation], cache: Cache | None
) -> Iterator[tuple[Tensor, Tensor]]:
    torch = require("torch", "distilling memories into an adapter")
    for pack in packs(texts):
        with lm.lock, torch.inference_mode():
            found = forward(lm, beginning, pack, cache).log_softmax(-1)
        sizes = [len(text.scored) for text in pack]
        ids = found.topk(min(_TOP, found.shape[-1] - 1)).indices
        for chosen, rows in zip(torch.split(ids, sizes), torch.split(found, sizes), strict=True):
            # Copies outside inference mode: its tensors cannot take part in a backward pass.
            yield chosen.clone(), coarse(rows, chosen).clone()


def coarse(log_probs: Tensor, ids: Tensor) -> Tensor:
    """Log-probabilities (n, k + 1) of the tokens ``ids`` (n, k) and of all others together."""
    torch = require("torch", "distilling memories into an adapter")
    rest = log_probs.scatter(1, ids, -math.inf).logsumexp(-1, keepdim=True)
    return torch.cat([log_probs.gather(1, ids), rest], dim=1)  # type: ignore[no-any-return]


def _loss(
    lm: CausalLM, lora: LoRA, beginning: _Beginning, asked: Sequence[_Lesson], kept: Sequence[_Lesson]
) -> tuple[float, tuple[Tensor, ...]]:
    """The loss of one step and its gradient for each of ``lora.parameters``."""
    torch = require("torch", "distilling memories into an adapter")
    lessons = [*asked, *kept]
    states = torch.cat([beginning.states, *(lesson.states for lesson in lessons)])
    with lm.lock, torch.enable_grad():
        handles = attach(lm, ((lora, 1.0),))
        try:
            with _only(lm, slice(beginning.cut, None)):
                found = forward(lm, beginning.ids, [lesson.text for lesson in lessons], states=states).log_softmax(-1)
            target = torch.cat([lesson.target for lesson in lessons])
            given = coarse(found, torch.cat([lesson.ids for lesson in lessons]))
            apart = (target.exp() * (target - given)).sum(-1)
            answers = sum(len(lesson.text.scored) for lesson in asked)
            tokens = torch.tensor([token for lesson in asked for token in lesson.text.scored])
            missed = -found[:answers].gather(1, tokens[:, None]).mean()
            loss = apart[:answers].mean() + _ANSWER * missed + _GUARD * apart[answers:].mean()
            return float(loss.detach()), torch.autograd.grad(loss, lora.parameters)
        finally:
            for handle in handles:
                handle.remove()


def _draws(lessons: Sequence[_Lesson], size: int, generator: Generator) -> Iterator[list[_Lesson]]:
    """Endless batches of different memories, each with one of its lessons; both in random rounds without repeats."""
    places: dict[int, list[_Lesson]] = {}
    for lesson in lessons:
        places.setdefault(lesson.memory, []).append(lesson)
    rounds = {memory: _rounds(of, generator) for memory, of in places.items()}
    memories = _rounds(list(places), generator)
    while True:
        batch = list(dict.fromkeys(next(memories) for _ in range(min(size, len(places)))))
        yield [next(rounds[memory]) for memory in batch]


def _rounds(things: Sequence[_Thing], generator: Generator) -> Iterator[_Thing]:
    """Endlessly: each once, in a random order, before any comes again."""
    torch = require("torch", "distilling memories into an adapter")
    while True:
        for place in torch.randperm(len(things), generator=generator).tolist():
            yield things[place]


def _schedule(step: int, steps: int) -> float:
    """Linear warm-up, then half a cosine down to a tenth."""
    if step < _WARMUP:
        return (step + 1) / _WARMUP
    return 0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * (step - _WARMUP) / max(1, steps - _WARMUP)))
