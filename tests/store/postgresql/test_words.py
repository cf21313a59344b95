"""Full text finds what SQLite's index finds, and ranks by BM25 of the scope."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from contracts.store import ALICE, BOB, cube, insert
from lamina.store.postgres import PostgresStore
from lamina.store.postgresql.words import lexemes, query, tsvector
from lamina.store.sqlite import SqliteStore

SAMPLE = (
    "run running runner café Cafe naïve Straße streets v2 2024 3.14 x_y ALICE's don't e-mail ÅNGSTRÖM résumé "
    "conditional relational agreed plastered happy skies hopping at as it I the is a 東京 москва"
)
WORDS = SAMPLE.split()


def texts(count: int) -> list[str]:
    rng = np.random.default_rng(3)
    return [" ".join(rng.choice(WORDS, size=rng.integers(1, 12))) for _ in range(count)]


def bm25(documents: dict[int, list[str]], terms: list[str]) -> dict[int, float]:
    """Straight from the formula, in float64."""
    mean = sum(map(len, documents.values())) / len(documents)
    scores: dict[int, float] = {}
    for key, words in documents.items():
        counts = Counter(words)
        for term in terms:
            n = sum(term in other for other in documents.values())
            if counts[term]:
                idf = math.log(1 + (len(documents) - n + 0.5) / (n + 0.5))
                length = 1.2 * (0.25 + 0.75 * len(words) / mean)
                scores[key] = scores.get(key, 0.0) + idf * counts[term] * 2.2 / (counts[term] + length)
    return scores


@pytest.fixture
def pair(tmp_path: Path, postgres_url: str) -> tuple[SqliteStore, PostgresStore]:
    stores = SqliteStore(tmp_path / "m.db"), PostgresStore(postgres_url)
    cubes = [cube(text) for text in texts(120)] + [cube(text, scope=BOB) for text in texts(10)]
    for store in stores:
        insert(store, *cubes)
    return stores


def test_the_same_memories_match_as_in_sqlite(pair: tuple[SqliteStore, PostgresStore]) -> None:
    old, new = pair
    phrases = [f'"{" ".join(text.split()[:2])}"' for text in texts(40) if " " in text]
    matched = 0
    for asked in [*WORDS, *texts(40), *phrases]:
        expected = {key for key, _ in old.match(asked, ALICE, limit=1000)}
        assert {key for key, _ in new.match(asked, ALICE, limit=1000)} == expected, asked
        matched += bool(expected)
    assert matched > 80


def test_scores_are_bm25_over_the_scope_alone(pair: tuple[SqliteStore, PostgresStore]) -> None:
    _, store = pair
    keys = store.keys(ALICE, {"kind": "text"})
    documents = {int(key): lexemes(one.text) for key, one in zip(keys, store.load(keys), strict=True)}
    for asked in ("running café", "the streets of 東京 and 2024", "a happy agreed runner"):
        terms = list(dict.fromkeys(lexemes(asked)))
        expected = bm25(documents, terms)
        found = store.match(asked, ALICE, limit=1000)
        assert dict(found) == pytest.approx(expected, rel=1e-12)
        assert found == sorted(found, key=lambda pair: (-pair[1], pair[0]))
        assert store.match(asked, ALICE, limit=3) == found[:3]


def test_an_enormous_text_is_stored_and_found(postgres_url: str) -> None:
    unlike = " ".join(f"word{n:07d}" for n in range(150_000))
    with PostgresStore(postgres_url) as store:
        insert(store, one := cube(f"first {unlike} last"), cube("x" * 100_000))
        assert store.get(one.id) == one
        assert len(store.match("first", ALICE)) == 1
        assert store.verify() == []


def test_no_text_breaks_the_query_language() -> None:
    assert query("a' & !b:* \\ (c)") == ("'a' | 'b' | 'c'", ["a", "b", "c"])
    assert query('"near the park"') == ("'near' <-> 'the' <-> 'park'", ["near", "the", "park"])
    assert query("'\\ &") is None
    assert tsvector(["b", "a", "b"]) == "'b':1,3 'a':2"
