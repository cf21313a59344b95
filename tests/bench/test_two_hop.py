"""The two-hop set is fair, and the harness counts what it says."""

from __future__ import annotations

import re

import pytest

from lamina.bench.experiments.text.two_hop import SURNAME_ONLY, generate, measure
from lamina.bench.synthetic import WordVectors


@pytest.mark.parametrize("seed", range(4))
def test_no_question_names_its_bridge_and_every_first_turn_does(seed: int) -> None:
    data = generate(seed, 60)
    assert len(data.questions) == 60
    assert len(data.told) == len(data.about) == 240
    short = 0
    for question in data.questions:
        surname = question.bridge.split()[-1]
        assert not set(re.findall(r"\w+", question.text)) & set(question.bridge.split())
        assert question.bridge in data.told[question.first]
        assert surname in data.told[question.second]
        assert data.about[question.second] == question.bridge
        short += question.bridge not in data.told[question.second]
    assert 0.1 < short / 60 < SURNAME_ONLY + 0.2


def test_some_surnames_are_shared() -> None:
    surnames = [question.bridge.split()[-1] for question in generate(0, 60).questions]
    assert len(surnames) - len(set(surnames)) == 3


def test_a_seed_is_a_set_and_another_seed_another() -> None:
    assert generate(1, 12) == generate(1, 12)
    assert generate(1, 12) != generate(2, 12)


def test_measured_at_toy_size_the_graph_finds_more_second_hops_at_the_same_count() -> None:
    found = measure(WordVectors(), seed=0, scale="smoke")
    assert found.questions == 12
    assert found.second_hop["graph"] > found.second_hop["hybrid"]
    assert found.first_hop_loss <= 0.1
    assert 0.0 <= found.wrong_hop_rate <= 0.2
    assert found.tokens["graph"] == pytest.approx(found.tokens["hybrid"], rel=0.1)


def test_the_whole_measurement_is_repeatable() -> None:
    assert measure(WordVectors(), seed=3, scale="smoke") == measure(WordVectors(), seed=3, scale="smoke")
