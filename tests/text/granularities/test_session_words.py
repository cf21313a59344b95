"""BM25 over sessions equals the formula written out, also after sessions left."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamina.store.analysis import terms
from lamina.text.granularities.lexical import SessionWords

WORDS = ["zebra", "guitar", "running", "runs", "oak", "the"]


def naive(texts: list[str], query: str) -> list[float]:
    bags = [terms(text) for text in texts]
    mean = max(sum(map(len, bags)) / max(len(bags), 1), 1.0)
    scores = []
    for bag in bags:
        total = 0.0
        for term in set(terms(query)):
            n = sum(term in other for other in bags)
            tf = bag.count(term)
            idf = math.log(1 + (len(bags) - n + 0.5) / (n + 0.5))
            total += idf * tf * 2.2 / (tf + 1.2 * (0.25 + 0.75 * len(bag) / mean))
        scores.append(total)
    return scores


texts = st.lists(st.lists(st.sampled_from(WORDS), max_size=8).map(" ".join), min_size=1, max_size=8)


@given(texts, st.lists(st.sampled_from([*WORDS, "unknown"]), max_size=4).map(" ".join), st.data())
def test_it_is_bm25_of_the_sessions_there_are(said: list[str], query: str, data: st.DataObject) -> None:
    words = SessionWords()
    for text in said:
        words.add(text)
    assert words.scores(query) == pytest.approx(naive(said, query))
    gone = data.draw(st.integers(0, len(said) - 1))
    words.remove(gone)
    left = said[:gone] + said[gone + 1 :]
    assert len(words) == len(left)
    assert words.scores(query) == pytest.approx(naive(left, query))
    words.add("zebra again")
    assert words.scores(query) == pytest.approx(naive([*left, "zebra again"], query))


def test_no_word_of_a_removed_session_is_kept() -> None:
    words = SessionWords()
    words.add("xylophone canary")
    words.add("oak")
    words.remove(0)
    assert words.frequency("xylophon") == words.frequency("canari") == 0
    assert "canari" not in repr(vars(words))
