"""Card of CMT: unseen documents stream into a bank of soft memories, and the frozen model answers from it later.

The language is ``lamina.bench.experiments.documents.document_language``: answers cannot be guessed, names share their
halves, a fifth of the documents change an earlier one. A small Llama first learns to read there and is frozen; then the
compressor is trained on fresh documents; then streams of further fresh documents are written and asked at the end.
What is compared runs in the same process on the same streams: the document's text, its own memory, the whole bank,
nothing, the bank compressed to codes, the same compressor trained without self-matching and top-k (equal steps, equal
lessons), the compressor taught on for some steps with cross attention and for as many without, and a copy of the
reader fine-tuned on each document's questions and answers in turn (on the first stream: it takes thousands of steps).
This is toy scale: the numbers say that the method works, not what it scores on StreamingQA.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, get_args

import numpy as np

from lamina._optional import require
from lamina.activation.document_memory import CMT
from lamina.activation.documents.compressor import Aggregate
from lamina.activation.documents.training import Example, Objective
from lamina.bench.card import Card, Claim, Measurement, Scale, at_most
from lamina.bench.experiments.documents.document_language import Document, questions, reader, stream, train_reader
from lamina.bench.experiments.documents.document_streams import (
    Asked,
    Coded,
    FineTuned,
    Right,
    ask_bank,
    ask_codes,
    ask_memories,
    ask_own,
    fine_tune,
    share,
    written,
)
from lamina.llm.causal import CausalLM

if TYPE_CHECKING:
    from torch import Tensor

TOKENS, TOP_K = 4, 4
BATCH, RATE = 64, 2e-3
TAUGHT_UPDATES = 0.5
CODES = 512  # of a compressed bank
_CLOSED = "the same model with nothing before the question"
_ABLATED = "without self-matching: reading loss alone, whole bank aggregated"
NO_MATCHING = Objective(match=0.0, self_read=0.0, most_chosen=None)


@dataclass(frozen=True, slots=True)
class Size:
    """Steps of the reader, of each compressor, and of both aggregators after that; streams and documents in each; the
    reader's width and depth."""

    reader_steps: int
    steps: int
    further_steps: int
    streams: int
    documents: int
    fine_tuning_steps: int
    width: int = 128
    layers: int = 4


SIZES: Mapping[Scale, Size] = {
    "smoke": Size(4, 3, 2, 2, 20, 2, width=32, layers=2),
    "laptop": Size(300, 800, 100, 4, 256, 40),
    "full": Size(600, 3000, 3000, 8, 320, 40),
}


def _share(claim: str, target: float, metric: str = "exact match") -> Claim:
    return Claim(claim, metric, "", target, of="ours")


TEXT = _share("The reader answers from the text of the right document", 0.93)
EM = _share(f"It answers from a bank of memories of {TOKENS} tokens each", 0.5)
OVER_CLOSED = Claim("It answers what cannot be guessed", "exact match", "", 25.0)
OWN = at_most("Finding the memory costs little", "exact match with the document's own memory, less with the bank", 0.04)
WHOLE = at_most("Four memories do as well as all of them", "exact match with the whole bank, less with four", 0.02)
AGE = at_most("Old documents are kept like new ones", "exact match, first fifth of the stream against last", 0.05)
PLASTIC = _share("The fine-tuned rival does learn each document", 0.9, "exact match right after it")
FORGETS = at_most("and has forgotten it at the end of the stream", "exact match of the fine-tuned rival", 0.2)
FROZEN = at_most("The reader is bit for bit what it was", "largest difference of its logits", 0.0)
BYTES = at_most("A memory holds 2 bytes a number, key included", "bytes measured, less those of the formula", 0.0, "B")
ABLATION = Claim("Self-matching is what makes it work", "exact match", "", 2.0)
CROSS = Claim("Cross attention reads what is in one document as well as the sum", "exact match", "", 1.0)
SMALLER = Claim("A bank of codes is smaller, keys and codebook included", "bytes of the bank", "B", 1.5, "less")
CODED = at_most("and answers nearly as well", "exact match with the bank, less with it in codes", 0.05)
CLAIMS = (TEXT, EM, OVER_CLOSED, OWN, WHOLE, AGE, PLASTIC, FORGETS, FROZEN, BYTES, ABLATION, CROSS, SMALLER, CODED)


def run(seed: int, scale: Scale) -> list[Measurement]:
    """Every claim once."""
    torch = require("torch", "the proof of CMT")
    size = SIZES[scale]
    lm = reader(seed, width=size.width, layers=size.layers)
    train_reader(lm, np.random.default_rng((seed, 0)), steps=size.reader_steps)
    probe = torch.tensor([lm.encode(" ".join(document.text for document in _streams(seed, size)[0][:3]))])
    before = _logits(lm, probe)
    cmt = _fitted(lm, seed, size, Objective())
    summed, cross = (_further(cmt, seed, size, aggregate) for aggregate in get_args(Aggregate))
    ablated = _fitted(lm, seed, size, NO_MATCHING)
    streams = _streams(seed, size)
    asked, coded = [], []
    for documents in streams:
        asked.append(ask_memories(cmt, documents))
        coded.append(ask_codes(cmt, asked[-1].questions, CODES))
    looked = [[_arm(arm, documents, TOP_K) for documents in streams] for arm in (summed, cross)]
    without = [_arm(ablated, documents, size.documents) for documents in streams]
    drift = float((_logits(lm, probe) - before).abs().max())
    tuned = fine_tune(lm, streams[0], steps=size.fine_tuning_steps)
    return [
        *_reading(asked),
        *_rivals(asked, without, tuned),
        FROZEN.measured(drift),
        _bytes(cmt, streams[-1]),
        _cross(*looked),
        *_codes(asked, coded),
    ]


