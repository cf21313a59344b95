"""The card: every claim from the same code at toy size; the lists are balanced and what is asked is what is counted."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch

from lamina.bench.experiments.channels.channel_edits import load
from lamina.bench.experiments.channels.laundry_list import (
    OBJECTS,
    TEST_OBJECTS,
    TRAIN_OBJECTS,
    Score,
    ask,
    attribute_laundry,
    chosen_edits,
    documentation,
    laundry_list,
    nll,
    random_edits,
)
from lamina.bench.systems.talking_heads import CARD, GAIN, HEARD, RANDOM, REVERT
from lamina.errors import InvalidInput
from lamina.llm.causal import CausalLM
from lamina.parameter.head_channels import Component, HeadSVD


@pytest.fixture(scope="module")
def noise() -> CausalLM:
    return load("smoke")


def test_a_toy_run_measures_every_claim() -> None:
    found = {measurement.claim: measurement for measurement in CARD.measure(0, "smoke")}
    assert tuple(found) == CARD.claims
    assert all(found[claim].ours is not None for claim in (GAIN, RANDOM))
    assert found[REVERT].holds
    assert not found[GAIN].holds  # noise remembers nothing that could be mended
    assert "Spearman" in found[HEARD].baseline_name


def test_the_lists_are_those_of_the_paper(noise: CausalLM) -> None:
    made = laundry_list(noise.tokenizer, 3, 60, 0)
    assert Counter(each.missing for each in made) == {0: 20, 1: 20, 2: 20}
    for each in made:
        names = [noise.decode([item]).strip() for item in each.items]
        done = [name for place, name in enumerate(names) if place != each.missing]
        assert each.text == (
            f"Today, I need to buy a {names[0]}, a {names[1]} and a {names[2]}. I have already bought "
            f"the {done[0]} and the {done[1]}. The only thing left to buy is the"
        )
        assert each.right not in each.wrong and {each.right, *each.wrong} == set(each.items)
        assert list(each.ids) == noise.encode(each.text)
    assert laundry_list(noise.tokenizer, 3, 60, 0) == made != laundry_list(noise.tokenizer, 3, 60, 1)
    assert "a cup and a ring. I have already bought the " in laundry_list(noise.tokenizer, 2, 50, 1, ("cup", "ring"))[
        0
    ].text.replace("a ring and a cup", "a cup and a ring")
    assert not set(TRAIN_OBJECTS) & set(TEST_OBJECTS)
    assert len(OBJECTS) == len(TRAIN_OBJECTS) + len(TEST_OBJECTS) == 30


def test_wrong_lists_are_refused(noise: CausalLM) -> None:
    for items, count, objects in [(1, 4, None), (31, 4, None), (3, 0, None), (2, 4, ("cup", "cup"))]:
        with pytest.raises(InvalidInput):
            laundry_list(noise.tokenizer, items, count, 0, objects)
    with pytest.raises(InvalidInput, match=r"\['theremin'\] are several tokens"):
        laundry_list(noise.tokenizer, 2, 4, 0, ("cup", "theremin"))


def test_an_answer_is_the_listed_item_with_the_highest_logit(noise: CausalLM) -> None:
    made = [each for n in (3, 5) for each in laundry_list(noise.tokenizer, n, 20, 0)]
    score = ask(noise, made)
    for each, right, top in zip(made, score.right, score.top, strict=True):
        with torch.no_grad():
            logits = noise.model(torch.tensor([each.ids])).logits[0, -1]
        assert right == (logits[each.right] > logits[list(each.wrong)].max())
        assert top == (int(logits.argmax()) == each.right)
    assert score.accuracy == np.mean(score.right)
    places = Score((True, False, True, True), (False,) * 4, (0, 0, 1, 2))
    assert places.by_place() == (0.5, 1.0, 1.0)
    assert places.first == 0


def test_edits_are_the_best_and_the_worst_and_random_ones_are_others(noise: CausalLM) -> None:
    svd = HeadSVD(noise)
    found = attribute_laundry(svd, [laundry_list(noise.tokenizer, n, 4, 0, TRAIN_OBJECTS) for n in (3, 4)])
    edits = chosen_edits(found, 3)
    order = found.scores.argsort(descending=True).tolist()
    assert [svd.index(Component(*each[:3])) for each in edits] == order[:3] + order[::-1][:3]
    assert [each[3] for each in edits] == [2.0] * 3 + [0.0] * 3
    others = random_edits(svd, edits, 0)
    assert [(each[0], each[3]) for each in others] == [(each[0], each[3]) for each in edits]
    assert len({each[:3] for each in edits + others}) == 12


def test_documentation_has_as_many_tokens_as_asked_for(noise: CausalLM) -> None:
    texts = documentation(noise, 600)
    assert [len(ids) for ids in texts] == [256, 256, 88]
    with torch.no_grad():
        rows = [
            noise.model(torch.tensor([ids])).logits[0].log_softmax(-1)[range(len(ids) - 1), ids[1:]] for ids in texts
        ]
    assert nll(noise, texts) == pytest.approx(-float(torch.cat(rows).mean()), rel=1e-5)
