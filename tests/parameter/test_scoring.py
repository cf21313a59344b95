"""Packed scoring gives the numbers of one plain pass for each text."""

from __future__ import annotations

import math

import pytest
import torch
from parameter_models import FACTS

from lamina.errors import InvalidInput
from lamina.llm.base import Message
from lamina.llm.causal import CausalLM
from lamina.parameter.probes import Probe, probes
from lamina.parameter.scoring import Continuation, forward, guard_texts, log_probs, packs, perplexity, questions

pytestmark = pytest.mark.model
CONTEXT = "What you know:\n- Marta Quillfeather lives in Brindlemouth."


def plain(lm: CausalLM, probe: Probe, context: str) -> float:
    """The mean by its definition: one pass, one probe."""
    system: list[Message] = [{"role": "system", "content": context}] if context else []
    prompt = lm.prompt([*system, {"role": "user", "content": probe.question}])
    answer = [*lm.encode(probe.answer), lm.tokenizer.eos_token_id]
    with torch.no_grad():
        rows = lm.model(torch.tensor([prompt + answer])).logits[0].log_softmax(-1)
    return sum(float(rows[len(prompt) + i - 1, token]) for i, token in enumerate(answer)) / len(answer)


@pytest.mark.parametrize("context", ["", CONTEXT])
def test_packed_answers_score_as_alone(lm: CausalLM, context: str) -> None:
    asked = probes(FACTS).train
    found = log_probs(lm, asked, context)
    assert found == pytest.approx([plain(lm, probe, context) for probe in asked], abs=1e-12)
    assert log_probs(lm, asked[:1], context) == pytest.approx(found[:1], abs=1e-12)


def test_a_cache_stands_for_the_beginning_and_is_not_changed(lm: CausalLM) -> None:
    told, parts = questions(lm, probes(FACTS).held_out, CONTEXT)
    with torch.no_grad():
        cache = lm.model(torch.tensor([told]), use_cache=True).past_key_values
        keys = cache.layers[0].keys.clone()
        assert torch.allclose(forward(lm, told, parts, cache), forward(lm, told, parts), rtol=0, atol=1e-12)
    assert cache.get_seq_length() == len(told) and torch.equal(cache.layers[0].keys, keys)


def test_perplexity_is_that_of_pieces_of_64_tokens(lm: CausalLM) -> None:
    texts = [text[:900] for text in guard_texts(2)]
    total, count = 0.0, 0
    for text in texts:
        ids = lm.encode(text)
        for start in range(0, len(ids), 64):
            piece = torch.tensor([ids[start : start + 64]])
            if piece.shape[1] > 1:
                with torch.no_grad():
                    rows = lm.model(piece).logits[0, :-1].log_softmax(-1)
                total -= float(rows.gather(1, piece[0, 1:, None]).sum())
                count += piece.shape[1] - 1
    assert perplexity(lm, texts) == pytest.approx(math.exp(total / count), rel=1e-12)
    with pytest.raises(InvalidInput, match="two tokens"):
        perplexity(lm, ["", "a"])


def test_packs_keep_order_and_size() -> None:
    parts = [Continuation(tuple(range(n)), 1) for n in (3, 4, 9, 2, 2, 3)]
    groups = list(packs(parts, 7))
    assert [part for group in groups for part in group] == parts
    assert [len(group) for group in groups] == [2, 1, 3]


def test_guard_texts_to_judge_by_are_not_those_to_train_on() -> None:
    train, held = guard_texts(16), guard_texts(16, held_out=True)
    assert len(train) == len(held) == 16 and min(map(len, train + held)) > 500
    assert not set(train) & set(held)