def lessons(rng: np.random.Generator, updates: float = TAUGHT_UPDATES) -> Iterator[Example]:
    """Endless examples; every ``BATCH`` of them are a stream of their own, one question on each document in order.

    A share ``updates`` of their documents change an earlier one: more than in the streams that are asked, since a key
    that recognises nothing but the name is wrong for those alone.
    """
    while True:
        documents = stream(rng, BATCH, updates=updates)
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


def _further(start: CMT, seed: int, size: Size, aggregate: Aggregate) -> CMT:
    """``start`` taught on with an aggregator; cross attention starts as the weighted sum."""
    cmt = CMT(start.lm, tokens=TOKENS, top_k=TOP_K, aggregate=aggregate, max_document=128, seed=seed)
    cmt.compressor.load_state_dict(cmt.compressor.state_dict() | start.compressor.state_dict())
    lesson = lessons(np.random.default_rng((seed, 3)))
    cmt.fit(lesson, steps=size.further_steps, batch=BATCH, lr=RATE, seed=seed)
    return cmt


def _arm(cmt: CMT, documents: Sequence[Document], k: int) -> tuple[Right, Right]:
    """What another compressor answers from its best ``k`` memories, and from the right one given."""
    asked = written(cmt, documents)
    return ask_bank(cmt, asked, k), ask_own(cmt, asked)


def _logits(lm: CausalLM, ids: Tensor) -> Tensor:
    torch = require("torch", "the proof of CMT")
    with torch.inference_mode():
        logits: Tensor = lm.model(ids).logits
    return logits


def _reading(asked: Sequence[Asked]) -> list[Measurement]:
    recalled, own, whole = (
        share(a.recalled for a in asked),
        share(a.own for a in asked),
        share(a.whole_bank for a in asked),
    )
    changed = [a.recalled[[q.changed for q in a.questions]] for a in asked]
    outdated = [a.outdated[[q.changed for q in a.questions]] for a in asked]
    first, last = share(a.fifth(0) for a in asked), share(a.fifth(4) for a in asked)
    kept, given = share(a.recalled[a.kept] for a in asked), share(a.own[a.kept] for a in asked)
    found = f"right memory among the best {TOP_K}: {share(a.found for a in asked):.3f}"
    entropy = f"entropy of their weights {np.concatenate([a.entropy for a in asked]).mean():.2f} nats"
    values = f"changed facts: new value {share(changed):.3f}, old value {share(outdated):.3f}"
    older = f"facts that a newer document on the same name leaves alone {kept:.3f}, own memory {given:.3f}"
    return [
        TEXT.measured(share(a.text for a in asked)),
        EM.measured(recalled, None, f"{found}; {entropy}; {values}"),
        OVER_CLOSED.measured(recalled, share(a.closed for a in asked), _CLOSED),
        OWN.measured(own - recalled, None, f"own memory {own:.3f}, bank {recalled:.3f}; {older}"),
        WHOLE.measured(whole - recalled, None, f"whole bank {whole:.3f}, {TOP_K} memories {recalled:.3f}"),
        AGE.measured(abs(first - last), None, f"first fifth {first:.3f}, last fifth {last:.3f}"),
    ]


def _rivals(asked: Sequence[Asked], without: Sequence[tuple[Right, Right]], tuned: FineTuned) -> list[Measurement]:
    recalled, here = share(a.recalled for a in asked), share([asked[0].recalled])
    note = f"CMT on the same stream {here:.3f}; oldest fifth {tuned.first_fifth:.3f}, from text {tuned.reading:.3f}"
    ablated, own = (share(column) for column in zip(*without, strict=True))
    return [
        PLASTIC.measured(tuned.after_each),
        FORGETS.measured(tuned.at_end, None, note),
        ABLATION.measured(recalled, ablated, f"{_ABLATED} (own memory given: {own:.3f})"),
    ]


def _cross(summed: Sequence[tuple[Right, Right]], looked: Sequence[tuple[Right, Right]]) -> Measurement:
    (before, given), (recalled, own) = ([share(c) for c in zip(*arm, strict=True)] for arm in (summed, looked))
    note = f"the weighted sum after as many steps (own memory given: {given:.3f}; with cross attention {own:.3f})"
    return CROSS.measured(recalled, before, note)


def _codes(asked: Sequence[Asked], coded: Sequence[Coded]) -> list[Measurement]:
    plain, recalled = share(a.recalled for a in asked), share(c.recalled for c in coded)
    ours, before = float(np.mean([c.bytes for c in coded])), float(np.mean([c.plain_bytes for c in coded]))
    note = f"the same bank in float16 ({CODES} codes)"
    return [
        SMALLER.measured(ours, before, note),
        CODED.measured(plain - recalled, None, f"bank {plain:.3f}, in codes {recalled:.3f}"),
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
