"""Prompts, traces and their cleaning: what is written reads back, and what cannot be executed is counted out."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamina.errors import InvalidInput
from lamina.parameter.experts.cleaning import clean
from lamina.parameter.experts.operations import Exchange, Inquiry, MemoryOp, Remembered, Revision, execute
from lamina.parameter.experts.prompts import messages, read, written
from lamina.parameter.experts.traces import Trace, TraceRecorder, TraceSet

ADA = Exchange((("Ada", "I live in Oslo."), ("Assistant", "How nice!")), (("Ada", "Hi!"),))
MOVE = Revision(("Ada lives in Rome.",), ("Ada lives in Oslo.", "Ada drinks tea."))
WHERE = Inquiry("Where does Ada live?", (Remembered("Ada lives in Oslo.", date(2024, 5, 3)),), date(2024, 5, 9))
TEXT = st.text(st.characters(blacklist_categories=("Cs",)), max_size=20)


class Scripted:
    """A teacher that says what it was told to."""

    name = "scripted"

    def extract(self, exchange: Exchange) -> list[str]:
        return ["Ada lives in Oslo."]

    def update(self, revision: Revision) -> list[MemoryOp]:
        return [MemoryOp("UPDATE", 0, "Ada lives in Rome.")] if revision.facts else []

    def generate(self, inquiry: Inquiry) -> str:
        return "Oslo"


@given(st.lists(TEXT, max_size=3), TEXT, TEXT)
def test_a_trace_reads_back_as_it_was_written(facts: list[str], speaker: str, said: str) -> None:
    for trace in (
        Trace(Exchange(((speaker, said),)), written(tuple(facts)), "t"),
        Trace(Revision(tuple(facts), (said,)), said, speaker),
        Trace(Inquiry(said, (Remembered(speaker, date(2020, 2, 29)),), date(2024, 1, 1)), speaker, "t"),
    ):
        assert Trace.from_json(trace.to_json()) == trace


def test_outputs_read_back_as_they_were_written() -> None:
    ops = (MemoryOp("ADD", None, 'says "hé"'), MemoryOp("UPDATE", 1, "x"), MemoryOp("DELETE", 0), MemoryOp("NONE"))
    assert read(MOVE, written(ops)) == ops
    assert read(ADA, written(("a", "b"))) == ("a", "b") and read(ADA, '{"facts": []}') == ()
    assert read(MOVE, "[]") == () and read(WHERE, " Oslo\n") == "Oslo"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[", "not the asked JSON"),
        ('[{"event": "MOVE", "id": 0, "text": "x"}]', "not the asked JSON"),
        ('[{"event": "UPDATE", "id": 2, "text": "x"}]', "memory 2 was not shown: there are 2"),
        ('[{"event": "DELETE", "id": -1, "text": null}]', "memory -1 was not shown"),
        ('[{"event": "DELETE", "id": null, "text": null}]', "names no memory"),
        ('[{"event": "ADD", "id": null, "text": " "}]', "has no text"),
    ],
)
def test_operations_that_cannot_be_executed_are_no_answer(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        read(MOVE, text)
    with pytest.raises(ValueError, match="empty"):
        read(WHERE, " ")


def test_execution_keeps_places_whatever_is_deleted_before() -> None:
    ops = [MemoryOp("DELETE", 0), MemoryOp("UPDATE", 2, "C"), MemoryOp("ADD", None, "d"), MemoryOp("NONE", 1)]
    assert execute(["a", "b", "c"], ops) == ["b", "C", "d"]
    assert execute(["a"], [MemoryOp("UPDATE", 5, "x"), MemoryOp("DELETE", 7)]) == ["a"]


def test_a_prompt_shows_places_days_and_examples_in_order() -> None:
    assert messages(MOVE)[1]["content"] == (
        "Memories:\n0. Ada lives in Oslo.\n1. Ada drinks tea.\nNew:\n- Ada lives in Rome."
    )
    assert messages(WHERE)[1]["content"] == (
        "Memories:\n3 May 2024: Ada lives in Oslo.\nToday is 9 May 2024. Where does Ada live?"
    )
    shown = messages(ADA, [(ADA, ("Ada lives in Oslo.",))])
    assert [message["role"] for message in shown] == ["system", "user", "assistant", "user"]
    assert shown[2]["content"] == '{"facts": ["Ada lives in Oslo."]}'


def test_a_recorder_passes_on_and_writes_down_all_it_sees(tmp_path: Path) -> None:
    recorder = TraceRecorder(Scripted(), tmp_path / "t.jsonl")
    assert recorder.extract(ADA) == ("Ada lives in Oslo.",)
    assert recorder.update(MOVE) == (MemoryOp("UPDATE", 0, "Ada lives in Rome."),)
    assert recorder.update(Revision(())) == () and recorder.generate(WHERE) == "Oslo"
    traces = TraceSet.load(tmp_path / "t.jsonl")
    assert [trace.op for trace in traces] == ["extract", "update", "update", "generate"]
    assert [read(trace.request, trace.output) for trace in traces][2] == ()
    assert traces.teacher == "scripted" and len(traces.of("update")) == 2
    traces.save(tmp_path / "again.jsonl")
    assert TraceSet.load(tmp_path / "again.jsonl").sha256 == traces.sha256 != traces.first(3).sha256


def test_a_broken_line_is_named(tmp_path: Path) -> None:
    file = tmp_path / "t.jsonl"
    file.write_text(Trace(ADA, "x", "t").to_json() + '\n{"op": "extr')
    with pytest.raises(InvalidInput, match="line 2"):
        TraceSet.load(file)
    with pytest.raises(InvalidInput, match="'dream'"):
        Trace.from_json('{"op": "dream", "request": {}, "output": "", "teacher": ""}')


def test_cleaning_keeps_what_is_right_and_counts_the_rest_by_reason() -> None:
    good = [
        Trace(ADA, '{"facts":["Ada lives in Oslo."]}', "t"),
        Trace(Exchange((("Ada", "Hello!"),)), '{"facts": []}', "t"),  # nothing said, nothing learnt: kept
        Trace(MOVE, '[{"event": "UPDATE", "id": 0, "text": "Ada lives in Rome."}]', "t"),
        Trace(MOVE, '[{"event": "NONE", "id": null, "text": null}]', "t"),
        Trace(WHERE, "Oslo", "t"),
        Trace(WHERE, "not mentioned", "t"),
    ]
    bad = [
        ("malformed", Trace(ADA, "Ada lives in Oslo.", "t")),
        ("malformed", Trace(MOVE, '[{"event": "DELETE", "id": 9, "text": null}]', "t")),
        ("empty", Trace(ADA, '{"facts": [" "]}', "t")),
        ("repeated", Trace(ADA, '{"facts": ["Ada lives in Oslo.", "ada lives in oslo."]}', "t")),
        ("ungrounded", Trace(ADA, '{"facts": ["Ada works as a pilot in Oslo."]}', "t")),
        ("ungrounded", Trace(MOVE, '[{"event": "ADD", "id": null, "text": "Bo plays chess."}]', "t")),
        ("ungrounded", Trace(WHERE, "Paris", "t")),
        ("duplicate", good[4]),
    ]
    cleaned = clean([*good, *(trace for _, trace in bad)])
    assert cleaned.rejected == {"malformed": 2, "empty": 1, "repeated": 1, "ungrounded": 3, "duplicate": 1}
    assert [trace.request for trace in cleaned.traces] == [trace.request for trace in good]
    assert cleaned.traces.traces[0].output == '{"facts": ["Ada lives in Oslo."]}'  # in the one layout students learn
    assert clean(cleaned.traces).traces == cleaned.traces
