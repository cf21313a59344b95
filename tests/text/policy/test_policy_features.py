"""What the policy sees: forms, dates, matches against a plain computation, and what must not change a feature."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamina.text.policy.features import (
    FEATURES,
    PRIOR,
    Match,
    assemble,
    count_tokens,
    match,
    read,
    retell,
    strip_dates,
)


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("On 12 March Lena ran.", "Lena ran."),
        ("Lena ran on March 3rd, 2024.", "Lena ran."),
        ("Lena ran (24 March 2024).", "Lena ran."),
        ("It was 2024-05-06 when she ran.", "It was when she ran."),
        ("She ran in 1999, alone.", "She ran, alone."),
        ("Lena may run 10 miles.", "Lena may run 10 miles."),
        ("She marched 7 times.", "She marched 7 times."),
    ],
)
def test_dates_are_found_and_taken_out(text: str, left: str) -> None:
    assert strip_dates(text) == left
    assert read(text).dated is (text != left)


def test_a_reading() -> None:
    found = read("Did I say to you about Lena's 3 red cars?")
    assert found.asks and found.first_person and found.numbered and not found.dated
    assert found.terms == {"lena", "3", "red", "car"} and found.names == {"lena"}
    assert found.tokens == count_tokens("Did I say to you about Lena's 3 red cars?") == 10


def test_retold_asks_nothing_and_names_change_nothing() -> None:
    one, other = read("Is the car of Lena red now?"), read("Is the dog of Boris blue now?")
    assert one.form() == other.form() and one.terms != other.terms
    assert not retell(one).asks and retell(one).terms == one.terms


def test_match_equals_a_plain_computation() -> None:
    texts = ["Lena has a red car", "Boris has a red car", "Lena has a blue dog", "Lena lost keys"]
    chunk, entries = read("Lena got a green car"), [read(text) for text in texts]

    def weight(term: str) -> float:
        held = sum(term in entry.terms for entry in entries)
        total = len(entries) + PRIOR
        return math.log(1 + (total - held + 0.5) / (held + 0.5))

    def vector(terms: frozenset[str]) -> dict[str, float]:
        return {term: weight(term) for term in terms}

    def likeness(a: dict[str, float], b: dict[str, float]) -> float:
        dot = sum(value * b.get(term, 0.0) for term, value in a.items())
        return dot / math.sqrt(sum(v * v for v in a.values()) * sum(v * v for v in b.values()))

    cosines = [likeness(vector(chunk.terms), vector(entry.terms)) for entry in entries]
    found = match(chunk, entries)
    assert found.place == 0 == max(range(4), key=cosines.__getitem__)
    assert found.cosine == pytest.approx(cosines[0])
    assert found.margin == pytest.approx(cosines[0] - sorted(cosines)[-2])
    mine = vector(chunk.terms)
    missing = sum(v * v for term, v in mine.items() if term not in entries[0].terms)
    assert found.novelty == pytest.approx(missing / sum(v * v for v in mine.values()))
    assert found.same_entity and found.same_attribute


def test_a_rare_name_outweighs_common_words() -> None:
    """In a large store a plain count of shared words picks the wrong entity; weights do not."""
    crowd = [read(f"Person{place} has a red car") for place in range(50)]
    chunk = read("Lena has a red car")
    found = match(chunk, [*crowd, read("Lena lives")])
    assert found.place == 50 and found.same_entity and not found.same_attribute


def test_an_empty_memory_matches_nothing_and_the_first_of_equals_is_taken() -> None:
    assert match(read("Lena runs"), []) == Match()
    twice = [read("Lena runs"), read("Lena runs")]
    assert match(read("Lena runs"), twice).place == 0
    assert match(read("Lena runs"), twice).margin == 0.0


@given(st.lists(st.text(max_size=40), max_size=6), st.text(max_size=60))
def test_any_text_gives_bounded_features(stored: list[str], text: str) -> None:
    chunk = read(text)
    features = assemble(chunk, match(chunk, [read(entry) for entry in stored]), 0.5)
    assert features.shape == (len(FEATURES),) and np.isfinite(features).all()
    assert (np.abs(features) <= 1.0 + 1e-9).all()
