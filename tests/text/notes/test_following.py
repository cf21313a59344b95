"""Which questions follow links, and what a step over a link is worth."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from lamina.store.base import Edge
from lamina.text.notes.following import is_relational, steps

T0 = datetime(2024, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    "query",
    [
        "Where does Ann's mentor work?",
        "What is Ann's sister's job?",
        "Which trips that Ann booked were cancelled?",
        "Who is the person whose dog ran away?",
        "What is related to the harbour project?",
        "How do Marta Kell and Jon Brandt know each other?",
        "Where did my boss grow up?",
    ],
)
def test_something_through_something_else(query: str) -> None:
    assert is_relational(query)


@pytest.mark.parametrize(
    "query",
    ["What is Ann's identity?", "When did Ann go to Lisbon?", "What did Ann's painting show?", "How was the concert?"],
)
def test_plain_questions(query: str) -> None:
    assert not is_relational(query)


def test_the_speakers_of_a_dialogue_are_no_second_name() -> None:
    assert is_relational("What do Ann and Bob like?")
    assert not is_relational("What do Ann and Bob like?", ["Ann", "Bob Brown"])


def test_a_step_takes_the_best_way_and_no_way_back() -> None:
    def edge(source: str, target: str, weight: float, relation: str = "same_topic") -> Edge:
        return Edge(source=source, target=target, relation=relation, weight=weight, recorded=T0)

    edges = [
        edge("a", "x", 0.5),
        edge("x", "b", 0.9),
        edge("a", "b", 1.0),
        edge("c", "y", 1.0),
        edge("a", "z", 1, "knows"),
    ]
    found = steps({"a": 1.0, "b": 0.6}, edges)
    assert [(step.turn, step.origin) for step in found] == [("x", "b")]
    assert found[0].score == pytest.approx(0.54)
