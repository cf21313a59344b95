"""The dialogues: nothing of the test is in training, and the loop with a perfect teacher ends in the truth."""

from __future__ import annotations

import re
from datetime import date

import pytest

from lamina.bench.experiments.operations.operation_dialogues import (
    ATTRIBUTES,
    NAMES,
    Asked,
    Statement,
    dialogues,
)
from lamina.bench.experiments.operations.operation_loop import (
    change_f1,
    exact,
    fact_f1,
    is_right,
    one_by_one,
    play,
    says,
    state_teacher,
)
from lamina.bench.experiments.operations.operation_truth import decide, reply, statement_of
from lamina.bench.synthetic import WordVectors
from lamina.parameter.experts.operations import Inquiry, MemoryOp, Remembered, Revision
from lamina.parameter.experts.teachers import RuleTeacher

OSLO, ROME = Statement("Ada", "residence", "Oslo"), Statement("Ada", "residence", "Rome")
TRAIN, TEST = dialogues(40, "train", 3), dialogues(40, "test", 3)


def _words(held_out: bool) -> list[str]:
    return [
        exchange.said[0][1] for each in TEST for _, exchange, stated, held in each.turns if stated and held == held_out
    ]


def test_the_sizes_are_those_promised() -> None:
    assert len(set(NAMES)) == 40 and len(ATTRIBUTES) == 12
    assert all(len(set(form.ways)) == 6 and all("{v}" in way for way in form.ways) for form in ATTRIBUTES.values())
    assert dialogues(2, "train", 3)[1].turns == TRAIN[1].turns != dialogues(2, "train", 4)[1].turns


def test_values_of_the_test_are_in_no_training_dialogue() -> None:
    said = " ".join(exchange.said[0][1] for each in TRAIN for _, exchange, _, _ in each.turns)
    for form in ATTRIBUTES.values():
        train, test = form.train.split(", "), form.test.split(", ")
        assert not set(train) & set(test)
        assert not [value for value in test if re.search(rf"\b{value}\b", said)]


def test_held_out_wordings_are_in_no_training_dialogue_and_in_half_of_the_test() -> None:
    frames = [way.partition("{v}") for form in ATTRIBUTES.values() for way in form.ways[4:]]
    patterns = [re.compile(rf"\b{re.escape(head)}[\w ]+{re.escape(tail)}") for head, _, tail in frames]
    said = [exchange.said[0][1] for each in TRAIN for _, exchange, stated, _ in each.turns if stated]
    assert not [text for text in said for pattern in patterns if pattern.search(text)]
    assert not any(held for each in TRAIN for *_, held in each.turns)
    assert 0.35 < len(_words(True)) / (len(_words(True)) + len(_words(False))) < 0.7
    held_questions = {form.questions[2].format(n=name) for form in ATTRIBUTES.values() for name in NAMES}
    assert not held_questions & {asked.question for each in TRAIN for asked in each.questions}
    assert held_questions & {asked.question for each in TEST for asked in each.questions}


@pytest.mark.parametrize("split", [TRAIN, TEST], ids=["train", "test"])
def test_every_statement_reads_back_from_its_canonical_sentence(split: list) -> None:  # type: ignore[type-arg]
    statements = [statement for each in split for *_, stated, _ in each.turns for statement in stated]
    assert all(statement_of(statement.text) == statement for statement in statements)
    assert {statement.standing for statement in statements} == {"holds", "ended", "never"}
    assert statement_of("Nothing of the kind.") is None


@pytest.mark.parametrize(
    ("fact", "memories", "expected"),
    [
        (ROME, (), MemoryOp("ADD", None, ROME.text)),
        (ROME, (OSLO,), MemoryOp("UPDATE", 0, ROME.text)),
        (OSLO, (ROME, OSLO), MemoryOp("UPDATE", 0, OSLO.text)),
        (OSLO, (OSLO,), MemoryOp("NONE", 0)),
        (Statement("Ada", "residence", "Oslo", "ended"), (ROME,), MemoryOp("NONE")),
        (Statement("Ada", "residence", "Oslo", "ended"), (OSLO,), MemoryOp("DELETE", 0)),
        (Statement("Ada", "residence", "Oslo", "never"), (ROME,), MemoryOp("ADD", None, "Ada does not live in Oslo.")),
        (OSLO, (Statement("Ada", "residence", "Oslo", "never"),), MemoryOp("UPDATE", 0, OSLO.text)),
        (Statement("Ben", "residence", "Rome"), (OSLO,), MemoryOp("ADD", None, "Ben lives in Rome.")),
    ],
)
def test_the_right_operation(fact: Statement, memories: tuple[Statement, ...], expected: MemoryOp) -> None:
    assert decide(Revision((fact.text,), tuple(memory.text for memory in memories))) == (expected,)


def test_the_right_answer_is_what_the_shown_memories_say() -> None:
    day, asked = date(2024, 1, 1), Asked("Where does Ada live?", "Rome", "residence", "Ada")
    shown = (Remembered("Ben lives in Rome.", day), Remembered(OSLO.text, day))
    assert reply(Inquiry(asked.question, shown, day), asked) == "Oslo"
    assert reply(Inquiry(asked.question, shown[:1], day), asked) == "not mentioned"


def test_the_loop_with_the_state_ends_in_the_truth_and_rules_do_worse() -> None:
    talks = dialogues(6, "test", 1, questions=10)
    state, rules = state_teacher(talks), RuleTeacher()
    known = exact(play(talks, one_by_one(state), WordVectors()))
    assert known > 0.5  # what is missing was not among the three nearest by these vectors
    assert exact(play(talks, one_by_one(rules), WordVectors())) < known
    assert exact(play(talks, lambda requests: [None] * len(requests), WordVectors())) == 0.0


def test_a_fact_counts_only_with_name_value_and_polarity() -> None:
    assert says("Ada lives in Oslo.", OSLO) and says("Ada now lives in Oslo", OSLO)
    for wrong in (
        "Ada lives in Rome.",
        "Ben lives in Oslo.",
        "Ada no longer lives in Oslo.",
        "Oslo, says Ada, is a city.",
    ):
        assert not says(wrong, OSLO)
    assert fact_f1([["Ada lives in Oslo.", "Ada lives in Oslo."], None], [[OSLO], [ROME]]) == pytest.approx(0.5)
    assert fact_f1([[]], [[]]) == 1.0


def test_doing_nothing_changes_nothing_and_scores_nothing() -> None:
    revision = Revision((ROME.text,), (OSLO.text, "Ada drinks tea."))
    right = [MemoryOp("UPDATE", 0, ROME.text)]
    assert change_f1([revision], [right], [right]) == 1.0
    assert change_f1([revision], [None], [right]) == 0.0
    assert change_f1([revision], [[MemoryOp("UPDATE", 1, ROME.text)]], [right]) == pytest.approx(0.5)
    assert change_f1([revision], [[MemoryOp("DELETE", 1)]], [[MemoryOp("NONE", 0)]]) == 0.0
    assert is_right(" The Oslo.", "oslo") and not is_right("Oslo and Rome", "Oslo")
