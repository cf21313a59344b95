"""What may be said of given turns, by hand-labelled pairs and by properties."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamina.text.base import Turn
from lamina.text.prompted.additive import INSTRUCTIONS as ADDITIVE
from lamina.text.prompted.extraction import INSTRUCTIONS
from lamina.text.prompted.grounding import numbers, why_ungrounded

FRIDAY = datetime(2025, 6, 13, 10, tzinfo=UTC)


def turn(text: str, speaker: str = "Alice", at: datetime = FRIDAY) -> Turn:
    return Turn(text, speaker, "user", at, "s", 0)


@pytest.mark.parametrize(
    ("said", "fact"),
    [
        ("I moved to Denver yesterday!", "Alice moved to Denver on 12 June 2025."),
        ("I moved to Denver yesterday!", "Alice moved to Denver on June 12th, 2025."),
        ("I moved to Denver yesterday!", "Alice moved to Denver (2025-06-12)."),
        ("I started at Initech three weeks ago.", "Alice started at Initech in the week of 19 May 2025."),
        ("We've got three cats now.", "Alice has 3 cats."),
        ("I paid 1,200 euros for the sofa", "Alice paid 1200 euros for the sofa."),
        ("My number is 555-1234, call me", "Alice's phone number is 555-1234."),
        ("My sister Ana works as a nurse at St. Mary's.", "Alice's sister Ana works as a nurse at St. Mary's."),
        ("I can't stand cilantro.", "Alice can't stand cilantro."),
        ("I was born in 1990 in Porto", "Alice was born in Porto in 1990."),
        ("昨日、東京で寿司を食べました", "Alice 東京で寿司を食べました"),
    ],
)
def test_what_was_said_is_grounded(said: str, fact: str) -> None:
    assert why_ungrounded(fact, [turn(said)]) is None


@pytest.mark.parametrize(
    ("said", "fact", "why"),
    [
        ("I moved to Denver yesterday!", "Alice moved to Denver on 13 June 2025.", "13 is in none"),
        ("I moved to Denver yesterday!", "Alice moved to Boston on 12 June 2025.", "Boston"),
        ("We've got three cats now.", "Alice has 4 cats.", "4 is in none"),
        ("We've got three cats now.", "Alice has two cats.", "2 is in none"),
        ("I have two cats", "Alice has two cats, and Bruno is her dog.", "Bruno"),
        ("I have two cats", "Denver is where Alice has two cats.", "Denver"),
        ("I like tea", "Alice enjoys climbing mountains at dawn.", "of its words"),
        ("I live in Rome", "Alice.", "nothing"),
        ("Alice Johnson called me", "Alice Cooper Smith called.", "Cooper"),
        ("My number is 555-1234", "Alice's phone number is 555-1235.", "1235"),
        ("I bought a red kayak from Ana last year", "Alice bought a red kayak from Ana in March 2024.", "March"),
        ("I bought a kayak on Friday", "Alice bought a kayak on Monday.", "Monday"),
    ],
)
def test_what_was_not_said_is_not(said: str, fact: str, why: str) -> None:
    assert why in str(why_ungrounded(fact, [turn(said, "Bob" if "called" in said else "Alice")]))


def test_examples_of_the_prompts_are_never_grounded_in_a_chat_about_something_else() -> None:
    for prompt in (INSTRUCTIONS, ADDITIVE):
        example = prompt[prompt.index('"text": "') + 9 :].partition('"')[0]
        assert "harpsichord" in example
        assert why_ungrounded(example, [turn("I sold my car yesterday, it was 1 of 2 from May 2008")]) is not None


def test_evidence_may_lie_in_several_turns_and_in_who_spoke() -> None:
    question, answer = turn("Where did you find Bruno, Alice?", "Bob"), turn("At the shelter in Quito")
    assert why_ungrounded("Alice found Bruno at the shelter in Quito.", [question, answer]) is None
    assert why_ungrounded("Alice found Bruno at the shelter in Quito.", [answer]) is not None


THINGS = ["piano", "kayak", "lamp", "drums", "garden", "river", "train", "coffee", "novel", "marathon"]
WORDS = st.lists(st.sampled_from(THINGS), min_size=1)
DAYS = st.integers(0, 5_000).map(lambda days: datetime(2015, 1, 1, 12, tzinfo=UTC) + timedelta(days=days))


@given(words=WORDS, amount=st.integers(2, 10**6), at=DAYS)
def test_a_turn_always_grounds_itself(words: list[str], amount: int, at: datetime) -> None:
    text = f"I counted {amount} times: {' '.join(words)} last week."
    assert why_ungrounded(text, [turn(text, at=at)]) is None


@given(words=WORDS, amount=st.integers(2, 10**6), other=st.integers(2, 10**6), at=DAYS)
def test_another_number_never_passes(words: list[str], amount: int, other: int, at: datetime) -> None:
    said, told = f"I counted {amount} times: {' '.join(words)}.", f"Alice counted {other} times: {' '.join(words)}."
    assert (why_ungrounded(told, [turn(said, at=at)]) is None) == (amount == other)


@given(words=WORDS, extra=st.sampled_from(["Bartholomew", "Reykjavik", "Globex"]))
def test_another_name_never_passes(words: list[str], extra: str) -> None:
    said = f"I enjoyed {' '.join(words)} so much."
    assert extra in str(why_ungrounded(f"Alice enjoyed {' '.join(words)} with {extra}.", [turn(said)]))


@given(st.text())
def test_any_text_can_be_judged(text: str) -> None:
    why_ungrounded(text, [turn("I live in Rome")])
    why_ungrounded("Alice lives in Rome.", [turn(text)])


@given(st.integers(0, 10**9))
def test_numbers_are_compared_by_value(value: int) -> None:
    assert numbers(f"{value}") == numbers(f"{value:,}") == {str(value)}
