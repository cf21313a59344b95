"""Card of CMT: unseen documents stream into a bank of soft memories, and the frozen model answers from it later.

The language is ``lamina.bench.experiments.document_language``: answers cannot be guessed, names share their halves, a
fifth of the documents change an earlier one. A small Llama first learns to read there and is frozen; then the
compressor is trained on fresh documents; then streams of further fresh documents are written and asked at the end.
What is compared runs in the same process on the same streams: the document's text, its own memory, the whole bank,
nothing, the same compressor trained without self-matching and top-k (equal steps, equal lessons), and a copy of the
reader fine-tuned on each document's questions and answers in turn (on the first stream: it takes thousands of steps).
This is toy scale: the numbers say that the method works, not what it scores on StreamingQA.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lamina._optional import require
from lamina.activation.document_memory import CMT
from lamina.activation.documents.training import Example, Objective
from lamina.bench.card import Card, Claim, Measurement, Scale
from lamina.bench.experiments.document_language import Document, questions, reader, stream, train_reader
from lamina.bench.experiments.document_streams import Asked, FineTuned, ask_memories, fine_tune, pooled
from lamina.llm.causal import CausalLM

if TYPE_CHECKING:
    from torch import Tensor

TOKENS, TOP_K = 4, 4
BATCH, RATE = 64, 2e-3
_CLOSED = "the same model with nothing before the question"
_ABLATED = "without self-matching: reading loss alone, whole bank aggregated"
NO_MATCHING = Objective(match=0.0, self_read=0.0, most_chosen=None)


@dataclass(frozen=True, slots=True)
class Size:
    """Steps of the reader and of each compressor; streams and documents in each; the reader's width and depth."""

    reader_steps: int
    steps: int
    streams: int
    documents: int
    fine_tuning_steps: int
    width: int = 128
    layers: int = 4


SIZES: Mapping[Scale, Size] = {
    "smoke": Size(4, 3, 2, 20, 2, width=32, layers=2),
    "laptop": Size(300, 800, 4, 256, 40),
    "full": Size(600, 3000, 8, 320, 40),
}


def _share(claim: str, target: float, metric: str = "exact match") -> Claim:
    return Claim(claim, metric, "", target, of="ours")


def _at_most(claim: str, metric: str, target: float, unit: str = "") -> Claim:
    return Claim(claim, metric, unit, target, "less", "ours")


TEXT = _share("The reader answers from the text of the right document", 0.93)
EM = _share(f"It answers from a bank of memories of {TOKENS} tokens each", 0.5)
OVER_CLOSED = Claim("It answers what cannot be guessed", "exact match", "", 25.0)
OWN = _at_most(
    "Finding the memory costs little", "exact match with the document's own memory, less with the bank", 0.04
)
WHOLE = _at_most("Four memories do as well as all of them", "exact match with the whole bank, less with four", 0.02)
AGE = _at_most("Old documents are kept like new ones", "exact match, first fifth of the stream against last", 0.05)
PLASTIC = _share("The fine-tuned rival does learn each document", 0.9, "exact match right after it")
FORGETS = _at_most("and has forgotten it at the end of the stream", "exact match of the fine-tuned rival", 0.2)
FROZEN = _at_most("The reader is bit for bit what it was", "largest difference of its logits", 0.0)
BYTES = _at_most("A memory holds 2 bytes a number, key included", "bytes measured, less those of the formula", 0.0, "B")
ABLATION = Claim("Self-matching is what makes it work", "exact match", "", 2.0)
CLAIMS = (TEXT, EM, OVER_CLOSED, OWN, WHOLE, AGE, PLASTIC, FORGETS, FROZEN, BYTES, ABLATION)


def run(seed: int, scale: Scale) -> list[Measurement]:
    """Every claim once."""
    torch = require("torch", "the proof of CMT")
    size = SIZES[scale]
    lm = reader(seed, width=size.width, layers=size.layers)
    train_reader(lm, np.random.default_rng((seed, 0)), steps=size.reader_steps)
    probe = torch.tensor([lm.encode(" ".join(document.text for document in _streams(seed, size)[0][:3]))])
    before = _logits(lm, probe)
    cmt, ablated = _fitted(lm, seed, size, Objective()), _fitted(lm, seed, size, NO_MATCHING)
    streams = _streams(seed, size)
    asked = [ask_memories(_emptied(cmt), documents) for documents in streams]
    without = [ask_memories(_emptied(ablated), documents) for documents in streams]
    drift = float((_logits(lm, probe) - before).abs().max())
    tuned = fine_tune(lm, streams[0], steps=size.fine_tuning_steps)
    return [
        *_reading(asked),
        *_rivals(asked, without, tuned),
        FROZEN.measured(drift),
        _bytes(cmt, streams[-1]),
    ]


