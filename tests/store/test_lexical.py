"""BM25 over windows against a direct transcription of the formula in Python floats."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from lamina.store import lexical
from lamina.store.lexical import LexicalIndex

WEIGHT = {-2: 0.25, -1: 0.5, 0: 1.0, 1: 0.5, 2: 0.25}
NOBODY = np.empty((0, 4), np.int32)


def chain(sessions: list[int]) -> NDArray[np.int32]:
    """Neighbours of rows that stand in ``sessions`` in order of their rows."""
    links = np.full((len(sessions), 4), -1, np.int32)
    for name in set(sessions):
        rows = [row for row, session in enumerate(sessions) if session == name]
        for place, row in enumerate(rows):
            for column, distance in enumerate((-2, -1, 1, 2)):
                if 0 <= place + distance < len(rows):
                    links[row, column] = rows[place + distance]
    return links


def naive(texts: list[list[str]], sessions: list[int], query: set[str], dead: set[int]) -> list[float]:
    """BM25 with k1 1.2, b 0.75 and windows, by the book."""

    def around(row: int) -> list[tuple[float, list[str]]]:
        rows = [r for r, session in enumerate(sessions) if session == sessions[row]]
        place = rows.index(row)
        return [
            (w, texts[rows[place + d]] if rows[place + d] not in dead else [])
            for d, w in WEIGHT.items()
            if 0 <= place + d < len(rows)
        ]

    alive = [row for row in range(len(texts)) if row not in dead]
    length = {row: sum(w * len(text) for w, text in around(row)) for row in alive}
    mean = sum(length.values()) / len(alive) if alive else 1.0
    scores = []
    for row in range(len(texts)):
        total = 0.0
        for term in query if row not in dead else ():
            n = sum(term in texts[r] for r in alive)
            tf = sum(w * text.count(term) for w, text in around(row))
            if n and tf:
                idf = math.log(1 + (len(alive) - n + 0.5) / (n + 0.5))
                total += idf * tf * 2.2 / (tf + 1.2 * (0.25 + 0.75 * length[row] / mean))
        scores.append(total)
    return scores


def build(texts: list[list[str]], links: NDArray[np.int32], step: int = 5) -> LexicalIndex:
    index = LexicalIndex()
    for start in range(0, len(texts), step):
        index.extend(texts[start : start + step])
    index.refresh(np.arange(len(texts)), links)
    return index


words = st.sampled_from("abcdefgh")
corpora = st.lists(st.tuples(st.lists(words, max_size=6), st.integers(0, 2)), min_size=1, max_size=25)


@given(corpora, st.sets(words, max_size=4), st.data())
def test_scores_equal_the_formula(corpus: list[tuple[list[str], int]], query: set[str], data: st.DataObject) -> None:
    texts, sessions = [text for text, _ in corpus], [session for _, session in corpus]
    links = chain(sessions)
    index = build(texts, links)
    dead = data.draw(st.sets(st.integers(0, len(texts) - 1), max_size=len(texts) - 1))
    for row in dead:
        index.erase(row)
    index.refresh(np.asarray([row for row in range(len(texts)) if row not in dead], np.int64), links)
    rows = np.asarray([row for row in range(len(texts)) if row not in dead], np.int64)
    expected = np.asarray(naive(texts, sessions, query, dead))
    np.testing.assert_allclose(index.score(index.known(query), rows, links), expected[rows], rtol=1e-9)


@given(corpora, st.sets(words, min_size=1, max_size=4), st.integers(1, 8), st.sets(st.integers(0, 24)))
def test_find_returns_the_best_allowed(
    corpus: list[tuple[list[str], int]], query: set[str], k: int, hidden: set[int]
) -> None:
    texts, sessions = [text for text, _ in corpus], [session for _, session in corpus]
    links = chain(sessions)
    index = build(texts, links)
    allowed = np.asarray([row not in hidden for row in range(len(texts))])
    found = index.find(index.known(query), k, links, allowed)
    scores = naive(texts, sessions, query, set())
    best = sorted((scores[row] for row in range(len(texts)) if allowed[row] and scores[row] > 0), reverse=True)[:k]
    assert allowed[found].all() and len(set(found.tolist())) == len(found)
    np.testing.assert_allclose(sorted((scores[row] for row in found), reverse=True), best, rtol=1e-9)


def test_runs_and_their_merging_change_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    texts = [[f"w{w}" for w in rng.zipf(1.5, 6) % 40] for _ in range(300)]
    sessions = (np.arange(300) // 12).tolist()
    links = chain(sessions)
    query = {"w1", "w3", "w17"}
    monkeypatch.setattr(lexical, "_RUN", 16)
    index = build(texts, links, step=11)
    assert 1 <= len(index._runs) < 8 and index._runs[-1].stop > 280
    index.erase(40)
    index.refresh(np.asarray([38, 39, 41, 42]), links)
    alive = np.arange(300) != 40
    expected = np.asarray(naive(texts, sessions, query, {40}))
    found = index.find(index.known(query), 20, links, alive)
    np.testing.assert_allclose(np.sort(expected[found]), np.sort(expected)[-20:], rtol=1e-9)


def test_saved_and_loaded(tmp_path: Path) -> None:
    texts = [["red", "fox"], [], ["blue", "fox", "fox"]]
    links = chain([0, 0, 1])
    index = build(texts, links)
    index.save(tmp_path)
    loaded = LexicalIndex.load(tmp_path)
    loaded.extend([["green", "fox"]])
    links = chain([0, 0, 1, 1])
    loaded.refresh(np.asarray([2, 3]), links)
    expected = naive([*texts, ["green", "fox"]], [0, 0, 1, 1], {"fox", "green"}, set())
    rows = np.arange(4)
    np.testing.assert_allclose(loaded.score(loaded.known({"fox", "green"}), rows, links), expected, rtol=1e-9)
    assert set(loaded.find(loaded.known({"fox"}), 9, links, np.ones(4, bool)).tolist()) == {0, 1, 2, 3}


def test_frequent_terms_score_but_do_not_propose(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lexical, "_BUDGET", 10)
    texts = [["common"]] * 50 + [["common", "rare"]]
    links = np.full((51, 4), -1, np.int32)
    index = build(texts, links)
    everywhere = np.ones(51, bool)
    assert index.find(index.known({"common", "rare"}), 5, links, everywhere).tolist() == [50]
    assert len(index.find(index.known({"common"}), 5, links, everywhere)) == 5  # alone, it has to
    assert index.score(index.known({"common"}), np.asarray([0]), links)[0] > 0


def test_empty_index_and_unknown_words() -> None:
    index = LexicalIndex()
    assert index.known(["nothing"]) == []
    assert len(index.find([], 5, NOBODY, np.zeros(0, bool))) == 0
    assert len(index.score([], np.empty(0, np.int64), NOBODY)) == 0
