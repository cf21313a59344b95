"""Agreement with the teacher, counted by hand."""

from __future__ import annotations

from datetime import date

import pytest

from lamina.parameter.experts.agreement import agreement, texts_agree
from lamina.parameter.experts.operations import Exchange, Inquiry, MemoryOp, Output, Request, Revision
from lamina.parameter.experts.prompts import written
from lamina.parameter.experts.serving import Attempt
from lamina.parameter.experts.traces import Trace, TraceSet

SAID = Exchange((("Ada", "I live in Oslo and play the cello."),))
MOVED = Revision(("Ada lives in Rome.",), ("Ada lives in Oslo.", "Ada drinks tea."))
ASKED = Inquiry("Where does Ada live?", (), date(2024, 5, 9))


def _agree(request: Request, taught: Output, *said: Output | None) -> list[float]:
    traces = TraceSet((Trace(request, written(taught), "t"),))
    return [agreement(traces, [Attempt(request, ("x",), each)]).value for each in said]


def test_facts_are_matched_one_to_one() -> None:
    taught = ("Ada lives in Oslo.", "Ada plays the cello.")
    oslo = "Ada lives in Oslo"
    found = _agree(SAID, taught, taught, (oslo,), (oslo, oslo), (oslo, "Ada plays cello.", "Ada sings."), (), None)
    assert found == pytest.approx([1.0, 2 / 3, 0.5, 4 / 5, 0.0, 0.0])


def test_operations_agree_in_event_memory_and_text() -> None:
    rome = "Ada lives in Rome."
    found = _agree(
        MOVED,
        (MemoryOp("UPDATE", 0, rome),),
        (MemoryOp("UPDATE", 0, rome),),
        (MemoryOp("UPDATE", 0, "Ada now lives in Rome"),),
        (MemoryOp("UPDATE", 1, rome),),
        (MemoryOp("ADD", None, rome),),
        (MemoryOp("UPDATE", 0, "Ben drinks coffee"),),
        (MemoryOp("UPDATE", 0, rome), MemoryOp("DELETE", 1)),
        (),
        None,
    )
    assert found == [1, 1, 0, 0, 0, 0, 0, 0]


def test_answers_agree_but_for_case_articles_and_punctuation() -> None:
    assert _agree(ASKED, "the Hague", "Hague.", "The hague", "Rome", None) == [1, 1, 0, 0]
    assert texts_agree("Ada lives in Oslo.", "Ada lives in Rome.") and not texts_agree("Ada lives", "Ben drinks")


def test_validity_and_failures_are_counted() -> None:
    traces = TraceSet(tuple(Trace(SAID, written(("Ada lives in Oslo.",)), "t") for _ in range(4)))
    fact = ("Ada lives in Oslo.",)
    tried = [Attempt(SAID, ("a",), fact), Attempt(SAID, ("a", "b"), fact), Attempt(SAID, ("a", "b"), None)]
    found = agreement(traces, [*tried, tried[0]])
    assert (found.valid, found.failed, found.requests) == (0.5, 1, 4)
    empty = agreement(TraceSet(()), [])
    assert (empty.value, empty.valid, empty.failed) == (1.0, 1.0, 0)
