"""Sentences and clauses as people write them in chats."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamina.text.english.sentences import MAX_SENTENCE, clauses, sentences


def cut(text: str) -> list[str]:
    return [text[a:b] for a, b in sentences(text)]


def parts(text: str) -> list[str]:
    return [text[a:b] for a, b in clauses(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("I ran. I swam!", ["I ran.", "I swam!"]),
        ("Hi Dr. Smith, I met J. R. Tolkien.", ["Hi Dr. Smith, I met J. R. Tolkien."]),
        ("We eat fruit, e.g. Cox apples.", ["We eat fruit, e.g. Cox apples."]),
        ("At 5 p.m. we left. Then it rained.", ["At 5 p.m. we left.", "Then it rained."]),
        ("It costs 3.50 at v1.2.3 of it.", ["It costs 3.50 at v1.2.3 of it."]),
        ('"I am here." She left.', ['"I am here."', "She left."]),
        ("so cool... and then it ended", ["so cool... and then it ended"]),
        ("so cool... And then it ended", ["so cool...", "And then it ended"]),
        ("line one\nline two\n\nline three", ["line one", "line two", "line three"]),
        ("- milk\n* bread\n2) eggs and ham", ["milk", "bread", "eggs and ham"]),
        ("We won 🎉🎉 I am so happy 😀", ["We won", "I am so happy"]),
        ("What?! No.", ["What?!", "No."]),
        ("", []),
        (" \n ", []),
    ],
)
def test_sentences(text: str, expected: list[str]) -> None:
    assert cut(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("I live in Boston and I work at Google", ["I live in Boston", "I work at Google"]),
        ("I live in Boston and work at Google", ["I live in Boston", "work at Google"]),
        ("I sold the car and bought a bike", ["I sold the car", "bought a bike"]),
        ("I love to cook and bake", ["I love to cook and bake"]),
        ("If I move, I will sell the car", ["If I move, I will sell the car"]),
        ("I am vegan, my wife eats meat", ["I am vegan", "my wife eats meat"]),
        ("I like tea and coffee", ["I like tea and coffee"]),
        ('I said "yes, I do" and left', ['I said "yes, I do" and left']),
    ],
)
def test_clauses(text: str, expected: list[str]) -> None:
    assert parts(text) == expected


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"]) | st.sampled_from(list(".!? \n-😀'\"")), max_size=400))
def test_spans_are_ordered_trimmed_and_inside(text: str) -> None:
    end = 0
    for a, b in sentences(text):
        assert end <= a < b <= len(text)
        assert text[a:b] == text[a:b].strip()
        end, inner = b, 0
        for low, high in clauses(text[a:b]):
            assert inner <= low < high <= b - a
            inner = high


def test_a_wall_of_text_is_cut() -> None:
    text = "word " * 5_000
    spans = sentences(text)
    assert all(b - a <= MAX_SENTENCE for a, b in spans)
    assert "".join(text[a:b] for a, b in spans).replace(" ", "") == "word" * 5_000
