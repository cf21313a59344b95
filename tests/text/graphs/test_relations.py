"""Triplets from sentences: read as anybody would, and none from what asserts nothing."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from lamina.cube.cube import Header, MemCube
from lamina.cube.payload import TextPayload
from lamina.text.base import Turn
from lamina.text.extraction import RulesExtractor
from lamina.text.graphs.identity import ORGANISATION, PERSON, PLACE
from lamina.text.graphs.relations import REPORTED, Triplet, triplets


def read(text: str) -> list[Triplet]:
    turn = Turn(text, "Dana", "user", datetime(2024, 1, 1, tzinfo=UTC), "s", 0, named=True)
    facts = RulesExtractor().extract(turn)
    cubes = [MemCube(Header(claim=fact.claim, entities=fact.entities), TextPayload(fact.text)) for fact in facts]
    return [triplet for cube in cubes for triplet in triplets(cube)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("I work at Acme.", "Dana works_at Acme"),
        ("I flew to New York last year.", "Dana visited New York"),
        ("My mentor is Bob Reed.", "Dana mentor Bob Reed"),
        ("Ana's mentor is Bob Reed.", "Ana mentor Bob Reed"),
        ("Bob Reed is Ana's mentor.", "Ana mentor Bob Reed"),
        ("Bob Reed has been Ana's mentor for years.", "Ana mentor Bob Reed"),
        ("The mentor of Ana is Bob Reed.", "Ana mentor Bob Reed"),
        ("Bob Reed is the mentor of Ana.", "Ana mentor Bob Reed"),
        ("Ana has a new mentor, Bob Reed.", "Ana mentor Bob Reed"),
        ("I had lunch with Ana and Ana's mentor Bob Reed.", "Ana mentor Bob Reed"),
        ("Bob Reed mentors Ana.", "Bob Reed mentor Ana"),
        ("Kelvor Labs hired Bob Reed last year.", "Kelvor Labs hire Bob Reed"),
        ("Élodie's mentor is Óscar Núñez.", "Élodie mentor Óscar Núñez"),
        ("Анна's mentor is Иван Петров.", "Анна mentor Иван Петров"),
        ("Łukasz is the rival of Şule.", "Şule rival Łukasz"),
        ("Ana says Bob Reed is a wonderful muse.", "Ana named_with Bob Reed"),
        ("I don't like football.", "Dana dislikes football"),
        ("I speak Spanish.", "Dana speaks Spanish"),
        ("I met Tom at the Lake District.", "Dana meet_at Lake District"),
        ("I researched adoption agencies.", "Dana research adoption agencies"),
    ],
)
def test_what_a_sentence_connects(text: str, expected: str) -> None:
    assert expected in [triplet.text for triplet in read(text)]


def test_whose_sister_she_is_and_what_she_does() -> None:
    found = read("My sister Eva moved to Rome in 2020. She works at Acme.")
    assert {each.text for each in found} == {"Dana sister Eva", "Eva lives_in Rome", "Eva works_at Acme"}
    assert {(each.target.text, each.target.type) for each in found} == {
        ("Eva", PERSON),
        ("Rome", PLACE),
        ("Acme", ORGANISATION),
    }


@pytest.mark.parametrize(
    "text",
    [
        "I will move to Rome next year.",  # a plan
        "Maybe I work at Acme if they take me.",  # a supposition
        "I no longer work at Acme.",  # an ending
        "I am 34 years old.",  # a number is no entity
        "My phone number is 555-1234.",
        "I am so happy today.",
    ],
)
def test_nothing_is_connected_by(text: str) -> None:
    assert read(text) == []


def test_hearsay_counts_half() -> None:
    triplet, together = read("Tom says Anna lives in Oslo.")
    assert together.text == "Tom named_with Anna", "who says so is joined to nothing else"
    assert (triplet.text, triplet.weight) == ("Anna lives_in Oslo", REPORTED)


def test_two_actors_are_two_sources() -> None:
    found = {each.text for each in read("Carla and Melanie went to the Reef Museum.")}
    assert found == {"Carla go_to Reef Museum", "Melanie go_to Reef Museum"}
