"""ConvoMem: the published layouts, mixing, the generator's validity, the reader's blindness, and the card."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamina.bench.conversations import slot_reader
from lamina.bench.conversations.convomem import (
    Ask,
    EvidenceItem,
    Reply,
    Said,
    Talk,
    TestCase,
    by,
    evaluate,
    load_convomem,
    mix,
    model_judge,
    summary,
)
from lamina.bench.conversations.convomem_answerers import fixed, matched, open_histories, retrieved, routed
from lamina.bench.conversations.convomem_budgets import PRESETS
from lamina.bench.conversations.convomem_frames import FRAMES
from lamina.bench.conversations.convomem_generator import CATEGORIES, UNKNOWN, persona
from lamina.bench.conversations.convomem_replay import Cell, cells, walked
from lamina.bench.conversations.slot_reader import valid
from lamina.bench.synthetic import WordVectors
from lamina.bench.systems.convomem import CARD
from lamina.errors import InvalidInput
from lamina.text.context_choice import Budget, QualityPrior, ReaderProfile, Strategy, evidence_hint
from lamina.text.context_fit import fitted
from lamina.text.context_prior import REFERENCE, released

ANN = persona(0, 3, fillers=60)
ITEM = {
    "question": "Where do I keep the spare key?",
    "answer": "Under the pot",
    "message_evidences": [{"speaker": "User", "text": "The spare key is under the pot."}],
    "conversations": [{"messages": [{"speaker": "User", "text": "The spare key is under the pot."}], "id": "c1"}],
    "category": "user_facts",
    "scenario_description": "home",
    "personId": "p1",
    "core_model_name": "m",
}
CASE = {"evidenceItems": [ITEM], "conversations": [*ITEM["conversations"], {"messages": []}], "contextSize": 2}


def quoted(case: TestCase) -> str:
    messages = [message for talk in case.conversations for message in talk.messages]
    return "\n".join(f'{message.speaker}, 1 May 2024: "{message.text}"' for message in messages)


# -- published files -------------------------------------------------------------------------------


def test_the_published_layouts_are_read(tmp_path: Path) -> None:
    evidence, cases, one = (tmp_path / name for name in ("a.json", "b.json", "c.json"))
    evidence.write_text(json.dumps({"evidence_items": [ITEM, ITEM], "checkpoint": "x"}), encoding="utf-8")
    cases.write_text(json.dumps([CASE, CASE]), encoding="utf-8")
    one.write_text(json.dumps(CASE), encoding="utf-8")
    assert [(c.size, len(c.evidenceItems)) for c in load_convomem(evidence)] == [(2, 2)]
    (read,) = load_convomem(one)
    assert read.evidenceItems[0].personId == "p1" and read.conversations[0].id == "c1"
    assert load_convomem(cases) == [read, read]
    assert len(load_convomem(tmp_path)) == 4


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"evidence_items": []}', '{"evidence_items": [{"question": 1}]}'])
def test_other_files_are_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "x.json"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(InvalidInput, match=r"x\.json.*no ConvoMem file"):
        load_convomem(file)
    with pytest.raises(InvalidInput, match="check the path"):
        load_convomem(tmp_path / "missing.json")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidInput, match="holds no"):
        load_convomem(tmp_path / "empty")


# -- mixing ----------------------------------------------------------------------------------------


@given(size=st.integers(1, 200), seed=st.integers(0, 5))
def test_a_mixed_history_holds_every_item_once_in_order(size: int, seed: int) -> None:
    cases = mix(ANN.items, {ANN.name: ANN.fillers}, size, seed)
    fitting = [item for item in ANN.items if len(item.conversations) <= size]
    asked = [item for case in cases for item in case.evidenceItems]
    assert Counter(item.question for item in asked) == Counter(item.question for item in fitting)
    for case in cases:
        place = {id(talk): number for number, talk in enumerate(case.conversations)}
        assert len(place) == case.size
        evidence = [talk for item in case.evidenceItems for talk in item.conversations]
        assert case.size == min(size, len(evidence) + len(ANN.fillers))
        for item in case.evidenceItems:
            positions = [place[id(talk)] for talk in item.conversations]
            assert positions == sorted(positions)
        rest = {id(talk) for talk in case.conversations} - {id(talk) for talk in evidence}
        assert rest <= {id(talk) for talk in ANN.fillers}
    assert cases == mix(ANN.items, {ANN.name: ANN.fillers}, size, seed)


def test_fillers_come_from_the_personas_that_are_asked_first() -> None:
    def talk(name: str) -> Talk:
        return Talk(messages=(Said(speaker="User", text=name),))

    def item(person: str, number: int) -> EvidenceItem:
        own = talk(f"{person} evidence {number}")
        return EvidenceItem(
            question="?", answer="!", message_evidences=own.messages, conversations=(own,), personId=person
        )

    items = [item("a", 0), item("a", 1), item("a", 2), item("b", 0)]
    fillers: dict[str | None, list[Talk]] = {who: [talk(f"{who} {n}") for n in range(50)] for who in ("a", "b", "c")}
    (case,) = mix(items, fillers, 44)
    drawn = Counter(t.messages[0].text.split()[0] for t in case.conversations if "evidence" not in t.messages[0].text)
    assert drawn == {"a": 30, "b": 10}
    (crowded,) = mix(items, {**fillers, "a": fillers["a"][:3], "b": []}, 20)
    drawn = Counter(t.messages[0].text.split()[0] for t in crowded.conversations)
    assert drawn == {"a": 3 + 3, "b": 1, "c": 13}
    with pytest.raises(InvalidInput, match="size=0"):
        mix(items, fillers, 0)


# -- the generator ---------------------------------------------------------------------------------


def test_every_item_passes_the_checks_of_the_paper() -> None:
    people = [ANN, persona(1, 3, fillers=1), persona(0, 4, fillers=1)]
    assert all(valid(item) for one in people for item in one.items)
    broken = ANN.items[2]
    assert not valid(broken.model_copy(update={"message_evidences": broken.message_evidences[:-1]}))
    assert not valid(broken.model_copy(update={"message_evidences": (*broken.message_evidences,) * 2}))


def test_a_persona_asks_each_category_with_one_to_six_messages() -> None:
    counts = Counter((item.category, len(item.message_evidences)) for item in ANN.items)
    assert counts == {(category, n): 1 for category in CATEGORIES for n in range(1, 7)}
    for item in ANN.items:
        for evidence, talk in zip(item.message_evidences, item.conversations, strict=True):
            assert talk.messages.count(evidence) == 1
    assert persona(0, 3, fillers=60) == ANN != persona(0, 4, fillers=60)


def test_fillers_answer_nothing_yet_speak_of_what_is_asked() -> None:
    """They change no answer, in evidence's own words: the reader is right in the whole history."""
    (case,) = mix(ANN.items, {ANN.name: ANN.fillers}, 186)
    context = quoted(case)
    assert all(slot_reader.judge(item, slot_reader.answer(item.question, context)) for item in case.evidenceItems)
    alone = quoted(TestCase(evidenceItems=(), conversations=ANN.fillers))
    assert {slot_reader.answer(item.question, alone) for item in ANN.items} == {UNKNOWN}
    topics = [topic for frame in FRAMES.values() for topic in frame.topics]
    near = sum(any(topic in m.text for topic in topics) for talk in ANN.fillers for m in talk.messages)
    assert near > len(ANN.fillers)  # more than one message of each filler is about a topic that is asked about


