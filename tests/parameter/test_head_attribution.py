"""One backward pass: derivatives of the margin with respect to every component's strength, checked by differences."""

from __future__ import annotations

import channel_models
import pytest
import torch

from lamina.errors import InvalidInput
from lamina.llm.causal import CausalLM
from lamina.parameter.head_channels import (
    AttributionTable,
    Batch,
    Channel,
    Component,
    HeadSVD,
    ablate,
    attention_margin,
    attribute,
    intervene,
    logit_margin,
    massive,
)

TEXTS = ("Today, I need to buy a cup", "The ring is red and so is", "A hat")
RIGHT, WRONG = (5, 9, 30), ((7, 8), (2,), (11, 12, 13))


@pytest.fixture(params=channel_models.NAMES)
def lm(request: pytest.FixtureRequest, smollm2: CausalLM) -> CausalLM:
    return channel_models.noise(request.param, smollm2.tokenizer)


@pytest.fixture
def batch(lm: CausalLM) -> Batch:
    return Batch.of([lm.encode(text) for text in TEXTS])


@pytest.mark.parametrize("learns", [True, False])
@pytest.mark.parametrize("what", ["logits", "attention"])
def test_contributions_are_derivatives(lm: CausalLM, batch: Batch, what: str, learns: bool) -> None:
    margin = logit_margin(RIGHT, WRONG) if what == "logits" else attention_margin((2, 1), (-2, -3, -1), ((-1,),) * 3)
    lm.model.requires_grad_(learns)
    svd = HeadSVD(lm)
    found = attribute(svd, batch, margin)
    step = 1e-2  # that attention function computes in float32
    for member in [Component(0, 0, 0), Component(0, 3, 7), Component(1, 2, 1), Component(1, 0, 15)]:
        sides = []
        for factor in (1 + step, 1 - step):
            with intervene(lm, Channel.of(svd, [member]), "scale", factor):
                sides.append(_margin(lm, batch, margin))
        slope = (sides[0] - sides[1]) / (2 * step)
        assert float(found.scores[svd.index(member)]) == pytest.approx(slope, rel=5e-3, abs=1e-5)
    assert found.margin == pytest.approx(_margin(lm, batch, margin))
    assert float(found.heads[1, 2]) == pytest.approx(float(found.scores[svd.index(Component(1, 2, 0)) :][:16].sum()))
    assert all(weight.grad is None for weight in lm.model.parameters())


def _margin(lm: CausalLM, batch: Batch, margin: object) -> float:
    from lamina.parameter.channels.batches import attentions

    with torch.no_grad(), attentions(lm):
        return float(margin(batch.forward(lm, output_attentions=True)).mean())  # type: ignore[operator]


def test_the_best_and_the_worst_come_first(lm: CausalLM, batch: Batch) -> None:
    found = attribute(HeadSVD(lm), batch, logit_margin(RIGHT, WRONG))
    best, worst = found.top(5), found.top(5, helpful=False)
    assert [score for _, score in best] == sorted((score for _, score in best), reverse=True)
    assert best[0][1] == float(found.scores.max()) and worst[0][1] == float(found.scores.min())
    mover = found.movers(1)[0]
    assert float(found.heads[mover.layer, mover.head]) == float(found.heads.max())
    both = AttributionTable.mean([found, found])
    torch.testing.assert_close(both.scores, found.scores)


def test_ablation_removes_for_real(lm: CausalLM, batch: Batch) -> None:
    svd, margin = HeadSVD(lm), logit_margin(RIGHT, WRONG)
    members = [member for member, _ in attribute(svd, batch, margin).top(3)]
    lost = ablate(svd, batch, margin, members)
    with intervene(lm, Channel.of(svd, members[:1]), "remove"):
        without = _margin(lm, batch, margin)
    assert lost[0] == pytest.approx(_margin(lm, batch, margin) - without)
    assert len(lost) == 3


def test_a_margin_is_one_number_a_prompt(lm: CausalLM, batch: Batch) -> None:
    with pytest.raises(InvalidInput, match=r"give one number a prompt, \(3,\)"):
        attribute(HeadSVD(lm), batch, logit_margin(RIGHT[:2], WRONG[:2]))
    for wrong in (WRONG[:2], ((), (1,), (2,))):
        with pytest.raises(InvalidInput, match="none empty"):
            logit_margin(RIGHT, wrong)
    assert lm.model.config._attn_implementation == "sdpa"


def test_loud_channels_of_the_residual_are_named(lm: CausalLM, batch: Batch) -> None:
    assert massive(lm, batch) == []
    with torch.no_grad():
        lm.model.get_input_embeddings().weight[:, 13] = 900
    assert massive(lm, batch) == [13]
