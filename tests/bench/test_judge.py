"""The judge through a real HTTP server: what it is shown, what it may say, and what happens if it says else."""

from __future__ import annotations

import json
import sys
from hashlib import sha256
from pathlib import Path

import pytest

from lamina.bench.conversations import judge
from lamina.errors import LLMError
from lamina.llm.openai import OpenAIChat

sys.path.append(str(Path(__file__).parent.parent / "llm"))
from llm_server import Step, failed, said, scripted


def asked(*steps: Step) -> tuple[bool, list[str]]:
    with scripted(*steps) as server:
        right = judge.is_right(
            OpenAIChat("m", base_url=server.url, api_key="k", retries=0), "Who?", "Ann", "It was Ann"
        )
        return right, [message["content"] for message in server.bodies()[-1]["messages"]]


@pytest.mark.parametrize(("verdict", "right"), [("right", True), ("wrong", False)])
def test_the_verdict(verdict: str, right: bool) -> None:
    found, messages = asked(said(json.dumps({"verdict": verdict})))
    assert found is right
    assert messages[0].startswith(judge.PROMPT)
    assert "Question: Who?\nReference: Ann\nAnswer: It was Ann" in messages[1]


def test_another_word_is_asked_again_and_never_taken() -> None:
    assert asked(said("I think so"), said('{"verdict": "maybe"}'), said('```json\n{"verdict": "right"}\n```'))[0]
    with pytest.raises(LLMError, match="no valid Verdict"):
        asked(*[said("Correct!")] * 3)
    with pytest.raises(LLMError):
        asked(failed(401, "no key"))


def test_the_definition_names_model_and_prompt() -> None:
    assert sha256(judge.PROMPT.encode()).hexdigest() == judge.PROMPT_SHA256
    text = judge.definition("openai:some-model")
    assert "openai:some-model" in text and judge.PROMPT_SHA256[:12] in text
