"""The gate judges by its figures, read-out and leak check by what the model says; and all of it once for real."""

from __future__ import annotations

import math

import pytest
import torch
from parameter_models import FACTS, logits, random_lora

from lamina.cube.cube import Claim
from lamina.errors import InvalidInput
from lamina.llm.causal import CausalLM
from lamina.parameter.adapters import Adapters
from lamina.parameter.distillation import distill
from lamina.parameter.probes import Probe, decoys, probes
from lamina.parameter.recall import Gate, RecallGap, Verdict, as_context, read_out, recall_gap
from lamina.parameter.scoring import guard_texts, log_probs, perplexity

pytestmark = pytest.mark.model
CONTEXT = as_context(FACTS)
GUARD = [text[:300] for text in guard_texts(2, held_out=True)]


def test_the_gate_compares_gains_and_perplexity_by_their_definition(lm: CausalLM, adapters: Adapters) -> None:
    name = adapters.add(random_lora(lm, 2).to_payload(adapters.base))
    asked = probes(FACTS).held_out
    verdict = Gate().judge(adapters, [name], CONTEXT, asked, GUARD)
    closed, told, before = log_probs(lm, asked), log_probs(lm, asked, CONTEXT), perplexity(lm, GUARD)
    with adapters.merged([name]):
        taught, after = log_probs(lm, asked), perplexity(lm, GUARD)
    assert verdict.gain == pytest.approx((sum(taught) - sum(closed)) / len(asked), abs=1e-10)
    assert verdict.in_context == pytest.approx((sum(told) - sum(closed)) / len(asked), abs=1e-10)
    assert verdict.guard == pytest.approx(after / before - 1, abs=1e-10)
    assert lm.overlay == ""


@pytest.mark.parametrize(
    ("figures", "faults"),
    [
        ((0.91, 1.0, 0.009), []),
        ((0.90, 1.0, 0.010), []),
        ((1.30, 1.0, -0.02), []),
        ((0.89, 1.0, 0.0), ["fidelity 0.890 < 0.9"]),
        ((0.95, 1.0, 0.011), ["perplexity rises by 1.10%"]),
        ((0.10, 1.0, 0.2), ["fidelity 0.100", "perplexity rises by 20.00%"]),
        ((1.00, -0.1, 0.0), ["context itself gives no gain"]),
        ((math.nan, 1.0, math.nan), ["fidelity nan", "perplexity rises by nan"]),
    ],
)
def test_the_gate_refuses_with_the_figures(figures: tuple[float, float, float], faults: list[str]) -> None:
    reason = Gate()._reason(Verdict(*figures, ""))
    assert bool(reason) == bool(faults) and all(fault in reason for fault in faults)
    assert Verdict(*figures, reason).accepted is not bool(faults)


def test_a_gate_without_questions_judges_nothing(adapters: Adapters) -> None:
    with pytest.raises(InvalidInput, match="nothing can be judged"):
        Gate().judge(adapters, [], CONTEXT, [], GUARD)


def test_confidence_is_the_mean_probability_of_a_token(lm: CausalLM) -> None:
    lm.model.lm_head.weight.data *= 0  # every token equally likely, the first one is said: it never ends
    assert read_out(lm, ["Who?"], threshold=0.0, max_tokens=4) == []
    bias = torch.nn.Parameter(torch.zeros(49152, dtype=torch.float64))
    bias.data[lm.encode(" yes")[0]] = 5.0
    said = iter([0.0, 0.0, 12.0, 0.0, 0.0, 12.0])

    def head(_module: object, _inputs: object, output: torch.Tensor) -> torch.Tensor:
        raised = output + bias
        if output.shape[1] == 1:  # decoding: end after two tokens
            raised[..., lm.tokenizer.eos_token_id] += next(said)
        return raised

    handle = lm.model.lm_head.register_forward_hook(head)
    try:
        (reading,) = read_out(lm, ["Who?", "When?"], threshold=0.0)
    finally:
        handle.remove()
    total = math.exp(5) + 49151
    assert reading.answer == "yes yes"
    assert reading.confidence == pytest.approx((2 * math.exp(5) / total + 1 / total) / 3, rel=1e-9)


def test_the_gap_is_the_difference_of_mean_gains_by_memory() -> None:
    assert RecallGap(1.0, 0.2, 0.3).gap == pytest.approx(0.8)
    assert RecallGap(1.0, 0.2, 0.3).leaks and not RecallGap(0.7, 0.2, 0.3).leaks


def test_an_adapter_that_was_taught_nothing_of_it_does_not_leak(lm: CausalLM, adapters: Adapters) -> None:
    asked = probes(FACTS).held_out
    name = adapters.add(random_lora(lm, 3).to_payload(adapters.base))
    gap = recall_gap(adapters, [name], asked, decoys(asked))
    assert not gap.leaks and gap.error > 0
    bare = recall_gap(adapters, [], asked, decoys(asked))
    assert (bare.taught, bare.control, bare.error, bare.leaks) == (0.0, 0.0, 0.0, False)
    with pytest.raises(InvalidInput, match="at least two different controls"):
        recall_gap(adapters, [name], asked, [Probe("a", "b", "b")])


def test_a_real_model_learns_a_memory_and_is_itself_again(smollm2: CausalLM) -> None:
    """SmolLM2 and one invented fact, in 8 steps on two wordings; asked in wordings it was not taught."""
    text = "Marta Quillfeather lives in Brindlemouth."
    made = probes([text], [Claim("Marta Quillfeather", "residence", "brindlemouth")])
    before, context = logits(smollm2), as_context([text])
    adapters = Adapters(smollm2)
    guard = [text[:250] for text in guard_texts(3)]
    taught = distill(smollm2, context, made.train[:2], steps=8, learning_rate=5e-3, guard=guard)
    name = adapters.add(taught.payload)
    verdict = Gate().judge(adapters, [name], context, made.held_out[:2], GUARD)
    assert verdict.gain > 1.0 and verdict.fidelity > 0.7
    gap = recall_gap(adapters, [name], made.held_out[:1], decoys(made.held_out[:1], count=2))
    assert gap.leaks and gap.gap > 1.0
    assert torch.equal(logits(smollm2), before)
