"""Training: the loss falls, only the compressor learns, equal documents count once, gradients go where they should."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from lamina.activation.documents import objective
from lamina.activation.documents.compressor import Compressor
from lamina.activation.documents.reader import answer_logprobs
from lamina.activation.documents.training import Example, Objective, _groups, endless, losses, train
from lamina.bench.experiments.documents.document_language import reader
from lamina.errors import InvalidInput
from lamina.llm.causal import CausalLM

LESSON = [
    Example(f"filler1 first{n} last{n} attribute{n} value{n}", f"ask first{n} last{n} attribute{n}", f"value{n}")
    for n in range(4)
]


@pytest.fixture
def lm() -> CausalLM:
    return reader(0, width=32, layers=2)


def _compressor(lm: CausalLM) -> Compressor:
    return Compressor(lm, tokens=2, rank=4, key_dim=8)


def _losses(compressor: Compressor, lesson: list[Example], weights: Objective, fraction: float = 1.0) -> list[float]:
    found = losses(compressor, lesson, weights, fraction, torch.Generator().manual_seed(0))
    return [float(part.detach()) for part in found]


def test_the_parts_are_those_of_one_question_at_a_time(lm: CausalLM) -> None:
    compressor = _compressor(lm)
    with torch.no_grad():
        found = _losses(compressor, LESSON, Objective(most_chosen=None))
        compressed = compressor([lm.encode(example.document) for example in LESSON])
        logits = torch.cat([compressor.ask([lm.encode(e.question)]).queries for e in LESSON]) @ compressed.keys.T / 0.1
        own, aware = 0.0, 0.0
        for n, example in enumerate(LESSON):
            question, answer = [lm.encode(example.question)], [lm.encode(example.answer)]
            weights = objective.choose(logits[n : n + 1], 4)[1][0]
            prefix = sum(w * memory for w, memory in zip(weights, compressed.memories, strict=True))
            document = lm.encode(example.document)
            read, closed, text = (
                float(answer_logprobs(lm, before, rows, answer)[0][0, 0])
                for before, rows in ((prefix[None], question), (None, question), (None, [document + question[0]]))
            )
            own -= float(answer_logprobs(lm, compressed.memories[n : n + 1], question, answer)[0][0, 0])
            aware -= min(3.0, 1 + max(0.0, text - closed)) * read - 0.1 * max(0.0, 1 - (read - closed))
        itself = (compressed.queries @ compressed.keys.T / 0.1).log_softmax(1).diagonal().mean()
        matching = objective.match(logits, torch.arange(4)) - itself
    assert found == pytest.approx([aware / 4, own / 4, float(matching)], abs=2e-4)


def test_steps_lower_the_loss_and_leave_the_model_bit_for_bit(lm: CausalLM) -> None:
    compressor = _compressor(lm)
    before = {name: tensor.clone() for name, tensor in lm.model.state_dict().items()}
    asked = [parameter.requires_grad for parameter in lm.model.parameters()]
    log = train(compressor, endless(LESSON), steps=40, batch=4, lr=3e-3, weights=Objective(), grad_fraction=1.0, seed=0)
    assert sum(log.losses[-5:]) < 0.7 * sum(log.losses[:5])
    assert [log.losses[0]] == pytest.approx([sum(log.parts[0])])
    assert all(torch.equal(tensor, before[name]) for name, tensor in lm.model.state_dict().items())
    assert [parameter.requires_grad for parameter in lm.model.parameters()] == asked
    assert all(parameter.grad is None for parameter in lm.model.parameters())


def test_every_parameter_of_the_compressor_gets_a_gradient_and_none_of_the_model(lm: CausalLM) -> None:
    compressor = _compressor(lm)
    for parameter in compressor.branch.up:
        parameter.data.normal_(std=0.1, generator=torch.Generator().manual_seed(0))
    train(compressor, LESSON, steps=1, batch=4, lr=1e-9, weights=Objective(), grad_fraction=1.0, seed=0)
    silent = [n for n, p in compressor.named_parameters() if p.grad is None or not bool(p.grad.abs().sum() > 0)]
    assert silent == []
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in compressor.parameters())


def test_the_temperature_learns_ten_times_as_fast_and_all_else_once(lm: CausalLM) -> None:
    compressor = _compressor(lm)
    groups = _groups(compressor, 1e-3)
    found = [parameter for group in groups for parameter in group["params"]]
    assert sorted(map(id, found)) == sorted(map(id, compressor.parameters()))
    assert groups[1] == {"params": [compressor.log_temperature], "lr": pytest.approx(1e-2)}
    before = float(compressor.temperature.detach())
    assert before == pytest.approx(0.1)
    train(compressor, endless(LESSON), steps=4, batch=4, lr=1e-3, weights=Objective(), grad_fraction=1.0, seed=0)
    assert abs(float(compressor.log_temperature.detach()) - math.log(before)) > 5e-3  # at the others' rate 2.5e-3
    compressor.log_temperature.data.fill_(-20.0)
    assert float(compressor.temperature.detach()) == pytest.approx(0.01)


def test_a_part_with_weight_0_is_left_out(lm: CausalLM) -> None:
    assert _losses(_compressor(lm), LESSON, Objective(match=0.0, self_read=0.0))[1:] == [0, 0]


def test_the_same_document_twice_is_no_negative_of_itself(lm: CausalLM) -> None:
    compressor = _compressor(lm)
    twice = [LESSON[0], LESSON[0]]
    assert _losses(compressor, twice, Objective())[2] == pytest.approx(0.0, abs=1e-6)


def test_with_a_share_of_the_gradient_the_losses_are_the_same(lm: CausalLM) -> None:
    compressor = _compressor(lm)
    whole, half = (_losses(compressor, LESSON, Objective(most_chosen=None), f) for f in (1.0, 0.5))
    assert half == pytest.approx(whole, abs=1e-4)


def test_endless_shuffles_all_of_them_each_time() -> None:
    found = list(itertools.islice(endless(LESSON, seed=3), 12))
    rounds = [found[start : start + 4] for start in (0, 4, 8)]
    assert all(sorted(r, key=str) == sorted(LESSON, key=str) for r in rounds)
    assert rounds[0] != rounds[1] or rounds[1] != rounds[2]
    with pytest.raises(InvalidInput, match="examples is empty"):
        next(endless([]))


def test_too_few_examples_are_an_error_that_says_so(lm: CausalLM) -> None:
    with pytest.raises(InvalidInput, match="examples ran out in step 1 of 2"):
        train(_compressor(lm), LESSON, steps=2, batch=3, lr=1e-3, weights=Objective(), grad_fraction=1.0, seed=0)
