"""The people of the benchmark: who says what when, that no sentence is in both halves, and what is counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from lamina.bench.experiments.text.knowledge_updates import (
    BASELINES,
    CHANGED,
    NEARLY,
    REPEATED,
    SIDE_BY_SIDE,
    Answer,
    Arm,
    Half,
    Person,
    Side,
    Updates,
    measure,
    people,
)
from lamina.bench.experiments.text.update_sayings import SAYINGS
from lamina.bench.experiments.tiers.standing_questions import QUESTIONS
from lamina.bench.experiments.tiers.standing_sayings import COEXISTING, NEAR
from lamina.bench.synthetic import WordVectors

HALVES: tuple[Half, ...] = ("development", "held-out")
CROWD = people(0, 50, "held-out")
CHANGES = [pair for person in CROWD for pair in person.pairs if pair.changes]


@pytest.fixture(scope="module")
def found() -> Updates:
    return measure(WordVectors(), 0, 6)


def test_fifty_people_are_the_experiment() -> None:
    kinds = Counter(pair.phrasing for person in CROWD for pair in person.pairs)
    assert kinds == {"canonical": 200, "paraphrase": 120, "implicit": 80, "coexisting": 200, "near": 100}
    assert len({pair.attribute for pair in CHANGES}) == 12


def test_a_fifth_of_the_changes_arrive_the_wrong_way_round() -> None:
    late = sum(_arrives_late(person, number) for person in CROWD for number in range(len(person.pairs)))
    assert 0.15 <= late / len(CHANGES) <= 0.25


def _arrives_late(person: Person, number: int) -> bool:
    sides = [said.side for said in person.said if said.pair == number]
    return sides.index("new") < sides.index("old")


def test_what_was_said_first_is_old() -> None:
    for person in CROWD:
        for number in range(len(person.pairs)):
            at = {said.side: said.at for said in person.said if said.pair == number}
            assert at["old"] < at["new"]
            assert at.get("repeat", at["new"]) >= at["new"]


def test_each_person_says_every_sentence_and_repeats_two() -> None:
    for person in CROWD:
        sides = Counter(said.side for said in person.said)
        assert sides == {"old": len(person.pairs), "new": len(person.pairs), "repeat": REPEATED}
        assert len({said.at for said in person.said}) == len(person.said)


def test_the_halves_share_no_sentence() -> None:
    tables = [table for saying in SAYINGS.values() for table in (saying.canonical, saying.paraphrase, saying.implicit)]
    for table in (*tables, COEXISTING, NEAR):
        development, held_out = (set(half.splitlines()) for half in table.split("\n--\n"))
        assert development.isdisjoint(held_out)
        assert len(development) == len(held_out)


@pytest.mark.parametrize("half", HALVES)
def test_people_depend_on_the_seed_alone(half: Half) -> None:
    assert people(3, 4, half) == people(3, 4, half)
    assert people(3, 4, half) != people(4, 4, half)


def test_every_placeholder_is_filled() -> None:
    for half in HALVES:
        for person in people(1, 50, half):
            assert not any("{" in said.text or " | " in said.text for said in person.said)


def test_each_coexisting_pair_has_a_question_about_its_older_statement() -> None:
    """It shares words with that statement and asks with its names alone; the newer one's are not in it."""
    for statements, questions in zip(COEXISTING.split("\n--\n"), QUESTIONS.split("\n--\n"), strict=True):
        for line, question in zip(statements.splitlines(), questions.splitlines(), strict=True):
            old, _ = line.split(" | ")
            assert {word for word in "pqcbfgjkde" if f"{{{word}}}" in question} <= {
                word for word in "pqcbfgjkde" if f"{{{word}}}" in old
            }
            assert question.endswith("?")


def test_the_answers_cover_what_is_asked(found: Updates) -> None:
    crowd = people(0, 6, "held-out")
    asked = Counter(pair.phrasing for person in crowd for pair in person.pairs if pair.question)
    assert Counter(answer.phrasing for answer in found.answers) == asked
    assert set(asked) == {*CHANGED, "coexisting"}
    assert all(set(answer.first) == {"lamina", *BASELINES} for answer in found.answers)


def test_said_outright_it_is_current(found: Updates) -> None:
    """Word vectors are a poor encoder: the slots must decide, not the likeness."""
    assert found.stale("lamina", "canonical") < found.stale("nearest", "canonical")
    assert found.as_of("lamina") >= found.as_of("nearest") - 0.05


def test_nothing_is_lost_or_wrongly_closed(found: Updates) -> None:
    assert found.lost == 0, found.mistakes
    assert found.wrongly_closed <= 1 / (6 * (SIDE_BY_SIDE + NEARLY)), found.mistakes


def test_the_newest_of_two_trades_what_stands_for_what_changed(found: Updates) -> None:
    """It beats the nearest on changes and loses to it on what stands: both sides of the trade are in the run."""
    assert found.current("newest of two") > found.current("nearest")
    assert found.standing("newest of two") < found.standing("nearest")


def test_shares_are_of_their_own_questions() -> None:
    def first(side: Side) -> dict[Arm, Side]:
        return {"lamina": side, "nearest": "old", "newest of two": "new"}

    answers = (
        Answer("canonical", first("new"), first("old")),
        Answer("implicit", first("old"), first("new")),
        Answer("coexisting", first("old"), first("other")),
    )
    found = Updates(answers, 0.0, 0.0, 0, ())
    assert (found.current("lamina"), found.current("nearest"), found.current("newest of two")) == (0.5, 0.0, 1.0)
    assert (found.standing("lamina"), found.standing("nearest"), found.standing("newest of two")) == (1.0, 1.0, 0.0)
    assert (found.either("lamina"), found.either("nearest"), found.either("newest of two")) == (0.75, 0.5, 0.5)
    assert (found.as_of("lamina"), found.as_of("nearest"), found.as_of("newest of two")) == (0.5, 1.0, 0.0)
    assert (found.stale("lamina", "canonical"), found.stale("lamina", "canonical", "implicit")) == (0.0, 0.5)


class _Blind(WordVectors):
    """An encoder to which all texts are the same."""

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return np.tile(np.eye(1, self.dimension, dtype=np.float32), (len(texts), 1))

    def forget(self, texts: Iterable[str]) -> None:
        """Nothing is kept."""


def test_the_baselines_rank_by_the_encoder_alone() -> None:
    """Of equals the two earliest statements are nearest, whatever is asked: each answers at most one question."""
    blind = measure(_Blind(), 0, 2)
    for arm in BASELINES:
        assert sum(answer.first[arm] != "other" for answer in blind.answers) <= 2
        assert sum(answer.before[arm] != "other" for answer in blind.answers) <= 2
