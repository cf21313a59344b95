"""Teachers: an endpoint that is asked in its own form, and rules whose decisions are the pipeline's."""

from __future__ import annotations

from datetime import date

import pytest

from lamina.bench.scripted_llm import said, scripted
from lamina.errors import LLMError
from lamina.parameter.experts.operations import Exchange, Inquiry, MemoryOp, Remembered, Revision, answer
from lamina.parameter.experts.teachers import OpenAITeacher, RuleTeacher, StateTeacher

MOVE = Revision(("Ada lives in Rome.",), ("Ada lives in Oslo.",))
WHERE = Inquiry("Where does Ada live?", (Remembered("Ada lives in Oslo.", date(2024, 5, 3)),), date(2024, 5, 9))


def test_an_endpoint_teaches_all_three(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    script = [
        said('{"facts": ["Ada lives in Oslo."]}'),
        said('{"changes": [{"event": "UPDATE", "id": 0, "text": "Ada lives in Rome."}]}'),
        said("Oslo"),
        said('{"changes": [{"event": "UPDATE", "id": 7, "text": "Ada lives in Rome."}]}'),
    ]
    with scripted(*script) as server:
        teacher = OpenAITeacher("big", base_url=server.url, api_key="k")
        assert teacher.name == "openai:big"
        assert teacher.extract(Exchange((("Ada", "I live in Oslo."),))) == ("Ada lives in Oslo.",)
        assert teacher.update(MOVE) == (MemoryOp("UPDATE", 0, "Ada lives in Rome."),)
        assert teacher.generate(WHERE) == "Oslo"
        with pytest.raises(LLMError, match="memory 7 was not shown"):
            teacher.update(MOVE)


def test_rules_teach_what_the_pipeline_does() -> None:
    teacher = RuleTeacher()
    assert teacher.extract(Exchange((("Ada", "I live in Oslo."), ("Assistant", "How nice!")))) == (
        "Ada lives in Oslo.",
    )
    assert teacher.extract(Exchange((("Ada", "Good morning!"),))) == ()
    assert teacher.update(MOVE) == (MemoryOp("UPDATE", 0, "Ada lives in Rome."),)
    assert teacher.update(Revision(("Ada lives in Oslo.",), MOVE.memories)) == (MemoryOp("NONE", 0),)
    assert teacher.update(Revision(("Ben lives in Rome.",), MOVE.memories)) == (
        MemoryOp("ADD", None, "Ben lives in Rome."),
    )
    assert teacher.generate(WHERE) == "Oslo"
    assert teacher.generate(Inquiry("What does Ada drink?", WHERE.memories, WHERE.today)) == "not mentioned"


def test_the_context_explains_and_is_not_extracted_from() -> None:
    exchange = Exchange((("Ada", "Thanks!"),), (("Ada", "I live in Oslo."),))
    assert RuleTeacher().extract(exchange) == ()


def test_a_state_teacher_says_what_it_is() -> None:
    teacher = StateTeacher(lambda _: ["a"], lambda _: [MemoryOp("NONE")], lambda _: "b")
    assert teacher.name == "state"
    assert answer(teacher, MOVE) == (MemoryOp("NONE"),) and answer(teacher, WHERE) == "b"
