"""What becomes of a stream of documents: asked at its end, with a memory, with the text, with nothing, or retrained.

Exact match is the share of questions whose answer is the model's greedy next token. ``fine_tune`` is the rival that
learns each document by gradient steps. It is told the questions and their answers, more than a memory is told: from
the text alone it does not learn to answer at all.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lamina._optional import require
from lamina.bench.experiments.documents.document_language import Document, Question, questions
from lamina.llm.causal import CausalLM

if TYPE_CHECKING:
    from torch import Tensor

    from lamina.activation.document_memory import CMT

Right = NDArray[np.bool_]  # by question
_AT_ONCE = 128
FINE_TUNING_STEPS, FINE_TUNING_RATE = 40, 3e-4


@dataclass(frozen=True, slots=True)
class Asked:
    """A stream with all its questions, and which of them were answered right in each way."""

    documents: Sequence[Document]
    questions: Sequence[Question]
    recalled: Right  # the best memories
    whole_bank: Right  # all memories
    own: Right  # the right document's memory
    text: Right  # the right document's text
    closed: Right  # nothing
    found: Right  # whether the right document's memory was among the chosen
    outdated: Right  # answered with the value that was changed
    kept: Right  # whether a newer document about the same name leaves the fact as it was
    entropy: NDArray[np.float64]  # nats, of the weights of the best memories

    def fifth(self, number: int) -> Right:
        """Of ``recalled``: questions on the ``number``-th fifth of the stream."""
        size = len(self.documents)
        place = np.array([question.document * 5 // size for question in self.questions])
        chosen: Right = self.recalled[place == number]
        return chosen


def ask_memories(cmt: CMT, documents: Sequence[Document]) -> Asked:
    """Write ``documents`` into the emptied bank, then ask all questions in every way; the bank stays as it is then."""
    asked, lm = written(cmt, documents), cmt.lm
    ids = [header.id for header in cmt.bank.headers]
    texts = [question.text for question in asked]
    with_text = [f"{documents[question.document].text} {question.text}" for question in asked]
    recalled = cmt.read(texts)
    answers = greedy(lm, recalled.prefix, texts)
    newest = {document.name: place for place, document in enumerate(documents)}
    return Asked(
        documents,
        asked,
        recalled=_right(answers, asked),
        whole_bank=ask_bank(cmt, asked, len(documents)),
        own=ask_own(cmt, asked),
        text=_right(greedy(lm, None, with_text), asked),
        closed=_right(greedy(lm, None, texts), asked),
        found=np.array([ids[q.document] in chosen for q, chosen in zip(asked, recalled.memories, strict=True)]),
        outdated=np.array([answer == q.outdated for q, answer in zip(asked, answers, strict=True)]),
        kept=np.array([newest[documents[question.document].name] > question.document for question in asked]),
        entropy=-(recalled.weights * recalled.weights.clamp(min=1e-30).log()).sum(1).double().numpy(),
    )


def written(cmt: CMT, documents: Sequence[Document]) -> list[Question]:
    """All questions on ``documents``, which are now the bank, written one after the other."""
    for header in cmt.bank.headers:
        cmt.remove(header.id)
    for document in documents:
        cmt.write([document.text])
    return questions(documents)


def ask_bank(cmt: CMT, asked: Sequence[Question], k: int | None = None) -> Right:
    """Which are answered from the best ``k`` memories."""
    texts = [question.text for question in asked]
    return _right(greedy(cmt.lm, cmt.read(texts, k=k).prefix, texts), asked)


def ask_own(cmt: CMT, asked: Sequence[Question]) -> Right:
    """Which are answered when the right document's memory is given, not found."""
    torch = require("torch", "asking a model")
    texts, places = [question.text for question in asked], [question.document for question in asked]
    with cmt.lm.lock, torch.inference_mode():
        encoded = cmt.compressor.ask([cmt.lm.encode(text) for text in texts])
        own = cmt.compressor.own(encoded, cmt.bank.memories(range(len(cmt.bank))), torch.tensor(places))
    return _right(greedy(cmt.lm, own, texts), asked)


@dataclass(frozen=True, slots=True)
class Coded:
    """Which questions a compressed bank answers, and the bytes of the bank before and after."""

    recalled: Right
    plain_bytes: int
    bytes: int


def ask_codes(cmt: CMT, asked: Sequence[Question], codes: int) -> Coded:
    """Compress the bank of ``cmt`` and ask it; afterwards ``cmt`` has the plain one again."""
    plain = cmt.bank
    cmt.bank = plain.compress(codes)
    try:
        return Coded(ask_bank(cmt, asked), plain.nbytes, cmt.bank.nbytes)
    finally:
        cmt.bank = plain


def greedy(lm: CausalLM, prefix: Tensor | None, texts: Sequence[str]) -> list[str]:
    """The most probable next token after ``[prefix; text]`` for each text."""
    torch = require("torch", "asking a model")
    from lamina.activation.documents.reader import next_logits

    found: list[str] = []
    for start in range(0, len(texts), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        rows = [lm.encode(text) for text in texts[part]]
        with lm.lock, torch.inference_mode():
            best = next_logits(lm, None if prefix is None else prefix[part], rows).argmax(-1)
        found += [lm.decode([id]) for id in best.tolist()]
    return found


@dataclass(frozen=True, slots=True)
class FineTuned:
    """Exact match of a model that learned a stream by gradient steps.

    ``after_each``: on each document right after it; ``at_end``, ``first_fifth``: on all questions and those on the
    oldest documents, at the end; ``reading``: with the text before the question, at the end.
    """

    after_each: float
    at_end: float
    first_fifth: float
    reading: float


def fine_tune(
    lm: CausalLM, documents: Sequence[Document], *, steps: int = FINE_TUNING_STEPS, lr: float = FINE_TUNING_RATE
) -> FineTuned:
    """A copy of ``lm`` trained with AdamW on the questions and answers of each document in turn, ``steps`` each."""
    torch = require("torch", "fine-tuning")
    learner = CausalLM(copy.deepcopy(lm.model), lm.tokenizer, lm.name)
    optimizer = torch.optim.AdamW(learner.model.parameters(), lr=lr, fused=True)
    after: list[bool] = []
    for document in documents:
        own = questions([document])
        ids = torch.tensor([learner.encode(f"{question.text} {question.answer}") for question in own])
        for _ in range(steps):
            logits = learner.model(ids, use_cache=False, logits_to_keep=2).logits[:, 0]
            loss = torch.nn.functional.cross_entropy(logits, ids[:, -1])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
        after += _right(greedy(learner, None, [question.text for question in own]), own).tolist()
    asked = questions(documents)
    right = _right(greedy(learner, None, [question.text for question in asked]), asked)
    with_text = [f"{documents[question.document].text} {question.text}" for question in asked]
    old = np.array([question.document * 5 < len(documents) for question in asked])
    return FineTuned(
        float(np.mean(after)),
        float(right.mean()),
        float(right[old].mean()),
        float(_right(greedy(learner, None, with_text), asked).mean()),
    )


def share(answered: Iterable[Right]) -> float:
    """Of right answers over the questions of all streams."""
    return float(np.concatenate(list(answered)).mean())


def _right(answers: Sequence[str], asked: Sequence[Question]) -> Right:
    return np.array([answer == question.answer for answer, question in zip(answers, asked, strict=True)])
