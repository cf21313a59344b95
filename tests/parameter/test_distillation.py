"""The loss is the one of the definition, its gradient is right and reaches the adapter alone; runs repeat."""

from __future__ import annotations

import pytest
import torch
from parameter_models import FACTS, logits, random_lora

from lamina.errors import InvalidInput
from lamina.llm.base import Message
from lamina.llm.causal import CausalLM
from lamina.parameter import distillation
from lamina.parameter.adapters import Adapters, attach
from lamina.parameter.distillation import coarse, distill
from lamina.parameter.probes import Probe, probes
from lamina.parameter.recall import as_context
from lamina.parameter.scoring import Continuation, guard_texts

pytestmark = pytest.mark.model
ASKED = probes(FACTS).train[:3]
CONTEXT = as_context(FACTS)
GUARD = [guard_texts(1)[0][:200]]


def replies(lm: CausalLM, probe: Probe, context: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probabilities at the tokens of one answer, and these tokens, by one plain pass."""
    system: list[Message] = [{"role": "system", "content": context}] if context else []
    prompt = lm.prompt([*system, {"role": "user", "content": probe.question}])
    answer = [*lm.encode(probe.answer), lm.tokenizer.eos_token_id]
    rows = lm.model(torch.tensor([prompt + answer])).logits[0].log_softmax(-1)
    return rows[len(prompt) - 1 : -1], torch.tensor(answer)


def lumped(teacher: torch.Tensor, student: torch.Tensor) -> torch.Tensor:
    """KL of each row between the teacher's 64 most probable tokens and all others as one, summed one by one."""
    sums = []
    for p, q in zip(teacher.exp(), student.exp(), strict=True):
        top = p.topk(64).indices
        rest = torch.ones_like(p, dtype=torch.bool).index_fill(0, top, False)
        pairs = [(p[top], q[top]), (p[rest].sum()[None], q[rest].sum()[None])]
        sums.append(sum((a * (a.log() - b.log())).sum() for a, b in pairs))
    return torch.stack([torch.as_tensor(each) for each in sums])


@pytest.mark.parametrize("cut", [0, 1])
def test_the_loss_and_its_gradient_are_those_of_the_definition(lm: CausalLM, cut: int) -> None:
    """The reference runs the whole model: what is computed once of the layers below the cut changes no number."""
    lora = random_lora(lm, 5, cut=cut)
    generator = torch.Generator().manual_seed(0)
    beginning, asked = distillation._lessons(lm, CONTEXT, ASKED, None, cut)
    kept = distillation._guarded(lm, GUARD, 1, generator, cut)
    loss, gradients = distillation._loss(lm, lora, beginning, asked, kept)

    piece = torch.tensor([kept[0].text.ids])
    with torch.no_grad():
        told = [replies(lm, probe, CONTEXT)[0] for probe in ASKED]
        bare = lm.model(piece).logits[0, :-1].log_softmax(-1)
    handles = attach(lm, ((lora, 1.0),))
    try:
        given = [replies(lm, probe, "") for probe in ASKED]
        apart = torch.cat([lumped(teacher, rows) for teacher, (rows, _) in zip(told, given, strict=True)]).mean()
        missed = -torch.cat([rows.gather(1, tokens[:, None])[:, 0] for rows, tokens in given]).mean()
        moved = lumped(bare, lm.model(piece).logits[0, :-1].log_softmax(-1)).mean()
        expected = apart + 1.0 * missed + 4.0 * moved
        wanted = torch.autograd.grad(expected, lora.parameters)
    finally:
        for handle in handles:
            handle.remove()
    assert loss == pytest.approx(expected.item(), rel=1e-10)
    for gradient, other in zip(gradients, wanted, strict=True):
        assert torch.allclose(gradient, other, rtol=1e-7, atol=1e-11)
    assert all(weight.grad is None for weight in lm.model.parameters())


def test_the_gradient_is_that_of_finite_differences(lm: CausalLM) -> None:
    cut = 1
    lora = random_lora(lm, 6, cut=cut)
    beginning, asked = distillation._lessons(lm, CONTEXT, ASKED, None, cut)
    kept = distillation._guarded(lm, GUARD, 1, torch.Generator().manual_seed(0), cut)
    _, gradients = distillation._loss(lm, lora, beginning, asked, kept)
    for number in (0, 5):
        weight, gradient = lora.parameters[number], gradients[number]
        place = int(gradient.abs().argmax())
        values = []
        for shift in (1e-6, -2e-6):
            with torch.no_grad():
                weight.view(-1)[place] += shift
            values.append(distillation._loss(lm, lora, beginning, asked, kept)[0])
        with torch.no_grad():
            weight.view(-1)[place] += 1e-6
        assert (values[0] - values[1]) / 2e-6 == pytest.approx(float(gradient.view(-1)[place]), rel=1e-5)


def test_a_step_asks_for_different_memories_and_for_each_wording_in_turn(lm: CausalLM) -> None:
    lessons = [
        distillation._Lesson(Continuation((memory, wording), 1), memory, *[torch.zeros(1, 1)] * 3)
        for memory in range(5)
        for wording in range(3)
    ]
    whole = distillation._draws(lessons, 8, torch.Generator().manual_seed(0))
    batches = [next(whole) for _ in range(6)]
    assert all(sorted(lesson.memory for lesson in batch) == [0, 1, 2, 3, 4] for batch in batches)
    for three in (batches[:3], batches[3:]):
        assert len({lesson.text.ids for batch in three for lesson in batch}) == len(lessons)
    few = distillation._draws(lessons, 2, torch.Generator().manual_seed(0))
    drawn = [next(few) for _ in range(45)]
    assert all(len({lesson.memory for lesson in batch}) == len(batch) for batch in drawn)
    assert {lesson.text.ids for batch in drawn for lesson in batch} == {lesson.text.ids for lesson in lessons}


def test_coarse_is_a_distribution() -> None:
    rows = torch.randn(4, 30, dtype=torch.float64).log_softmax(-1)
    found = coarse(rows, rows.topk(5).indices)
    assert found.shape == (4, 6) and torch.allclose(found.exp().sum(-1), torch.ones(4, dtype=torch.float64))


def test_training_lowers_the_loss_repeats_and_touches_nothing_else(lm: CausalLM) -> None:
    before, originals = logits(lm), {key: tensor.clone() for key, tensor in lm.model.state_dict().items()}
    seen: list[tuple[int, int, float]] = []

    def learn(**changes: object) -> distillation.Distilled:
        settings: dict[str, object] = {"rank": 2, "steps": 5, "learning_rate": 0.1, "guard": GUARD} | changes
        return distill(lm, CONTEXT, ASKED, progress=lambda *told: seen.append(told), **settings)  # type: ignore[arg-type]

    made = learn()
    assert made.losses[-1] < 0.99 * made.losses[0]
    assert [(step, steps) for step, steps, _ in seen] == [(step + 1, 5) for step in range(5)]
    assert tuple(loss for _, _, loss in seen) == made.losses
    assert torch.equal(logits(lm), before) and lm.overlay == ""
    assert all(torch.equal(tensor, originals[key]) for key, tensor in lm.model.state_dict().items())
    assert all(weight.grad is None and weight.requires_grad for weight in lm.model.parameters())
    assert not any(module._forward_hooks for module in lm.model.modules())

    system: list[Message] = [{"role": "system", "content": CONTEXT}]
    with torch.no_grad():
        cache = lm.model(torch.tensor([lm.prompt(system, reply=False)]), use_cache=True).past_key_values
    assert learn(teacher_cache=cache).payload == made.payload
    assert learn(seed=1, steps=1).payload != made.payload
    assert len(learn(budget_s=0.0).losses) == 1
    assert Adapters(lm).add(made.payload) == made.payload.sha256
    taught = {name.rpartition(".lora")[0] for name in made.payload.tensors if name != "alpha"}
    maps = {name for name, module in lm.model.base_model.named_modules() if isinstance(module, torch.nn.Linear)}
    assert taught == {name for name in maps if name.startswith("layers.1.")} and len(taught) == 7
    lower = {name.rpartition(".lora")[0][:8] for name in learn(cut=0, steps=1).payload.tensors if name != "alpha"}
    assert lower == {"layers.0", "layers.1"}


def test_a_step_that_fails_leaves_the_model_as_it_was(lm: CausalLM) -> None:
    before = logits(lm)

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        distill(lm, CONTEXT, ASKED, steps=2, guard=GUARD, progress=stop)
    assert torch.equal(logits(lm), before) and not any(module._forward_hooks for module in lm.model.modules())


def test_arguments_that_cannot_be_taught_are_refused(lm: CausalLM) -> None:
    with torch.no_grad():
        short = lm.model(torch.tensor([[1, 2, 3]]), use_cache=True).past_key_values
    wrong: list[tuple[dict[str, object], str]] = [
        ({"steps": 0}, "steps=0"),
        ({"cut": 2}, "cut=2 leaves no layer"),
        ({"targets": ("k_projection",)}, "name no linear map"),
        ({"guard": [""]}, "guard must hold"),
        ({"teacher_cache": short}, "must hold the"),
    ]
    for changes, message in wrong:
        with pytest.raises(InvalidInput, match=message):
            distill(lm, CONTEXT, ASKED, **({"steps": 1, "guard": GUARD} | changes))  # type: ignore[arg-type]
    adapters = Adapters(lm)
    name = adapters.add(random_lora(lm, 1).to_payload(adapters.base))
    with adapters.using([name]), pytest.raises(InvalidInput, match="bare model"):
        distill(lm, CONTEXT, ASKED, guard=GUARD)
