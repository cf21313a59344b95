"""The gate judges by its figures and by what is said, the leak check by gains; and all of it once for real."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from parameter_models import FACTS, logits, random_lora

from lamina.cube.cube import Claim
from lamina.errors import InvalidInput
from lamina.llm.base import Message
from lamina.llm.causal import CausalLM
from lamina.parameter.adapters import Adapters
from lamina.parameter.distillation import distill
from lamina.parameter.probes import Probe, decoys, probes
from lamina.parameter.recall import Gate, RecallGap, Verdict, as_context, holds, read_out, recall_gap, spoken
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


def reply(lm: CausalLM, question: str, context: str, tokens: int) -> str:
    """What the model says, by one whole pass for each token."""
    system: list[Message] = [{"role": "system", "content": context}] if context else []
    ids = lm.prompt([*system, {"role": "user", "content": question}])
    start = len(ids)
    while len(ids) < start + tokens:
        with torch.no_grad():
            ids = [*ids, int(lm.model(torch.tensor([ids])).logits[0, -1].argmax())]
        if ids[-1] in lm.stops:
            break
    return lm.decode(ids[start:])


def test_spoken_is_the_share_of_replies_with_the_value(lm: CausalLM) -> None:
    torch.manual_seed(1)
    lm.model.lm_head.weight = torch.nn.Parameter(torch.randn(49152, 64, dtype=torch.float64))  # says random words
    adapters, asked = Adapters(lm), probes(FACTS).held_out
    name = adapters.add(random_lora(lm, 2).to_payload(adapters.base))
    aloud = [probe for memory in (0, 1) for probe in [one for one in asked if one.memory == memory][:2]]

    def heard(probe: Probe, context: str) -> str:
        return max(reply(lm, probe.question, context, 24).split(), key=len)

    with adapters.merged([name]):
        worn = replace(aloud[0], value=heard(aloud[0], "").upper())
    told = replace(aloud[1], value=heard(aloud[1], CONTEXT))
    judged = [worn, told, *(replace(probe, value="qqq") for probe in aloud[2:])]
    judged += [replace(worn, question="A third is not asked for?")]
    verdict = Gate().judge(adapters, [name], CONTEXT, judged, GUARD)
    with adapters.merged([name]):
        said = [reply(lm, probe.question, "", 24).lower().split() for probe in judged[:4]]
    could = [reply(lm, probe.question, CONTEXT, 24).lower().split() for probe in judged[:4]]
    expected = [
        sum(probe.value.lower() in words for words, probe in zip(replies, judged[:4], strict=True)) / 4
        for replies in (said, could)
    ]
    assert [verdict.spoken, verdict.in_context_spoken] == expected and min(expected) >= 0.25
    with pytest.raises(InvalidInput, match="at least one probe"):
        spoken(lm, [])


@pytest.mark.parametrize(
    ("said", "value", "found"),
    [
        ("You live in LISBON.", "Lisbon", True),
        ("He lives in New York City", "new york", True),
        ("They are hazelnuts", "hazel", False),
        ("In 19745", "1974", False),
        ("(C++), of course", "c++", True),
        ("", "x", False),
    ],
)
def test_a_value_counts_as_whole_words_in_either_case(said: str, value: str, found: bool) -> None:
    assert holds(said, value) is found


@pytest.mark.parametrize(
    ("figures", "faults"),
    [
        ((0.91, 1.0, 0.009, 0.8, 1.0), []),
        ((0.90, 1.0, 0.010, 0.75, 1.0), []),
        ((1.30, 1.0, -0.02, 1.0, 0.0), []),
        ((0.89, 1.0, 0.0, 1.0, 1.0), ["fidelity 0.890 < 0.9"]),
        ((0.95, 1.0, 0.011, 1.0, 1.0), ["perplexity rises by 1.10%"]),
        ((0.10, 1.0, 0.2, 1.0, 1.0), ["fidelity 0.100", "perplexity rises by 20.00%"]),
        ((1.00, -0.1, 0.0, 1.0, 1.0), ["context itself gives no gain"]),
        ((0.957, 1.0, 0.005, 0.0, 1.0), ["hold 0% of the values, of at least 75% (100% with the memories in context)"]),
        ((0.95, 1.0, 0.0, 0.70, 1.0), ["hold 70% of the values, of at least 75%"]),
        ((0.95, 1.0, 0.0, 0.25, 0.2), ["hold 25% of the values, of at least 75% (20%"]),
        ((0.95, 1.0, 0.0, 0.0, 0.0), ["hold 0% of the values"]),
        ((math.nan, 1.0, math.nan, math.nan, 1.0), ["fidelity nan", "perplexity rises by nan", "hold nan%"]),
    ],
)
def test_the_gate_refuses_with_the_figures(
    figures: tuple[float, float, float, float, float], faults: list[str]
) -> None:
    reason = Gate()._reason(Verdict(*figures))
    assert len(reason.split("; ")) == max(1, len(faults)) and all(fault in reason for fault in faults)
    assert bool(reason) == bool(faults) and Verdict(*figures, reason).accepted is not bool(faults)


def test_a_gate_may_ask_for_no_words() -> None:
    silent = Verdict(0.95, 1.0, 0.0, 0.0, 1.0)
    assert Gate()._reason(silent) and not Gate(spoken=0.0)._reason(silent)


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


def test_a_real_model_learns_two_memories_says_them_and_is_itself_again(smollm2: CausalLM) -> None:
    """SmolLM2 and two invented facts of one form, in 12 steps on two wordings; asked in one it was not taught.

    Then the same without the second fact: it is gone from the adapter, and the first is still there.
    """
    texts = ["Marta Quillfeather lives in Brindlemouth.", "Pavel Drost lives in Torvik."]
    claims = [Claim(text.split(" lives")[0], "residence", text.split()[-1].rstrip(".")) for text in texts]
    made = probes(texts, claims)
    before, context = logits(smollm2), as_context(texts)
    adapters = Adapters(smollm2)
    guard = [text[:120] for text in guard_texts(2)]
    taught = [probe for memory in (0, 1) for probe in [one for one in made.train if one.memory == memory][:2]]
    held = [next(probe for probe in made.held_out if probe.memory == memory) for memory in (0, 1)]
    assert spoken(smollm2, held) == 0.0
    both = adapters.add(distill(smollm2, context, taught, steps=12, guard=guard).payload)
    with adapters.using([both]):
        assert spoken(smollm2, held) == 1.0
    less = adapters.add(distill(smollm2, as_context(texts[:1]), taught[:2], steps=6, guard=guard).payload)
    for name, known in ((both, [True, True]), (less, [True, False])):
        gaps = [recall_gap(adapters, [name], [probe], decoys([probe], count=2)) for probe in held]
        assert [gap.leaks for gap in gaps] == known
    assert torch.equal(logits(smollm2), before)
