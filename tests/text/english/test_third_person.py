"""The third person, sentence by sentence."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamina.text.english.third_person import agree, rewrite

CASES = [
    ("I live in Boston.", "Anna lives in Boston."),
    ("I'm happy.", "Anna is happy."),
    ("I’m happy.", "Anna is happy."),
    ("I've been there.", "Anna has been there."),
    ("I'll go.", "Anna will go."),
    ("I'd go.", "Anna would go."),
    ("I'd been there.", "Anna had been there."),
    ("I am, I was, I have, I do.", "Anna is, Anna was, Anna has, Anna does."),
    ("I don't know.", "Anna doesn't know."),
    ("I didn't know.", "Anna didn't know."),
    ("I can swim.", "Anna can swim."),
    ("I went home.", "Anna went home."),
    ("I try, I watch, I go.", "Anna tries, Anna watches, Anna goes."),
    ("I really like it.", "Anna really likes it."),
    ("I no longer smoke.", "Anna no longer smokes."),
    ("We moved.", "Anna moved."),
    ("We're busy and we were tired.", "Anna is busy and Anna was tired."),
    ("My sister called me about our mum.", "Anna's sister called Anna about Anna's mum."),
    ("The red one is mine.", "The red one is Anna's."),
    ("Tom and I love it.", "Tom and Anna love it."),
    ("I live here and I work there.", "Anna lives here and Anna works there."),
    ("i live here", "Anna lives here"),
    ('She said "I love you" to me.', 'She said "I love you" to Anna.'),
    ("World War I in colour.", "World War I in colour."),
    ("The US and IT teams; mystic Iris.", "The US and IT teams; mystic Iris."),
    ("Should I go?", "Should Anna go?"),
]


@pytest.mark.parametrize(("said", "told"), CASES)
def test_first_person(said: str, told: str) -> None:
    assert rewrite(said, "Anna") == told


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("I saw you at your house.", "Anna saw Mel at Mel's house."),
        ("You're a nurse.", "Mel is a nurse."),
        ("You work too much.", "Mel works too much."),
        ("It makes you think.", "It makes you think."),
        ("Running keeps you fit when you are old.", "Running keeps you fit when you are old."),
        ("Thank you!", "Thank you!"),
    ],
)
def test_second_person_only_where_it_is_the_listener(said: str, told: str) -> None:
    assert rewrite(said, "Anna", "Mel") == told
    assert "Mel" not in rewrite(said, "Anna")


@pytest.mark.parametrize(
    ("verb", "form"), [("wanna", "wants to"), ("fix", "fixes"), ("play", "plays"), ("cried", "cried")]
)
def test_agreement(verb: str, form: str) -> None:
    assert agree(verb) == form


@given(st.text(max_size=200), st.text(min_size=1, max_size=20), st.none() | st.text(min_size=1, max_size=20))
def test_any_text_and_any_name(text: str, speaker: str, other: str | None) -> None:
    """Names with back-slashes or digits are data, not patterns; text without pronouns stays."""
    told = rewrite(text, speaker, other)
    if not any(word in text.lower() for word in ("i", "we", "my", "our", "me", "us", "you")):
        assert told == text
