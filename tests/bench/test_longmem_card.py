"""The card: it measures every claim from the same code at toy size; its rival and its measures are what they say."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest
import torch

from lamina.activation.side_retrieval import LongMem
from lamina.bench.experiments.recall.segment_facts import SEGMENT, Asked, Mixture, Texts, texts
from lamina.bench.experiments.recall.segment_readers import (
    _FINDERS,
    Answers,
    Coupled,
    Lesson,
    adapt,
    ask,
    backbone,
    gate_closed,
    lessons,
    recall,
    remembered,
    with_banks,
)
from lamina.bench.experiments.recall.segment_recall import SETTINGS
from lamina.bench.systems.longmem import BYTES, CARD, EARLIER, EXACT


@pytest.fixture(scope="module")
def told() -> Texts:
    return texts(np.random.default_rng(0), 2, 6, Mixture())


@pytest.fixture
def memory() -> LongMem:
    return LongMem(backbone(0, steps=1, width=32), **SETTINGS)


def test_a_toy_run_measures_every_claim() -> None:
    found = {measurement.claim: measurement for measurement in CARD.measure(0, "smoke")}
    assert tuple(found) == CARD.claims
    assert all(measurement.ours is not None for measurement in found.values())
    assert found[BYTES].holds
    assert found[EXACT].holds
    assert not found[EARLIER].holds  # two steps teach nothing, and the card says so


def test_the_probe_takes_a_layer_that_was_laid_out_to_copy() -> None:
    assert LongMem(backbone(0, steps=1), "auto", **SETTINGS).memory_layer in _FINDERS


def test_lessons_are_consecutive_segments_with_the_past_of_their_own_text_in_the_bank(memory: LongMem) -> None:
    seen = []
    for lesson, banks in islice(lessons(0, 2, [4, 5], memory), 6):
        seen.append([bank.seen for bank in banks])
        memory(lesson.ids, banks)
    past = [2, 3, 2, 3, 4, 2]  # segments before: texts of 4, 5 and again 5, whose first two ask nothing of earlier ones
    assert seen == [[SEGMENT * count] * 2 for count in past]


def test_teaching_leaves_the_backbone_and_its_banks_and_ages_those_of_the_rival(told: Texts) -> None:
    model = backbone(0, steps=1, width=32)
    for kind, same in ((LongMem, True), (Coupled, False)):
        memory = kind(model, **SETTINGS)
        before = remembered(memory, told, 3)
        weights = [tensor.clone() for tensor in model.state_dict().values()]
        losses = adapt(memory, lessons(0, 2, [4], memory), steps=2, lr=1e-2)
        after = remembered(memory, told, 3)
        assert len(losses) == 2
        assert all(torch.equal(a, b) for a, b in zip(weights, model.state_dict().values(), strict=True))
        assert all(torch.equal(a._keys, b._keys) is same for a, b in zip(before, after, strict=True))
        assert [bank.seen for bank in after] == [3 * SEGMENT] * 2


def test_banks_of_other_rows_are_read_and_ones_own_are_written(memory: LongMem, told: Texts) -> None:
    lesson = Lesson.of(told, 4)
    banks = remembered(memory, told, 4)
    swapped = with_banks(memory, banks, shift=1)(lesson)
    expected = memory(lesson.ids, remembered(memory, told, 4)[::-1], write=False).logits
    assert torch.equal(swapped, expected)
    own = remembered(memory, told, 5)
    queries = torch.randn(banks[0].kv_heads, 3, banks[0].head_dim)
    for mine, other in zip(banks, own, strict=True):
        assert mine.seen == other.seen
        assert torch.equal(mine.search(queries, 16)[0], other.search(queries, 16)[0])
    unwritten = with_banks(memory, banks, write=False)(lesson)
    assert not torch.equal(unwritten, swapped)
    assert banks[0].seen == 5 * SEGMENT


def test_a_closed_gate_is_no_bank_and_opens_again(memory: LongMem, told: Texts) -> None:
    lesson, banks = Lesson.of(told, 4), remembered(memory, told, 4)
    before = memory(lesson.ids, banks, write=False).logits
    with gate_closed(memory):
        assert torch.allclose(memory(lesson.ids, banks, write=False).logits, memory(lesson.ids).logits, atol=1e-5)
    assert torch.equal(memory(lesson.ids, banks, write=False).logits, before)


def test_answers_and_recall_are_counted_by_hand(memory: LongMem, told: Texts) -> None:
    def perfect(lesson: Lesson) -> torch.Tensor:
        return 100 * torch.nn.functional.one_hot(lesson.targets, 512).float()

    answers = ask(perfect, told, 4)
    assert answers.share(Asked.HERE) == answers.share(Asked.EARLIER) == 1
    assert (answers.count, answers.prose < 1e-6) == (2 * 2 * 12, True)
    wrong = ask(lambda lesson: perfect(lesson).roll(1, -1), told, 4)
    assert wrong.share(Asked.EARLIER) == wrong.share(Asked.EARLIER, 2, 3) == 0
    assert np.isnan(wrong.share(Asked.EARLIER, 30, 40))
    old = told.place[:, 2:] < 2 * SEGMENT
    known = Answers(old, told.asked[:, 2:], told.distance[:, 2:], np.zeros(old.shape))
    assert (known.share(Asked.EARLIER, before=True), known.share(Asked.EARLIER) < 1) == (1, True)
    assert np.isnan(known.share(Asked.HERE, before=True))
    banks = remembered(memory, told, 4, chunk=1)
    everything = LongMem(memory.backbone, **(SETTINGS | {"topk": 4 * SEGMENT}))
    assert recall(everything, banks, told, 4).head == 1  # who finds all tokens finds the right one
    found = recall(memory, banks, told, 4)
    assert 0 <= found.head <= found.any_head < 1
    assert found.exact == 1