def lessons(rng: np.random.Generator) -> Iterator[Example]:
    """Endless examples; every ``BATCH`` of them are a stream of their own, one question on each document in order."""
    while True:
        documents = stream(rng, BATCH)
        asked: dict[int, list[Example]] = {}
        for question in questions(documents):
            example = Example(documents[question.document].text, question.text, question.answer)
            asked.setdefault(question.document, []).append(example)
        yield from (choices[int(rng.integers(len(choices)))] for choices in asked.values())


def _streams(seed: int, size: Size) -> list[list[Document]]:
    rng = np.random.default_rng((seed, 2))
    return [stream(rng, size.documents) for _ in range(size.streams)]


def _fitted(lm: CausalLM, seed: int, size: Size, weights: Objective) -> CMT:
    cmt = CMT(lm, tokens=TOKENS, top_k=TOP_K, max_document=128, seed=seed)
    lesson = lessons(np.random.default_rng((seed, 1)))
    cmt.fit(lesson, steps=size.steps, batch=BATCH, lr=RATE, weights=weights, seed=seed)
    return cmt


def _emptied(cmt: CMT) -> CMT:
    for header in cmt.bank.headers:
        cmt.remove(header.id)
    return cmt


def _logits(lm: CausalLM, ids: Tensor) -> Tensor:
    torch = require("torch", "the proof of CMT")
    with torch.inference_mode():
        logits: Tensor = lm.model(ids).logits
    return logits


def _reading(asked: Sequence[Asked]) -> list[Measurement]:
    recalled, own, whole, closed, text = (
        pooled(asked, of)
        for of in (lambda a: a.recalled, lambda a: a.own, lambda a: a.whole_bank, lambda a: a.closed, lambda a: a.text)
    )
    found = pooled(asked, lambda a: a.found)
    first, last = pooled(asked, lambda a: a.fifth(0)), pooled(asked, lambda a: a.fifth(4))
    changed = pooled(asked, lambda a: a.recalled[[q.changed for q in a.questions]])
    outdated = pooled(asked, lambda a: a.outdated[[q.changed for q in a.questions]])
    note = f"changed facts: new value {changed:.3f}, old value {outdated:.3f}"
    return [
        TEXT.measured(text),
        EM.measured(recalled, None, f"right memory among the best {TOP_K}: {found:.3f}; {note}"),
        OVER_CLOSED.measured(recalled, closed, _CLOSED),
        OWN.measured(own - recalled, None, f"own memory {own:.3f}, bank {recalled:.3f}"),
        WHOLE.measured(whole - recalled, None, f"whole bank {whole:.3f}, {TOP_K} memories {recalled:.3f}"),
        AGE.measured(abs(first - last), None, f"first fifth {first:.3f}, last fifth {last:.3f}"),
    ]


def _rivals(asked: Sequence[Asked], without: Sequence[Asked], tuned: FineTuned) -> list[Measurement]:
    recalled, here = pooled(asked, lambda a: a.recalled), pooled(asked[:1], lambda a: a.recalled)
    note = f"CMT on the same stream {here:.3f}; oldest fifth {tuned.first_fifth:.3f}, from text {tuned.reading:.3f}"
    ablated, own = pooled(without, lambda a: a.whole_bank), pooled(without, lambda a: a.own)
    return [
        PLASTIC.measured(tuned.after_each),
        FORGETS.measured(tuned.at_end, None, note),
        ABLATION.measured(recalled, ablated, f"{_ABLATED} (own memory given: {own:.3f})"),
    ]


def _bytes(cmt: CMT, documents: Sequence[Document]) -> Measurement:
    """Live storages of the bank against the formula; beside it, the size of the model's cache of the same text."""
    bank, config = cmt.bank, cmt.lm.model.config
    formula = len(bank) * 2 * (bank.tokens * bank.width + bank.key_dim)
    words = sum(len(cmt.lm.encode(document.text)) for document in documents)
    cache = words * 2 * config.num_hidden_layers * config.hidden_size * 2
    note = (
        f"{bank.nbytes / len(bank):.0f} B a document; its cache in float16 is {cache / bank.nbytes:.0f} times as large"
    )
    return BYTES.measured(abs(bank.nbytes - formula), None, note)


CARD = Card(
    name="cmt",
    paper="CMT: A Memory Compression Method for Continual Knowledge Learning of Large Language Models",
    arxiv="2412.07393",
    module="lamina.activation.document_memory",
    summary="Documents compressed to a few soft tokens each, found by key, read by a model that never changes",
    claims=CLAIMS,
    run=run,
)