def test_near_misses_do_not_parse_as_assertions() -> None:
    for frame in FRAMES.values():
        for topic in frame.topics:
            question = frame.question(frame.questions[0], topic)
            said = [line.format(t=topic, v=frame.values[0], k="aunt") for line in (*frame.near, *frame.related)]
            context = "\n".join(f'{frame.speaker}, 1 May 2024: "{line}"' for line in said)
            assert slot_reader.answer(question, context) == UNKNOWN
            own = frame.own[0].format(t=topic, v=frame.values[0])
            assert slot_reader.answer(question, f'{frame.speaker}, 1 May 2024: "{own}"') == frame.values[0]


def test_the_reader_knows_only_what_is_in_front_of_it() -> None:
    item = next(i for i in ANN.items if i.category == "user_facts" and len(i.message_evidences) == 3)
    lines = [f'{m.speaker}, 1 May 2024: "{m.text}"' for m in item.message_evidences]
    assert set(slot_reader.answer(item.question, "\n".join(lines)).split("; ")) == set(item.answer.split("; "))
    part = slot_reader.answer(item.question, lines[1])
    assert part in item.answer.split("; ") and not slot_reader.judge(item, part)
    assert slot_reader.answer(item.question, lines[0].replace("User", "Assistant", 1)) == UNKNOWN
    assert slot_reader.answer("What is the weather?", "\n".join(lines)) == UNKNOWN


