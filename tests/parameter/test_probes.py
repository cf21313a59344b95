"""Questions follow from claims and sentences; what is held out is never taught; decoys keep the form."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamina.cube.cube import Claim
from lamina.errors import InvalidInput
from lamina.parameter.probes import _ATTRIBUTES, Probe, decoys, probes

_SLOTS = st.sampled_from(
    [*_ATTRIBUTES, "favourite.colour", "relative.sister", "uses.car", "employer.also", "plan.x", None]
)
_NAMES = st.sampled_from(["Alice", "User", "Bo Hess", "User's sister Anna", "Zoë"])
_CLAIMS = st.one_of(st.none(), st.builds(Claim, _NAMES, _SLOTS, st.sampled_from(["denver", "rex", None])))
_WORD = st.sampled_from(["Alice", "User", "lives", "at", "is", "Rex", "1974", "the", "teal", "quickly", "{x}", "%s"])
_TEXTS = st.lists(_WORD, min_size=1, max_size=8).map(" ".join)


@given(st.lists(st.tuples(_TEXTS, _CLAIMS), min_size=1, max_size=5))
def test_held_out_wordings_are_never_taught(memories: list[tuple[str, Claim | None]]) -> None:
    made = probes([text for text, _ in memories], [claim for _, claim in memories])
    assert not {probe.question for probe in made.train} & {probe.question for probe in made.held_out}
    assert {probe.memory for probe in made.train} == set(range(len(memories)))
    for probe in (*made.train, *made.held_out):
        assert probe.value and probe.value in probe.answer


def test_a_claim_is_asked_for_by_its_attribute() -> None:
    made = probes(["Alice lives in New York."], [Claim("Alice", "residence", "new york")])
    asked = [probe.question for probe in made.train]
    assert "Where does Alice live?" in asked and "What is Alice's place of residence?" in asked
    assert len(asked) == 6 and len(made.held_out) == 3
    assert {(probe.answer, probe.value) for probe in made.train} == {("Alice lives in New York.", "New York")}


@pytest.mark.parametrize(
    ("text", "claim", "question", "answer"),
    [
        ("User works at Initech", Claim("User", "employer", "initech"), "Where do I work?", "You work at Initech."),
        ("User is single.", Claim("User", "allergy", "nuts"), "What am I allergic to?", "You are single."),
        (
            "User's favourite colour is teal.",
            Claim("User", "favourite.colour", "teal"),
            "What is my favourite colour?",
            "Your favourite colour is teal.",
        ),
        ("User studies law.", Claim("User", "major", "law"), "What do I study?", "You study law."),
        ("User was born in 1974.", Claim("User", "birth", "1974"), "When was I born?", "You were born in 1974."),
        ("James drives a Saab", Claim("James", "uses.car", "saab"), "What is James' car?", "James drives a Saab."),
        ("User's dog is called Rex.", None, "Continue: Your dog is called", "Your dog is called Rex."),
        ("Greta's cat is called Mitsu.", None, "What do you know about Greta?", "Greta's cat is called Mitsu."),
    ],
)  # fmt: skip
def test_wordings_agree_with_who_is_meant(text: str, claim: Claim | None, question: str, answer: str) -> None:
    assert (question, answer) in [(probe.question, probe.answer) for probe in probes([text], [claim]).train]


def test_a_subject_of_two_memories_is_not_asked_for_by_name() -> None:
    one = probes(["Ann owns a kiln."]).train
    two = probes(["Ann owns a kiln.", "Ann sings in a choir."]).train
    assert any(probe.question == "What do you know about Ann?" for probe in one)
    assert not any("about Ann" in probe.question for probe in two) and len(two) == 8


def test_decoys_differ_in_the_value_alone() -> None:
    asked = probes(["Alice lives in Denver.", "Bo's pin is 4071."]).held_out
    made = decoys(asked, seed=1, count=3)
    assert made == decoys(asked, seed=1, count=3) != decoys(asked, seed=2, count=3)
    assert len({probe.memory for probe in made}) == 6 and len(made) == 3 * len(asked)
    assert {probe.question for probe in made} == {probe.question for probe in asked}
    known = {probe.question: probe for probe in asked}
    for probe in made:
        true = known[probe.question]
        assert probe.value != true.value and len(probe.value) == len(true.value)
        assert probe.answer.replace(probe.value, "") == true.answer.replace(true.value, "")
        assert [(c.isupper(), c.isdigit()) for c in probe.value] == [(c.isupper(), c.isdigit()) for c in true.value]


def test_texts_and_claims_must_fit() -> None:
    with pytest.raises(InvalidInput, match="one claim"):
        probes(["a b"], [])
    with pytest.raises(InvalidInput, match="must not be empty"):
        probes(["  "])
    assert probes([]).train == ()
    assert isinstance(probes(["Hi"]).train[0], Probe)
