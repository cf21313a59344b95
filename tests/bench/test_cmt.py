"""The card: it measures every claim from the same code at toy size; its lessons and its rivals are what it says."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest
import torch

from lamina.activation.document_memory import CMT
from lamina.bench.experiments.documents.document_language import questions, reader, stream
from lamina.bench.experiments.documents.document_streams import ask_codes, ask_memories, fine_tune, greedy, share
from lamina.bench.systems.cmt import BATCH, BYTES, CARD, EM, FROZEN, OVER_CLOSED, lessons


def test_a_toy_run_measures_every_claim() -> None:
    found = {measurement.claim: measurement for measurement in CARD.measure(0, "smoke")}
    assert tuple(found) == CARD.claims
    assert all(measurement.ours is not None for measurement in found.values())
    assert found[FROZEN].holds
    assert found[BYTES].holds
    assert not found[EM].holds  # three steps teach nothing, and the card says so
    assert "right memory among the best 4" in found[EM].baseline_name
    assert found[OVER_CLOSED].baseline is not None


def test_a_batch_of_lessons_is_a_stream_with_one_question_a_document() -> None:
    batch = list(islice(lessons(np.random.default_rng(0)), 2 * BATCH))
    for part in (batch[:BATCH], batch[BATCH:]):
        assert len({example.document for example in part}) == BATCH
        assert all(f"{e.question.removeprefix('ask ')} {e.answer}" in e.document for e in part)
    assert {example.document for example in batch[:BATCH]}.isdisjoint({example.document for example in batch[BATCH:]})


@pytest.fixture(scope="module")
def cmt() -> CMT:
    return CMT(reader(0, width=32, layers=2), tokens=2, rank=2, key_dim=8, top_k=4, max_document=32)


def test_what_the_bench_counts_is_what_generate_answers(cmt: CMT) -> None:
    asked = ask_memories(cmt, stream(np.random.default_rng(0), 30))
    texts = [question.text for question in asked.questions[:8]]
    answers = greedy(cmt.lm, cmt.read(texts).prefix, texts)
    assert answers == [cmt.generate(text, max_tokens=1).text for text in texts]
    right = [answer == question.answer for answer, question in zip(answers, asked.questions[:8], strict=True)]
    assert asked.recalled[:8].tolist() == right
    names = [asked.documents[question.document].text.split()[1:3] for question in asked.questions]
    newer = [
        name in [d.text.split()[1:3] for d in asked.documents[q.document + 1 :]]
        for q, name in zip(asked.questions, names, strict=True)
    ]
    assert asked.kept.tolist() == newer
    sizes = [len(asked.fifth(number)) for number in range(5)]
    assert sum(sizes) == len(asked.questions) == len(asked.recalled)
    assert share([asked.recalled, asked.recalled]) == pytest.approx(asked.recalled.mean())


def test_a_bank_in_codes_is_asked_alike_and_put_back(cmt: CMT) -> None:
    asked = ask_memories(cmt, stream(np.random.default_rng(0), 30))
    plain = cmt.bank
    exact = ask_codes(cmt, asked.questions, 512)  # 60 tokens: each has its own code
    assert exact.recalled.tolist() == asked.recalled.tolist()
    assert (cmt.bank, exact.plain_bytes) == (plain, plain.nbytes)
    assert ask_codes(cmt, asked.questions, 4).bytes == 30 * 2 * (2 + 8) + 2 * 4 * 32


def test_the_fine_tuned_rival_learns_its_document_and_the_reader_is_left_alone(cmt: CMT) -> None:
    documents = stream(np.random.default_rng(1), 1)
    before = {name: tensor.clone() for name, tensor in cmt.lm.model.state_dict().items()}
    tuned = fine_tune(cmt.lm, documents, steps=60, lr=3e-3)
    assert tuned.after_each == tuned.at_end == tuned.first_fifth
    assert tuned.after_each == 1
    assert all(torch.equal(tensor, before[name]) for name, tensor in cmt.lm.model.state_dict().items())
    assert len(questions(documents)) == 3
