"""The card of HMT: every claim from the same code at toy size, and streams that are what they say."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from lamina.activation.segment_memory import HMT
from lamina.bench.experiments.recall.recall_readers import (
    backbone,
    cache_bytes,
    peak_bytes,
    recalled_share,
    window_share,
)
from lamina.bench.experiments.recall.recall_streams import (
    ASK,
    BLANK,
    FIRST_FILLER,
    FIRST_KEY,
    FIRST_VALUE,
    KEYS,
    NAME,
    SEGMENT,
    SENSORY,
    UNLABELLED,
    VOCABULARY,
    local_batch,
    streams,
)
from lamina.bench.experiments.recall.streamed_recall import curriculum
from lamina.bench.systems.hmt import CACHE, CARD, PEAK, RECALL_8, STATE
from lamina.errors import InvalidInput


def test_a_toy_run_measures_every_claim() -> None:
    found = {measurement.claim: measurement for measurement in CARD.measure(0, "smoke")}
    assert tuple(found) == CARD.claims
    assert all(measurement.ours is not None for measurement in found.values())
    assert all(found[claim].holds for claim in (PEAK, STATE, CACHE))  # no lesson changes these
    assert not found[RECALL_8].holds  # a few steps teach nothing, and the card says so


@pytest.mark.parametrize("segments", [2, 8, 65])
def test_every_segment_states_one_fact_and_the_asked_one_stands_in_no_window(segments: int) -> None:
    asked = streams(np.random.default_rng(0), 20, segments, 3)
    told = asked.told.view(20, segments - 1, SEGMENT)
    is_key, is_value = ((told >= first) & (told < first + KEYS) for first in (FIRST_KEY, FIRST_VALUE))
    assert bool((is_key.sum(2) == 1).all())
    assert torch.equal(is_key[..., :-1], is_value[..., 1:])  # a value stands behind its key
    assert not bool((is_key | is_value)[..., -SENSORY:].any())
    keys, values = told[is_key].view(20, -1), told[is_value].view(20, -1)
    assert all(len(row.unique()) == segments - 1 for row in keys)
    for row, age, ids, labels in zip(asked.row, asked.age, asked.asked, asked.labels, strict=True):
        key = int(keys[row, segments - 1 - age])
        assert ids[-3:].tolist() == [ASK, key, BLANK]
        (named,) = (ids[: SEGMENT // 2] == NAME).nonzero()[:, 0].tolist()
        assert named + 1 < SEGMENT // 2
        assert int(ids[named + 1]) == key
        rest = ids[(ids != key) & (ids != NAME) & (ids != ASK) & (ids != BLANK)]
        assert bool((rest >= FIRST_FILLER).all())  # no answer anywhere in the segment that asks
        assert labels[-1] == values[row, segments - 1 - age]
        assert int(labels[named + 1]) == key
        assert int((labels != UNLABELLED).sum()) == 2
    assert set(asked.age.tolist()) <= set(range(1, segments))


def test_a_fact_is_asked_for_in_its_own_segment() -> None:
    ids, labels = local_batch(np.random.default_rng(0), 50)
    for row, told in zip(ids.tolist(), labels.tolist(), strict=True):
        ((key, value),) = [(a, b) for a, b in pairwise(row) if FIRST_VALUE <= b < FIRST_FILLER]
        assert row[-3:] == [ASK, key, BLANK]
        assert told[-1] == value
        assert [(row[place - 1], label) for place, label in enumerate(told[:-1]) if label != UNLABELLED] == [
            (NAME, key)
        ]
        assert row.count(key) == 3
        assert row.index(key) < row.index(NAME)


@pytest.mark.parametrize("segments", [1, KEYS + 2])
def test_streams_have_a_key_for_every_segment(segments: int) -> None:
    with pytest.raises(InvalidInput, match=f"segments={segments}"):
        streams(np.random.default_rng(0), 2, segments, 1)


def test_lessons_grow_from_two_segments_to_eight() -> None:
    assert [curriculum(step, 100) for step in (0, 9, 10, 49, 50, 99)] == [2, 2, 4, 4, 8, 8]


@torch.no_grad()
def test_answers_are_counted_where_the_model_gives_them() -> None:
    """Of what it says behind each ``ASK key``, asked row by row, a fourth is made the right answer."""
    asked = streams(np.random.default_rng(0), 4, 4, 2)
    model = backbone(0, width=32, layers=2)
    hmt = HMT(model, segment=SEGMENT + SENSORY + 2, sensory=SENSORY, slots=4)
    rows = list(zip(asked.row.tolist(), asked.asked, strict=True))
    memory, window, strange = [], [], []
    for row, ids in rows:
        stream = torch.cat([asked.told[row], ids])[None, :-1]
        memory.append(hmt(stream).logits[0, -1].argmax())
        window.append(model(stream[:, 1 - SEGMENT - SENSORY :]).logits[0, -1].argmax())
        other = replace(hmt.read(asked.told[[row]]), memory=hmt.read(asked.told[[row - 1]]).memory)
        strange.append(hmt(ids[None, :-1], state=other).logits[0, -1].argmax())
    fourth = (torch.arange(len(rows)) % 4 != 0).long()
    counted = (
        (memory, lambda given: recalled_share(hmt, given)),
        (strange, lambda given: recalled_share(hmt, given, shuffled=True)),
        (window, lambda given: window_share(model, given)),
    )
    for said, share in counted:
        labels = asked.labels.clone()
        labels[:, -1] = (torch.stack(said) + fourth) % VOCABULARY
        assert share(asked._replace(labels=labels)) == 0.25


def test_live_bytes_are_counted() -> None:
    def held() -> None:
        first = torch.ones(1000)
        second = first.clone()
        del first
        third = second.clone()
        del second, third

    assert peak_bytes(held) == 8000
    model = backbone(0, width=32, layers=2)
    assert cache_bytes(model, torch.ones(1, 10, dtype=torch.int64)) == 2 * 2 * 10 * 32 * 4
