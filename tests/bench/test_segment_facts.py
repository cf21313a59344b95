"""The texts of the LongMem card: every answer was stated where it says, and nowhere else; all comes from one seed."""

from __future__ import annotations

import numpy as np
import pytest

from lamina.bench.experiments.recall.segment_facts import (
    ASK,
    FARTHEST,
    FIRST_KEY,
    FIRST_VALUE,
    FIRST_WORD,
    KEYS,
    NEAREST,
    SEGMENT,
    VALUES,
    VOCABULARY,
    Asked,
    Mixture,
    Texts,
    _prose,
    plain,
    texts,
)

ROWS, SEGMENTS = 2, 50


@pytest.fixture(scope="module")
def told() -> Texts:
    return texts(np.random.default_rng(0), ROWS, SEGMENTS, Mixture())


def test_an_answer_stands_behind_its_key_where_it_was_stated_and_nowhere_else(told: Texts) -> None:
    flat = told.ids.reshape(ROWS, -1)
    for row in range(ROWS):
        places = np.flatnonzero((flat[row] >= FIRST_VALUE) & (flat[row] < FIRST_KEY))  # every value
        keys = flat[row][places - 1]
        assert len(places) == 3 * SEGMENTS == len(set(keys.tolist()))  # each key is stated once
        asked = told.asked[row] >= Asked.HERE
        assert set(told.place[row][asked].tolist()) <= set(places.tolist())
        assert np.array_equal(flat[row][told.place[row][asked]], told.targets[row][asked])
        assert np.array_equal(flat[row][told.place[row][asked] - 1], told.ids[row][asked])
        assert (flat[row][np.flatnonzero(asked.ravel()) - 1] == ASK).all()


def test_questions_ask_what_was_stated_before_and_as_far_back_as_they_say(told: Texts) -> None:
    assert told.ids.shape == (ROWS, SEGMENTS, SEGMENT)
    offsets = np.arange(SEGMENTS * SEGMENT).reshape(SEGMENTS, SEGMENT)[None]
    questions = told.asked >= Asked.HERE
    assert (told.place[questions] < np.broadcast_to(offsets, told.ids.shape)[questions]).all()
    assert set(told.distance[told.asked == Asked.HERE].tolist()) == {0}
    far = told.distance[told.asked == Asked.EARLIER]
    assert (far.min(), far.max()) == (NEAREST, FARTHEST)
    counts = (told.asked == Asked.EARLIER).sum(2)
    assert (counts[:, :NEAREST] == 0).all()
    assert (counts[:, NEAREST:] == Mixture().earlier).all()


def test_prose_says_the_next_word_of_prose(told: Texts) -> None:
    flat, targets = told.ids.reshape(ROWS, -1), told.targets.reshape(ROWS, -1)
    for row in range(ROWS):
        says = np.flatnonzero(told.asked[row].ravel() == Asked.PROSE)
        assert np.array_equal(targets[row][says], flat[row][says + 1])
        assert (targets[row][says] >= FIRST_WORD).all()
    assert (told.targets[told.asked == Asked.NOTHING] == 0).all()
    assert (told.ids.min(), told.ids.max() < VOCABULARY) == (0, True)
    assert FIRST_WORD == 1 + VALUES + KEYS


def test_one_seed_makes_one_text_and_the_tested_prose_is_not_taught() -> None:
    again = [texts(np.random.default_rng(3), 1, 3, Mixture()).ids for _ in range(2)]
    assert np.array_equal(*again)
    prose = plain(np.random.default_rng(0), 2, 3)
    assert (prose.ids >= FIRST_WORD).all()
    assert set(np.unique(prose.asked).tolist()) == {Asked.NOTHING, Asked.PROSE}
    everything = _prose()
    kept = everything[int(len(everything) * 0.9) :]
    for row in prose.ids.reshape(2, -1):
        assert any(np.array_equal(row, kept[start : start + len(row)]) for start in np.flatnonzero(kept == row[0]))
    long = texts(np.random.default_rng(1), 1, 1500, Mixture(0, 0, 0)).ids.ravel()
    taught = everything[: int(len(everything) * 0.9)]
    start = next(n for n in np.flatnonzero(taught == long[0]) if np.array_equal(taught[n : n + 50], long[:50]))
    assert np.array_equal(np.resize(np.roll(taught, -start), len(long)), long)  # it begins anew at the end of its part
