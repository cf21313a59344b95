"""Teaching the compressor of CMT from (document, question, answer); the language model itself stays as it is.

One step compresses the documents of a batch, lets the frozen model answer each question from the aggregate of the
best keys and once more from its own document's memory (compression is learned even while retrieval is bad), and
teaches every question and every document to find its memory: ``L = L_memory_aware + L_self + L_match``
(CMT, arXiv 2412.07393). The memory of the right document is put among the chosen, whose number is random, so that
reading is learned for any k.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lamina.activation.documents import objective
from lamina.activation.documents.compressor import Compressed, Compressor
from lamina.activation.documents.reader import answer_logprobs
from lamina.errors import InvalidInput
from lamina.train.loop import frozen

if TYPE_CHECKING:
    from lamina.llm.causal import CausalLM

_TEMPERATURE_RATE = 10.0  # times that of the weights


@dataclass(frozen=True, slots=True)
class Example:
    """A question that ``document`` answers. All three are text and not empty."""

    document: str
    question: str
    answer: str


@dataclass(frozen=True, slots=True)
class Objective:
    """Weights of the loss. ``most_chosen`` memories at most are aggregated in training; ``None``: the whole batch."""

    match: float = 1.0
    self_read: float = 1.0
    gain: float = 0.1
    most_chosen: int | None = 8


@dataclass(frozen=True, slots=True)
class TrainLog:
    """Per step: the whole loss and its parts (memory-aware, own memory, matching), unweighted."""

    losses: tuple[float, ...]
    parts: tuple[tuple[float, float, float], ...]


def endless(examples: Sequence[Example], seed: int = 0) -> Iterator[Example]:
    """``examples`` again and again, reshuffled each time. Raises ``InvalidInput`` if there are none."""
    if not examples:
        raise InvalidInput("examples is empty: give at least one (document, question, answer)")
    generator = random.Random(seed)
    while True:
        yield from generator.sample(examples, len(examples))


def train(
    compressor: Compressor,
    examples: Iterable[Example],
    *,
    steps: int,
    batch: int,
    lr: float,
    weights: Objective,
    grad_fraction: float,
    seed: int,
) -> TrainLog:
    """``steps`` of AdamW on ``batch`` examples each, in their order; later documents of a batch are newer.

    The rate rises to ``lr`` over a tenth of the steps and falls to 0 as a cosine. The gradient runs through a random
    ``grad_fraction`` of a batch's documents. Raises ``InvalidInput`` when the examples run out.
    """
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(_groups(compressor, lr), lr, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, partial(_rate, steps=steps))
    source = iter(examples)
    totals: list[float] = []
    found: list[tuple[float, float, float]] = []
    for step in range(steps):
        lesson = list(islice(source, batch))
        if len(lesson) < batch:
            raise InvalidInput(f"examples ran out in step {step} of {steps}: give more, or training.endless(examples)")
        with compressor.lm.lock, frozen(compressor.lm.model):
            parts = losses(compressor, lesson, weights, grad_fraction, generator)
            loss = parts[0] + weights.self_read * parts[1] + weights.match * parts[2]
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(compressor.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        totals.append(float(loss.detach()))
        found.append((float(parts[0].detach()), float(parts[1].detach()), float(parts[2].detach())))
    return TrainLog(tuple(totals), tuple(found))


def _groups(compressor: Compressor, lr: float) -> list[dict[str, Any]]:
    """One number has to travel far: at the rate of the weights the temperature would still be on its way at the end."""
    rest = [parameter for parameter in compressor.parameters() if parameter is not compressor.log_temperature]
    return [{"params": rest}, {"params": [compressor.log_temperature], "lr": _TEMPERATURE_RATE * lr}]


def _rate(step: int, steps: int) -> float:
    """Share of the peak learning rate: linear warm-up over a tenth, then a cosine to 0."""
    warm = max(1, steps // 10)
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


def losses(
    compressor: Compressor,
    lesson: Sequence[Example],
    weights: Objective,
    grad_fraction: float,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor, Tensor]:
    """Memory-aware, own-memory and matching loss of a batch, scalars. Equal documents are one document.

    A part with weight 0 is not computed.
    """
    lm = compressor.lm
    documents = list(dict.fromkeys(example.document for example in lesson))
    place = {document: n for n, document in enumerate(documents)}
    gold = torch.tensor([place[example.document] for example in lesson], device=lm.model.device)
    ids = [lm.encode(document) for document in documents]
    questions, answers = ([lm.encode(text) for text in texts] for texts in _columns(lesson))
    compressed = _compress(compressor, ids, grad_fraction, generator)
    asked = compressor.ask(questions)
    scores = objective.scores(asked.queries, compressed.keys, compressor.temperature)
    limit = len(documents) if weights.most_chosen is None else min(weights.most_chosen, len(documents))
    k = limit if weights.most_chosen is None else int(torch.randint(1, limit + 1, (), generator=generator))
    prefix = compressor.combine(asked, compressed.memories, *objective.choose(scores, k, gold))
    own = compressor.own(asked, compressed.memories, gold) if weights.self_read else prefix[:0]
    both = len(questions) + len(own)
    logp, real = answer_logprobs(lm, torch.cat([prefix, own]), (questions * 2)[:both], (answers * 2)[:both])
    closed, text = _references(lm, ids, questions, answers, gold)
    n, zero = len(questions), logp.new_zeros(())
    aware = objective.memory_aware(logp[:n], closed, text, real[:n], weight=weights.gain)
    self_read = -logp[n:].sum() / real[n:].sum() if weights.self_read else zero
    return aware, self_read, _matching(compressor, compressed, scores, gold) if weights.match else zero


def _columns(lesson: Sequence[Example]) -> tuple[list[str], list[str]]:
    return [example.question for example in lesson], [example.answer for example in lesson]


def _matching(compressor: Compressor, compressed: Compressed, scores: Tensor, gold: Tensor) -> Tensor:
    """Questions find their document; documents, asked for themselves, find themselves."""
    itself = objective.scores(compressed.queries, compressed.keys, compressor.temperature)
    return objective.match(scores, gold) + torch.nn.functional.cross_entropy(
        itself, torch.arange(len(itself), device=itself.device)
    )


def _compress(
    compressor: Compressor, ids: Sequence[Sequence[int]], grad_fraction: float, generator: torch.Generator
) -> Compressed:
    """All documents compressed, a random share of them with gradient."""
    learned = max(1, round(grad_fraction * len(ids)))
    if learned == len(ids):
        return compressor(ids)  # type: ignore[no-any-return]
    order = torch.randperm(len(ids), generator=generator)
    with torch.no_grad():
        rest = compressor([ids[n] for n in order[learned:].tolist()])
    taught = compressor([ids[n] for n in order[:learned].tolist()])
    back = order.argsort()
    return Compressed(*(torch.cat(pair)[back] for pair in zip(taught, rest, strict=True)))


@torch.no_grad()
def _references(
    lm: CausalLM,
    ids: Sequence[Sequence[int]],
    questions: Sequence[Sequence[int]],
    answers: Sequence[Sequence[int]],
    gold: Tensor,
) -> tuple[Tensor, Tensor]:
    """Log-probabilities of the answers with nothing, and with the document's text, before the question."""
    with_text = [[*ids[n], *question] for n, question in zip(gold.tolist(), questions, strict=True)]
    return (
        answer_logprobs(lm, None, questions, answers)[0],
        answer_logprobs(lm, None, with_text, answers)[0],
    )
