"""Summaries take sentences over, keywords take words over; earlier sessions decide what is rare."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lamina.text.granularities.summaries import _centrality, extract_keywords, extract_summary

TALK = (
    "[Ann]: The marathon training is going well. Wow!",
    "[Ben]: I saw your marathon training plan on the fridge.",
    "[Ann]: My sister bought seven green lanterns yesterday evening.",
    "[Ben]: Training for a marathon needs good running shoes, Dr. Hart said.",
    "[Ann]: New running shoes make marathon training easier.",
)


def test_the_central_sentences_are_taken_over_in_order_with_their_speaker() -> None:
    lines = extract_summary(TALK, limit=3).split("\n")
    assert len(lines) == 3
    assert all(any(line.split("]: ")[1] in said for said in TALK) for line in lines)
    assert all(line.startswith(("[Ann]: ", "[Ben]: ")) for line in lines)
    assert "lanterns" not in " ".join(lines)
    places = [next(at for at, said in enumerate(TALK) if line.split("]: ")[1] in said) for line in lines]
    assert places == sorted(places)


def test_little_is_taken_over_whole_and_nothing_makes_nothing() -> None:
    assert extract_summary(("[Ann]: Hi!",)) == "[Ann]: Hi!"
    assert extract_summary(("no speaker here",)) == "no speaker here"
    assert extract_summary(("[Ann]: ",)) == ""
    assert extract_summary(()) == ""


def textrank(bags: list[set[str]]) -> list[float]:
    """The walk over the whole matrix, written out."""
    size = len(bags)
    weight = [
        [
            len(one & two) / (math.log(1 + len(one)) + math.log(1 + len(two))) if i != j and one & two else 0.0
            for j, two in enumerate(bags)
        ]
        for i, one in enumerate(bags)
    ]
    total = [max(sum(row), 1e-12) for row in weight]
    rank = [1 / size] * size
    for _ in range(50):
        given = [value / out for value, out in zip(rank, total, strict=True)]
        rank = [0.15 / size + 0.85 * sum(w * v for w, v in zip(row, given, strict=True)) for row in weight]
    return rank


@pytest.mark.parametrize("seed", range(6))
def test_centrality_is_the_walk_over_the_whole_matrix(seed: int) -> None:
    rng = np.random.default_rng(seed)
    words = [f"w{n}" for n in range(25)]
    bags = [set(rng.choice(words, rng.integers(0, 9)).tolist()) for _ in range(30)]
    assert _centrality(bags) == pytest.approx(textrank(bags), abs=1e-12)


def test_sentences_without_words_are_ranked_like_any_other() -> None:
    assert extract_summary(("?!",) * 9, limit=3) == "?!\n?!\n?!"


def test_a_long_talk_fits_the_memory() -> None:
    """20,000 sentences: every pair of them would take 3 GB."""
    talk = [f"[Ann]: alpha{n % 97} beta{n % 89} gamma{n % 83} delta{n % 79}." for n in range(20_000)]
    assert len(extract_summary(talk).split("\n")) == 5


def test_rare_words_come_first() -> None:
    known = {"marathon": 9, "run": 9}
    words = extract_keywords(
        "The marathon, the marathon! Zebra crossings.", lambda term: known.get(term, 0), 10, limit=2
    )
    assert any("zebra" in word for word in words)
    assert "the" not in extract_keywords("the the the cat", lambda _: 0, 0)
    assert "marathon" in extract_keywords("The marathon, the marathon! Zebra.", lambda _: 0, 0, limit=2)


def test_keywords_are_words_and_pairs_as_they_were_said() -> None:
    words = extract_keywords("Running shoes and running shoes", lambda _: 0, 0)
    assert set(words) == {"running", "shoes", "running shoes", "shoes running"}
    assert extract_keywords("", lambda _: 0, 5) == ()
