"""Reading: log-probabilities of answers as one at a time, gradients to the prefix only, a cache that reads the same."""

from __future__ import annotations

import pytest
import torch

from lamina.activation.documents.reader import answer_logprobs, next_logits, prefix_cache
from lamina.bench.experiments.documents.document_language import reader
from lamina.llm.causal import CausalLM
from lamina.train.loop import frozen

QUESTIONS = [[1, 2, 3], [4], [5, 6]]
ANSWERS = [[7], [8, 9, 10], [11, 12]]


@pytest.fixture(scope="module")
def lm() -> CausalLM:
    return reader(0, width=32, layers=2)


def _one(lm: CausalLM, prefix: torch.Tensor | None, question: list[int], answer: list[int]) -> list[float]:
    """``log p`` of each token of ``answer``, one forward a token."""
    found = []
    for t, token in enumerate(answer):
        row = lm.model.get_input_embeddings()(torch.tensor(question + answer[:t]))
        row = row if prefix is None else torch.cat([prefix, row])
        logits = lm.model(inputs_embeds=row[None]).logits[0, -1].double()
        found.append(float(logits.log_softmax(-1)[token]))
    return found


@pytest.mark.parametrize("length", [0, 3])
def test_answers_are_scored_as_token_by_token(lm: CausalLM, length: int) -> None:
    prefix = torch.randn(3, length, 32, generator=torch.Generator().manual_seed(0)) if length else None
    with torch.no_grad():
        found, real = answer_logprobs(lm, prefix, QUESTIONS, ANSWERS)
        for n, (question, answer) in enumerate(zip(QUESTIONS, ANSWERS, strict=True)):
            wanted = _one(lm, None if prefix is None else prefix[n], question, answer)
            assert found[n, : len(answer)].tolist() == pytest.approx(wanted, abs=1e-4)
            assert found[n, len(answer) :].tolist() == [0] * (3 - len(answer))
    assert real.sum(1).tolist() == [1, 3, 2]


def test_the_next_token_is_that_of_the_model(lm: CausalLM) -> None:
    with torch.no_grad():
        found = next_logits(lm, None, QUESTIONS)
        for row, question in zip(found, QUESTIONS, strict=True):
            torch.testing.assert_close(row, lm.model(torch.tensor([question])).logits[0, -1], rtol=1e-4, atol=1e-5)


def test_the_gradient_of_the_prefix_is_that_of_finite_differences(lm: CausalLM) -> None:
    prefix = torch.randn(3, 2, 32, generator=torch.Generator().manual_seed(0)).requires_grad_()
    with frozen(lm.model):
        answer_logprobs(lm, prefix, QUESTIONS, ANSWERS)[0].sum().backward()  # type: ignore[no-untyped-call]
        assert prefix.grad is not None
        step = torch.zeros_like(prefix)
        step[1, 0] = 1e-2 * torch.randn(32, generator=torch.Generator().manual_seed(1))
        with torch.no_grad():
            up, down = (answer_logprobs(lm, prefix + s * step, QUESTIONS, ANSWERS)[0].sum() for s in (1, -1))
    assert float((prefix.grad * step).sum()) == pytest.approx(float((up - down) / 2), rel=0.02, abs=1e-6)
    assert all(parameter.grad is None for parameter in lm.model.parameters())


def test_frozen_gives_back_what_was_trainable_and_only_that(lm: CausalLM) -> None:
    first, *rest = lm.model.parameters()
    first.requires_grad_(False)
    with pytest.raises(ZeroDivisionError), frozen(lm.model):
        assert not any(parameter.requires_grad for parameter in lm.model.parameters())
        raise ZeroDivisionError
    assert not first.requires_grad
    assert all(parameter.requires_grad for parameter in rest)
    first.requires_grad_(True)


def test_a_cache_of_the_prefix_reads_on_as_the_embeddings_do(lm: CausalLM) -> None:
    prefix = torch.randn(4, 32, generator=torch.Generator().manual_seed(0))
    ids = list(lm.steps(QUESTIONS[0], 1, cache=prefix_cache(lm, prefix)))
    with torch.no_grad():
        logits = next_logits(lm, prefix[None], QUESTIONS[:1])[0]
    assert ids == [int(logits.argmax())]
