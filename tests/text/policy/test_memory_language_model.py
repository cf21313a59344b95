"""Mem-alpha over a causal model, on tiny random weights in float64: masks, advantages and gradients by hand."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from lamina._optional import available
from lamina.errors import MissingDependency
from lamina.text.policy import language_model
from lamina.text.policy.grpo import Recipe, advantages
from lamina.text.policy.language_model import MemAlphaLM, Response, batch, clipped_loss, token_log_probabilities
from lamina.text.policy.prompting import UNREADABLE, parse, prompt_ids
from lamina.text.policy.tools import ToolCall, TypedMemory


class Bytes:
    """A tokenizer of bytes; 0 ends a reply."""

    eos_token_id = 0

    def encode(self, text: str, *, add_special_tokens: bool = False) -> list[int]:
        return list(text.encode())

    def decode(self, ids: list[int], *, skip_special_tokens: bool = True) -> str:
        return bytes(id for id in ids if 0 < id < 256).decode(errors="replace")


class Told:
    """Two messages; every other memory answers half of the questions."""

    texts: Sequence[str] = ("Lena has a dog.", "On 3 May we met.")

    def __init__(self) -> None:
        self._scores = itertools.cycle([0.5, 0.0])

    def score(self, memory: TypedMemory) -> float:
        return next(self._scores)


def _model() -> Any:
    torch.manual_seed(3)
    config = LlamaConfig(
        vocab_size=256, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=512, eos_token_id=0, bos_token_id=None, pad_token_id=None,
    )  # fmt: skip
    return LlamaForCausalLM(config).double()


def _policy(model: Any, **settings: Any) -> MemAlphaLM:
    return MemAlphaLM(
        model, Bytes(), lora_rank=None, limit=60, max_new_tokens=6, recipe=Recipe(rollouts=3, beta=0.2), **settings
    )


RESPONSES = [Response([5, 6, 7], [8, 9]), Response([1], [2, 3, 4, 5]), Response([4, 4], []), Response([9, 8], [7])]
ADVANTAGE = [1.5, -0.5, 3.0, -2.0]


def test_masks_cover_the_replies_and_nothing_else() -> None:
    ids, attention, mask = batch(RESPONSES)
    assert ids.tolist() == [[5, 6, 7, 8, 9], [1, 2, 3, 4, 5], [4, 4, 0, 0, 0], [9, 8, 7, 0, 0]]
    assert attention.sum(dim=1).tolist() == [5, 5, 2, 3]
    assert [row.nonzero().ravel().tolist() for row in mask] == [[3, 4], [1, 2, 3, 4], [], [2]]


def test_log_probabilities_are_those_of_each_sequence_alone() -> None:
    model = _model().eval()
    ids, attention, _ = batch(RESPONSES)
    found = token_log_probabilities(model, ids, attention)
    for row, response in enumerate(RESPONSES):
        tokens = response.prompt + response.reply
        logits = model(torch.tensor([tokens])).logits[0]
        for place in range(1, len(tokens)):
            expected = logits[place - 1, tokens[place]] - torch.logsumexp(logits[place - 1], dim=0)
            assert found[row, place].item() == pytest.approx(expected.item(), abs=1e-10)


def test_the_clipped_loss_is_the_published_formula() -> None:
    rng = np.random.default_rng(2)
    logp, old = rng.normal(size=(3, 4)), rng.normal(size=(3, 4))
    mask, gain = rng.random((3, 4)) < 0.6, np.asarray([1.0, -2.0, 0.5])
    expected = 0.0
    for row, place in zip(*np.nonzero(mask), strict=True):
        ratio = float(np.exp(logp[row, place] - old[row, place]))
        cut = min(max(ratio, 0.8), 1.2)
        expected -= min(ratio * gain[row], cut * gain[row])
    tensors = (torch.tensor(value) for value in (logp, old, gain, mask))
    assert clipped_loss(*tensors).item() == pytest.approx(expected)


@pytest.mark.parametrize("micro_batch", [1, 3, 8])
def test_the_gradient_is_that_of_the_token_mean(micro_batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """``-sum(A log p) / tokens`` over single sequences without padding, however the batch is cut."""
    monkeypatch.setattr(language_model, "NORM", 1e9)
    model, plain = _model(), _model()
    policy = _policy(model, micro_batch=micro_batch, lr=0.0)
    loss = policy.learn(RESPONSES, ADVANTAGE)
    tokens = sum(len(response.reply) for response in RESPONSES)
    total = torch.zeros((), dtype=torch.float64)
    for response, gain in zip(RESPONSES, ADVANTAGE, strict=True):
        logits = plain(torch.tensor([response.prompt + response.reply])).logits[0].log_softmax(dim=-1)
        for place, token in enumerate(response.reply, start=len(response.prompt)):
            total = total - gain * logits[place - 1, token] / tokens
    total.backward()
    assert loss == pytest.approx(-sum(g * len(r.reply) for g, r in zip(ADVANTAGE, RESPONSES, strict=True)) / tokens)
    for (name, ours), theirs in zip(model.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, atol=1e-12, rtol=1e-9, msg=name)


def test_two_updates_move_the_model_and_repeat_by_seed() -> None:
    runs = []
    for _ in range(2):
        model = _model()
        before = [weight.detach().clone() for weight in model.parameters()]
        policy = _policy(model, lr=1e-2, warmup=1, seed=7)
        learned: list[tuple[int, np.ndarray]] = []
        kept = policy.learn

        def learn(
            responses: Sequence[Response], gains: Sequence[float], kept: Any = kept, seen: Any = learned
        ) -> float:
            seen.append((len(responses), np.asarray(gains)))
            return kept(responses, gains)

        policy.learn = learn  # type: ignore[method-assign]
        parts = [policy.update([Told(), Told()]) for _ in range(2)]
        assert parts[0].r2.shape == (2, 3, 2) and parts[0].r1.shape == (2, 3)
        assert not parts[0].r2.any()  # random weights write no JSON, and that is a failed call
        assert [count for count, _ in learned] == [12, 12]
        for part, (_, gains) in zip(parts, learned, strict=True):
            np.testing.assert_array_equal(gains, advantages(part.total(0.2, 0.1), "history").ravel())
        runs.append([weight.detach().clone() for weight in model.parameters()])
        assert all(torch.isfinite(weight).all() for weight in runs[-1])
        moved = [not torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True)]
        assert all(moved)
    assert all(torch.equal(one, other) for one, other in zip(*runs, strict=True))


def test_a_rewarded_reply_becomes_likelier() -> None:
    model = _model()
    policy = _policy(model, lr=1e-2, warmup=1)
    good, bad = Response([5, 6], [7, 8]), Response([5, 6], [9, 10])
    ids, attention, mask = batch([good, bad])

    def likely() -> list[float]:
        with torch.no_grad():
            return (token_log_probabilities(model, ids, attention) * mask).sum(dim=1).tolist()

    before = likely()
    for _ in range(3):
        policy.learn([good, bad], [1.0, -1.0])
    assert likely()[0] > before[0] and likely()[1] < before[1]


def test_a_response_without_tokens_changes_nothing() -> None:
    model = _model()
    before = [weight.detach().clone() for weight in model.parameters()]
    assert _policy(model, lr=1.0).learn([Response([1], [])], [1.0]) == 0.0
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def test_a_lora_trains_only_itself() -> None:
    if not available("peft"):
        with pytest.raises(MissingDependency, match="peft"):
            MemAlphaLM(_model(), Bytes(), lora_rank=2)
        return
    policy = MemAlphaLM(_model(), Bytes(), lora_rank=2, lr=1e-2, warmup=1)
    before = {name: weight.detach().clone() for name, weight in policy.model.named_parameters()}
    for _ in range(2):
        policy.learn(RESPONSES, ADVANTAGE)
    moved = {name for name, weight in policy.model.named_parameters() if not torch.equal(weight, before[name])}
    assert moved and all("lora" in name for name in moved)


def test_the_prompt_shows_the_core_and_the_last_entries_until_it_fits() -> None:
    memory = TypedMemory()
    memory.update("core", "I like tea.")
    for place in range(7):
        memory.insert("semantic", f"Entry {place}.")
    text = bytes(prompt_ids(Bytes(), memory, "What now?", 5000)).decode()
    assert "I like tea." in text and "What now?" in text
    assert "Entry 1." not in text and all(f"Entry {place}." in text for place in range(2, 7))
    whole = len(text)
    shorter = bytes(prompt_ids(Bytes(), memory, "What now?", whole - 1)).decode()
    assert "Entry 4." not in shorter and "Entry 5." in shorter and "Entry 6." in shorter  # halved: 5, then 2
    assert len(prompt_ids(Bytes(), memory, "What now?", 40)) == 40


@pytest.mark.parametrize(
    ("reply", "calls"),
    [
        ('[{"name": "skip"}]', [ToolCall("skip", {})]),
        (f"Sure: {json.dumps([{'name': 'x', 'arguments': {'a': 1}}])} done", [ToolCall("x", {"a": 1})]),
        ("[]", []),
        ("nothing", [UNREADABLE]),
        ("", [UNREADABLE]),
        ('[{"name": 3}]', [UNREADABLE]),
        ('[{"name": "skip"}', [UNREADABLE]),
        ('{"name": "skip"}', [UNREADABLE]),
        ("[" * 3000, [UNREADABLE]),
    ],
)
def test_replies_are_read_or_are_one_failed_call(reply: str, calls: list[ToolCall]) -> None:
    assert parse(reply) == calls
    memory = TypedMemory()
    assert all(not memory.call(call).ok for call in parse(reply) if call == UNREADABLE)


def test_reward_of_a_reply_that_works(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two calls that work and one that fails; one of the two texts has the form of its store."""
    calls = [
        {"name": "memory_insert", "arguments": {"memory_type": "semantic", "content": "Lena has a dog."}},
        {"name": "memory_insert", "arguments": {"memory_type": "episodic", "content": "We met."}},
        {"name": "memory_delete", "arguments": {"memory_type": "core"}},
    ]
    policy = _policy(_model())
    replies = iter([json.dumps(calls), "[]"])
    monkeypatch.setattr(policy, "_respond", lambda *_, **__: Response([1], list(next(replies).encode())))
    _, played = policy.play(Told())
    assert played.r1 == 0.5
    assert played.r2 == pytest.approx([2 / 3, 0.0])  # no call at all earns nothing: skipping is a call
    assert played.r4 == pytest.approx([0.5, 1.0])
    assert played.r3 == pytest.approx(1 - 6 / 9)
