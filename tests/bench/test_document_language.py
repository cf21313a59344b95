"""The language of facts: nothing can be guessed, what was changed is asked as it is now, the reader can learn it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lamina.bench.experiments.documents import document_language as language


@given(st.integers(0, 10**6), st.integers(1, 300))
def test_questions_ask_what_the_newest_document_says(seed: int, size: int) -> None:
    documents = language.stream(np.random.default_rng(seed), size)
    assert len(documents) == size
    told: dict[str, tuple[str, int]] = {}
    denied: dict[str, str] = {}
    for place, document in enumerate(documents):  # read back from the words alone
        words = document.text.split()
        for filler, first, last, attribute, value in zip(*(words[n::5] for n in range(5)), strict=True):
            assert filler.startswith("filler")
            question = f"ask {first} {last} {attribute}"
            if question in told:
                denied[question] = told[question][0]
            told[question] = (value, place)
    asked = language.questions(documents)
    assert {q.text: (q.answer, q.document) for q in asked} == told
    assert {q.text: q.outdated for q in asked if q.changed} == denied
    assert all(q.outdated != q.answer for q in asked)


def test_a_fifth_changes_an_earlier_document_and_names_share_their_halves() -> None:
    documents = language.stream(np.random.default_rng(0), 300)
    changing = [document for document in documents if document.changes is not None]
    assert 0.14 < len(changing) / 300 < 0.26
    names = {document.name for document in documents}
    assert len(names) == 300 - len(changing)
    assert len({first for first, _ in names}) == len({last for _, last in names}) == 20


def test_answers_are_even_so_that_guessing_is_right_once_in_48() -> None:
    rng = np.random.default_rng(0)
    asked = [q for _ in range(20) for q in language.questions(language.stream(rng, 256))]
    counts = np.unique([question.answer for question in asked], return_counts=True)[1]
    assert len(counts) == language.VALUES
    assert counts.max() / len(asked) < 1.3 / language.VALUES


@pytest.mark.parametrize("count", [1, 2])
def test_every_word_is_one_token_and_the_answers_are_marked(count: int) -> None:
    lm = language.reader(0, width=32, layers=1)
    ids, answers = language.reading_batch(lm, np.random.default_rng(0), 5, count)
    shown = 15 * count
    assert ids.shape == answers.shape == (5, shown + 30)
    for row, marked in zip(ids.tolist(), answers.tolist(), strict=True):
        words = lm.decode(row).split()
        facts = [(*words[n + 1 : n + 4], words[n + 4]) for n in range(0, shown, 5)]
        asked = [(*words[n + 1 : n + 4], words[n + 4]) for n in range(shown, shown + 30, 5)]
        assert sorted(asked) == sorted(facts * (2 // count))
        assert all(words[n] == "ask" for n in range(shown, shown + 30, 5))
        assert [place for place, is_answer in enumerate(marked) if is_answer] == list(range(shown + 4, shown + 30, 5))


def test_the_reader_learns_and_repeats_from_its_seed() -> None:
    one, two = (language.reader(3, width=32, layers=1) for _ in range(2))
    short = language.train_reader(one, np.random.default_rng(0), steps=2)
    assert language.train_reader(two, np.random.default_rng(0), steps=2) == short
    assert all(torch.equal(a, b) for a, b in zip(one.model.parameters(), two.model.parameters(), strict=True))
    assert language.train_reader(one, np.random.default_rng(0), steps=80) < short - 0.5
