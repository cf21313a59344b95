"""``chat`` with the real local model through a pipe, and its commands."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from typer.testing import Result

Run = Callable[..., Result]
Value = Callable[..., Any]


class Echo:
    """Answers with the last line it was asked, so that commands can be tested without waiting for a model."""

    name = "echo"

    def chat(self, messages: Any, *, schema: Any = None, max_tokens: int = 256) -> str:
        return f"You asked: {messages[-1]['content'].splitlines()[-1]}"

    def stream(self, messages: Any, *, max_tokens: int = 256) -> Iterator[str]:
        yield self.chat(messages)

    def count_tokens(self, text: str) -> int:
        return len(text.split())


@pytest.fixture
def echo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lamina.llm.chat_model", lambda *_, **__: Echo())


@pytest.mark.model
def test_the_local_model_answers_from_memory_and_cites(value: Value, lamina: Run, local_model: None) -> None:
    value("add", "I am allergic to walnuts.", "--speaker", "Jonas", "--at", "2025-01-12")
    value("add", "The train leaves at nine.", "--at", "2025-01-13")
    result = lamina("chat", "--json", input="What is Jonas allergic to?\n\n/quit\nnever asked\n")
    assert result.exit_code == 0
    (line,) = result.stdout.splitlines()
    reply = json.loads(line)
    assert "walnut" in reply["answer"].lower()
    assert [cited["text"] for cited in reply["cited"]] == ["I am allergic to walnuts."]
    assert reply["cited"][0]["said"].startswith("2025-01-12") and reply["prompt_tokens"] > 20


def test_both_sides_are_kept_but_only_people_answer_questions(value: Value, lamina: Run, echo: None) -> None:
    value("add", "The boat is called Halfmoon.", "--no-infer")
    lamina("chat", input="What is the boat called?\n")
    turns = value("list", "--type", "turn")["results"]
    assert [turn["role"] for turn in turns] == ["assistant", "user", "user"]
    reply = json.loads(lamina("chat", "--json", input="Tell me the name of the boat.\n").stdout)
    assert "Halfmoon" in str(reply) or reply["cited"] == []
    assert all("You asked" not in cited["text"] for cited in reply["cited"])


def test_no_store_keeps_nothing(value: Value, lamina: Run, echo: None) -> None:
    lamina("chat", "--no-store", input="I live in Porto.\n")
    assert value("list")["results"] == []


def test_memories_are_listed_and_forgotten_by_number(value: Value, lamina: Run, echo: None) -> None:
    for text in ("I like boats.", "The code is heron-7719."):
        value("add", text, "--no-infer")
    result = lamina("chat", input="/memories\n/forget 1\n/forget 9\n/what\n")
    assert result.exit_code == 0 and "heron-7719" in result.stdout and "Erased 1" in result.stderr
    assert [row["memory"] for row in value("list")["results"]] == ["I like boats."]


def test_a_model_that_does_not_exist_is_an_error(lamina: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAMINA_LLM", "nowhere:model")
    result = lamina("chat", input="Hello?\n")
    assert result.exit_code == 1 and "nowhere" in result.stderr