def test_of_a_fact_that_changed_the_last_line_counts() -> None:
    item = next(i for i in ANN.items if i.category == "changing_facts" and len(i.message_evidences) == 4)
    lines = [f'{m.speaker}, 1 May 2024: "{m.text}"' for m in item.message_evidences]
    assert slot_reader.answer(item.question, "\n".join(lines)) == item.answer
    assert slot_reader.answer(item.question, "\n".join(reversed(lines))) != item.answer


# -- measuring -------------------------------------------------------------------------------------


def test_evaluate_counts_evidence_tokens_and_answers() -> None:
    items = ANN.items[:4]
    case = TestCase(evidenceItems=items, conversations=(), contextSize=7)
    opened = []

    @contextmanager
    def answerer(given: TestCase) -> Iterator[Ask]:
        opened.append(given)

        def ask(question: str) -> Reply:
            item = next(item for item in items if item.question == question)
            half = item.message_evidences[: (len(item.message_evidences) + 1) // 2]
            return Reply(" | ".join(m.text for m in half), 11, "yes" if item is items[0] else None, "half")

        yield ask

    rows = evaluate(answerer, [case], lambda item, said: said == "yes")
    assert opened == [case]  # once a case, not once a question
    assert [row.found for row in rows] == [1.0, 0.5, 2 / 3, 0.5]
    assert [row.correct for row in rows] == [True, None, None, None]
    assert {(row.size, row.tokens, row.strategy) for row in rows} == {(7, 11, "half")}
    total = summary(rows)
    assert total["recall_all"] == 0.25 and total["accuracy"] == 1.0 and total["questions"] == 4
    assert list(by(rows, lambda row: row.evidence)) == ["1", "2", "3", "4"]
    assert summary([]) == {"questions": 0}


def test_a_model_judges_in_one_word() -> None:
    class Strict:
        name = "strict"

        def chat(self, messages: Any, *, schema: Any = None, max_tokens: int = 256) -> Any:
            asked = json.loads(messages[-1]["content"])
            return " right." if asked["reference"] in asked["answer"] else "WRONG"

    judge = model_judge(Strict())  # type: ignore[arg-type]
    item = EvidenceItem.model_validate(ITEM)
    assert judge(item, "It is Under the pot.") and not judge(item, "No idea")


def test_the_strategies_answer_a_small_history() -> None:
    cases = mix(ANN.items, {ANN.name: ANN.fillers}, 12)[:2]
    asked = sum(len(case.evidenceItems) for case in cases)
    with open_histories(WordVectors()) as histories:
        full = evaluate(fixed(histories, "full", slot_reader.read), cases, slot_reader.judge)
        assert summary(full)["accuracy"] == summary(full)["recall_all"] == 1.0 and len(full) == asked
        for strategy in ("rag", "hybrid"):
            rows = summary(evaluate(fixed(histories, strategy), cases))
            assert rows["tokens"] < summary(full)["tokens"] and rows["recall"] > 0 and rows["accuracy"] is None
        wide = ReaderProfile(name="wide", window=10**6)
        narrow, tiny = (ReaderProfile(name="narrow", window=window, local=True) for window in (2_000, 1_000))
        for reader, expected in ((wide, {"full": asked}), (narrow, {"hybrid": asked}), (tiny, {"rag": asked})):
            rows = summary(evaluate(routed(histories, reader, Budget(), prior=QualityPrior()), cases))
            assert rows["strategies"] == expected


def test_a_published_case_with_other_speakers_and_empty_messages_is_answered(tmp_path: Path) -> None:
    odd = json.loads(json.dumps(CASE))
    odd["conversations"].append({"messages": [{"speaker": "Deborah", "text": "Hi."}, {"speaker": "User", "text": " "}]})
    (tmp_path / "x.json").write_text(json.dumps(odd), encoding="utf-8")
    with open_histories(WordVectors()) as histories:
        (row,) = evaluate(fixed(histories, "full"), load_convomem(tmp_path / "x.json"))
    assert row.all_found and row.correct is None


def test_as_many_tokens_are_read_as_the_other_reads() -> None:
    cases = mix(ANN.items, {ANN.name: ANN.fillers}, 30)[:1]
    with open_histories(WordVectors()) as histories:
        hybrid = fixed(histories, "hybrid")
        given, got = evaluate(hybrid, cases), evaluate(matched(histories, hybrid), cases)
        assert all(0.9 * own.tokens <= same.tokens <= own.tokens for own, same in zip(given, got, strict=True))
        few, many = (summary(evaluate(retrieved(histories, k), cases)) for k in (5, 30))
    assert few["recall"] <= many["recall"] and few["tokens"] < many["tokens"] / 3


# -- the card --------------------------------------------------------------------------------------


def test_replay_scores_cells_with_a_choice() -> None:
    found = cells(released())
    runs = {(c.category, c.evidence) for c in released() if c.reader == REFERENCE and c.strategy == "rag"}
    assert {(cell.category, cell.evidence) for cell in found} == runs
    for cell in found:
        for budget in PRESETS.values():
            utilities = {s: cell.utility(s, budget) for s in cell.points}
            within = [s for s in cell.points if budget.allows(cell.usage(s))]
            assert cell.within(budget) == within
            assert cell.best(budget, bound=False) == max(utilities.values())
            assert cell.best(budget, bound=True) == max(utilities[s] for s in within or cell.points)


def test_the_walker_sees_only_what_it_chose() -> None:
    """What another strategy cost, took and got right in a cell changes no plan of the walk."""
    run = [cell for cell in cells(released()) if (cell.category, cell.evidence) == ("user_facts", 1)]
    reader, prior = fitted(REFERENCE, leave_out=("user_facts",)), QualityPrior(leave_out=("user_facts",))
    budget = PRESETS["balanced"]
    chosen = walked(run, reader, budget, prior)
    assert set(chosen) == {"full", "rag"}

    def spoilt(cell: Cell, kept: Strategy) -> Cell:
        points = {
            s: replace(p, accuracy=0.5) if s == kept else replace(p, usd=9 * p.usd, seconds=9 * p.seconds, accuracy=0.0)
            for s, p in cell.points.items()
        }
        return replace(cell, points=points)

    assert walked([spoilt(c, s) for c, s in zip(run, chosen, strict=True)], reader, budget, prior) == chosen
    slower = [replace(c, points={s: replace(p, seconds=4 * p.seconds) for s, p in c.points.items()}) for c in run]
    assert walked(slower, reader, budget, prior) != chosen


def test_questions_come_in_both_hints_whatever_their_evidence() -> None:
    people = [persona(number, 3, fillers=1) for number in range(20)]
    items = [item for one in people for item in one.items]
    for count in range(1, 7):
        hints = [bool(evidence_hint(item.question)) for item in items if len(item.message_evidences) == count]
        assert 0.15 < sum(hints) / len(hints) < 0.55
    assert {item.category for item in items if evidence_hint(item.question)} == set(CATEGORIES)


def test_the_card_measures_every_claim_at_toy_size() -> None:
    measured = {m.claim.claim: m for m in CARD.measure(0, "smoke")}
    missing = [metric for metric, m in measured.items() if m.ours is None]
    assert len(missing) == 2 and all("mem0" in metric for metric in missing)  # asked at 300 conversations only
    assert next(m for m in measured.values() if m.claim.metric == "valid items").holds
