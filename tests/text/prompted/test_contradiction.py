"""Sentences made of words that were said, which say what was not: by hand-labelled pairs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamina.text.prompted.contradiction import denies, why_contradicted

BERLIN = "I have lived in Berlin, in a house, for 3 years."
LAMPS = "I paid 30 euros for 2 lamps."


@pytest.mark.parametrize(
    ("said", "told", "why"),
    [
        (BERLIN, "Alice never lived in Berlin.", "denies"),
        (BERLIN, "Alice sold the house in Berlin.", "sold"),
        (BERLIN, "Alice's house in Berlin burned.", "burn"),
        (LAMPS, "Alice paid 2 euros for 30 lamps.", "2 is the number"),
        ("I paid thirty euros for two big lamps.", "Alice bought 30 lamps.", "30 is the number"),
        ("I don't drink coffee.", "Alice drinks coffee.", "only denied"),
        ("I have never really lived in Rome.", "Alice lived in Rome.", "only denied"),
        ("My dog Rex sleeps all day.", "Alice's dog Rex died.", "die"),
        ("I work at Globex.", "Alice quit Globex.", "quit"),
        ("I like tea.", "Alice does not like tea.", "denies"),
    ],
)
def test_what_turns_it_round_is_seen(said: str, told: str, why: str) -> None:
    assert why in str(why_contradicted(told, said))


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (BERLIN, "Alice has lived in a house in Berlin for 3 years."),
        (LAMPS, "Alice bought 2 lamps for 30 euros."),
        ("We lost our dog Rex last week.", "Alice's dog Rex died last week."),
        ("I can't stand cilantro.", "Alice does not like cilantro."),
        ("I got sick of pizza.", "Alice no longer likes pizza."),
        ("I don't drink coffee but my brother drinks it.", "Alice's brother drinks coffee."),
        ("I don't work at Globex any more.", "Alice stopped working at Globex."),
        ("My ex and I split in May.", "Alice divorced in May."),
        ("We're on our honeymoon in Porto.", "Alice married and is in Porto."),
        ("On 10 June I fly, two days later Ana comes.", "Ana comes on 12 June."),
        ("I have 2 cats and 3 dogs.", "Alice has 3 dogs and two cats."),
    ],
)
def test_what_says_the_same_passes(said: str, told: str) -> None:
    assert why_contradicted(told, said) is None


@given(st.text())
def test_nothing_contradicts_itself(text: str) -> None:
    why_contradicted(text, "I have 2 cats")
    assert _own(text) is None


WORDS = ["I", "do", "not", "have", "sold", "3", "30", "two", "lamps", "euros", "for", "never", "but", "don't", "drink"]


@given(st.lists(st.sampled_from(WORDS)))
def test_no_sentence_of_these_words_contradicts_itself(words: list[str]) -> None:
    assert _own(" ".join(words)) is None


def _own(text: str) -> str | None:
    return why_contradicted(text, text)


def test_endings_and_dislikes_are_denials() -> None:
    assert denies("Alice hates tea.") and denies("Alice no longer works.") and not denies("Alice loves tea.")
