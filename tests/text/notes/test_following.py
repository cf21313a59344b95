"""Which questions follow links, and what a step over a link is worth."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from lamina.cube.cube import Header, MemCube, Scope, Utterance
from lamina.cube.payload import TextPayload
from lamina.store.base import Edge
from lamina.text.base import Hit
from lamina.text.notes.following import is_relational, origins, steps

T0 = datetime(2024, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    "query",
    [
        "What is Ann's sister's job?",
        "Which trips that Ann booked were cancelled?",
        "Who is the person whose dog ran away?",
        "What is related to the harbour project?",
        "How do Marta Kell and Jon Brandt know each other?",
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


def hits(*texts: str) -> list[Hit]:
    said = [
        Header(id=f"turn{n}", semantic_type="turn", scope=Scope(user="u"), created=T0, recorded=T0,
               utterance=Utterance("s", n, "Eve", "user"))
        for n in range(len(texts))
    ]  # fmt: skip
    cubes = [MemCube(header, TextPayload(text)) for header, text in zip(said, texts, strict=True)]
    return [Hit(cube, 0.5, {}, source=cube) for cube in cubes]


@pytest.mark.parametrize(
    "query",
    [
        "Where does Ann's bandmate work?",
        "where does ann's bandmate work?",
        "Who employs the bandmate of Ann?",
        "What is the employer of Ann's old bandmate?",
        "Ann has a bandmate: where is that person's office?",
        "Which town does the bandmate Ann has live in?",
    ],
)
def test_a_note_is_followed_that_says_who_is_meant_whatever_the_noun(query: str) -> None:
    heads = hits("Ann's work is hard.", "Ann met her bandmate Marta Kell.", "Ben's bandmate is Jon Fox.", "Ann sings.")
    assert origins(query, heads, ["Eve"]) == {"turn1"}


def test_a_note_that_names_nobody_new_leads_nowhere() -> None:
    query = "Where does Ann's mentor work?"
    assert origins(query, hits("Ann has a mentor.", "Ann told Eve of a mentor."), ["Eve"]) == set()
    assert origins("How was the concert?", hits("Ann met Marta Kell."), ["Eve"]) == set()
    assert origins("Where did my boss grow up?", hits("My boss is Marta Kell."), ["Eve"]) == {"turn0"}
