"""The loss is the teacher's words alone; what is cached below the cut changes no loss and no gradient."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from lamina.errors import InvalidInput
from lamina.llm.causal import CausalLM
from lamina.parameter.experts.lora import Shape, fresh, learning, lowest_layer, targets
from lamina.parameter.experts.operations import Exchange
from lamina.parameter.experts.prompts import messages
from lamina.parameter.experts.traces import Trace
from lamina.parameter.experts.training import Lesson, LowerStates, Recipe, fit, lesson, loss

TRACES = [
    Trace(Exchange((("Ada", f"I live in {city}."),)), f'{{"facts": ["Ada lives in {city}."]}}', "t")
    for city in ("Oslo", "Rome", "a very small village near Ghent", "Leeds", "Turin")
]


def _noisy(lm: CausalLM, layers: tuple[int, ...], seed: int = 0):  # type: ignore[no-untyped-def]
    lora = fresh(lm, Shape(3, 6, layers), seed=seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in lora.parameters:
            weight.copy_(0.2 * torch.randn(weight.shape, generator=generator, dtype=weight.dtype))
    return lora


def _naive(lm: CausalLM, rows: list[Lesson]) -> torch.Tensor:
    """Row by row, without padding: minus the mean log-likelihood of all target tokens."""
    terms = []
    for row in rows:
        scores = lm.model(torch.tensor([row.ids])).logits[0].log_softmax(-1)
        terms += [-scores[place - 1, row.ids[place]] for place in range(row.start, len(row.ids))]
    return torch.stack(terms).mean()


def test_a_lesson_is_the_prompt_of_serving_then_the_target_and_the_end(tiny_lm: Callable[..., CausalLM]) -> None:
    lm = tiny_lm()
    made = lesson(lm, TRACES[0])
    assert list(made.ids[: made.start]) == lm.prompt(messages(TRACES[0].request))
    assert lm.decode(made.ids[made.start :]) == TRACES[0].output
    assert made.ids[-1] in lm.stops


def test_loss_and_gradient_equal_a_naive_reference_with_and_without_the_cache(tiny_lm: Callable[..., CausalLM]) -> None:
    lm = tiny_lm()
    rows = [lesson(lm, trace) for trace in TRACES]
    lora = _noisy(lm, (2, 3))
    states = LowerStates(lm, 2, batch=2)
    states.of(rows)
    results = []
    for compute in (lambda: _naive(lm, rows), lambda: loss(lm, rows), lambda: loss(lm, rows, states)):
        with learning(lm, lora):
            value = compute()
            results.append([value.detach(), *torch.autograd.grad(value, lora.parameters)])
    for other in results[1:]:
        for ours, naive in zip(other, results[0], strict=True):
            torch.testing.assert_close(ours, naive, rtol=1e-9, atol=1e-11)
    assert any(float(g.abs().max()) > 0 for g in results[0][1:])


def test_training_with_and_without_the_cache_gives_the_same_adapter(tiny_lm: Callable[..., CausalLM]) -> None:
    lm = tiny_lm()
    rows = [lesson(lm, trace) for trace in TRACES]
    made = []
    for cut in (None, 2):
        lora = fresh(lm, Shape(2, 4, (2, 3)), seed=5)
        progress = fit(lm, lora, rows, Recipe(lr=1e-2, batch=2, epochs=4, dropout=0.0, cache_below=cut, seed=5))
        made.append((progress.losses, [weight.detach() for weight in lora.parameters]))
    assert len(made[0][0]) == 4 * 3
    assert min(made[0][0]) < made[0][0][0] - 0.1
    torch.testing.assert_close(torch.tensor(made[1][0]), torch.tensor(made[0][0]), rtol=1e-7, atol=0)
    for ours, whole in zip(made[1][1], made[0][1], strict=True):
        torch.testing.assert_close(ours, whole, rtol=1e-6, atol=1e-9)


def test_the_base_is_untouched_and_free_again_afterwards(tiny_lm: Callable[..., CausalLM]) -> None:
    lm = tiny_lm()
    before = {name: weight.clone() for name, weight in lm.model.state_dict().items()}
    lora = fresh(lm, Shape(2, 4), seed=1)
    fit(lm, lora, [lesson(lm, TRACES[0])], Recipe(lr=1e-2, batch=2, epochs=1))
    assert all(torch.equal(before[name], weight) for name, weight in lm.model.state_dict().items())
    assert all(weight.requires_grad and weight.grad is None for weight in lm.model.parameters())
    assert lm.overlay == "" and not lm.model.training
    assert not any(module._forward_hooks for module in lm.model.modules())


def test_a_fresh_adapter_changes_nothing_and_sits_on_all_linear_maps_of_its_layers(
    tiny_lm: Callable[..., CausalLM],
) -> None:
    lm = tiny_lm()
    rows = [lesson(lm, trace) for trace in TRACES[:2]]
    lora = fresh(lm, Shape(2, 4, (1, 3)))
    assert {name.split(".")[1] for name in lora.pairs} == {"1", "3"} and len(lora.pairs) == 14
    assert lowest_layer(lora) == 1 and len(targets(lm, None)) == 28
    bare = loss(lm, rows)
    with learning(lm, lora):
        assert torch.equal(loss(lm, rows), bare)


def test_the_best_epoch_is_kept_and_a_budget_ends_training(tiny_lm: Callable[..., CausalLM]) -> None:
    lm = tiny_lm()
    rows = [lesson(lm, trace) for trace in TRACES]
    lora, seen = fresh(lm, Shape(2, 4)), []

    def metric() -> float:
        seen.append([weight.detach().clone() for weight in lora.parameters])
        return (0.1, 0.9, 0.5)[len(seen) - 1]

    progress = fit(lm, lora, rows, Recipe(lr=1e-2, batch=2, epochs=3), metric=metric)
    assert progress.metrics == [0.1, 0.9, 0.5] and progress.kept == 2
    assert all(torch.equal(a, b) for a, b in zip(lora.parameters, seen[1], strict=True))
    assert fit(lm, lora, rows, Recipe(epochs=3), budget_s=0.0).losses == []


def test_what_would_make_the_cache_wrong_is_refused(tiny_lm: Callable[..., CausalLM]) -> None:
    lm = tiny_lm()
    rows = [lesson(lm, TRACES[0])]
    with pytest.raises(InvalidInput, match="changes layer 1"):
        fit(lm, fresh(lm, Shape(2, 4, (1, 2))), rows, Recipe(cache_below=2))
    with pytest.raises(InvalidInput, match="give 1 to 3"):
        LowerStates(lm, 4)
    with pytest.raises(InvalidInput, match="layers 0 to 3"):
        fresh(lm, Shape(2, 4, (4,)))
    with pytest.raises(InvalidInput, match="raise the limit"):
        fit(lm, fresh(lm, Shape(2, 4)), rows, Recipe(limit=5))
    lm.model.train()
    with pytest.raises(InvalidInput, match="training mode"):
        fit(lm, fresh(lm, Shape(2, 4, (2,))), rows, Recipe(cache_below=2))


def test_a_model_that_cannot_be_cut_is_found_out(tiny_lm: Callable[..., CausalLM]) -> None:
    lm = tiny_lm()
    embed = lm.model.base_model.embed_tokens
    original = type(lm.model.base_model).forward

    def scaled(self, *args, inputs_embeds=None, **more):  # type: ignore[no-untyped-def]
        """As models do that scale whatever is embedded, also what is handed over."""
        return original(self, *args, inputs_embeds=None if inputs_embeds is None else 3 * inputs_embeds, **more)

    lm.model.base_model.forward = scaled.__get__(lm.model.base_model)
    assert embed is not None
    with pytest.raises(InvalidInput, match="cannot be cut"):
        LowerStates(lm, 2).of([lesson(lm, TRACES[0])])


def test_steps_are_counted_across_epochs_and_told(tiny_lm: Callable[..., CausalLM]) -> None:
    lm = tiny_lm()
    rows = [lesson(lm, trace) for trace in TRACES]  # three batches an epoch
    for steps in (1, 3, 5):
        told: list[tuple[int, int, float]] = []
        lora = fresh(lm, Shape(2, 4, (2, 3)))
        recipe = Recipe(lr=1e-2, batch=2, epochs=1, steps=steps, dropout=0.0)
        progress = fit(lm, lora, rows, recipe, tell=lambda *step: told.append(step))  # noqa: B023 - called at once
        assert [(done, total) for done, total, _ in told] == [(step, steps) for step in range(1, steps + 1)]
        assert progress.losses == [loss for *_, loss in told]
        assert progress.kept == (steps + 2) // 3
    with pytest.raises(InvalidInput, match="steps must be positive"):
        Recipe(steps=0)
