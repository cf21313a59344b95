"""``lamina recall plan`` on a real memory, as an app of its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from lamina import Memory
from lamina.bench.synthetic import WordVectors
from lamina.cli.recall import recall

app = typer.Typer()
app.add_typer(recall, name="recall")


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr("lamina.llm.embedder", lambda *_, **__: WordVectors())
    path = tmp_path / "m.db"
    with Memory(path, embedder=WordVectors()) as memory:
        for day in range(1, 8):
            memory.add(["I walked the dog."][0], user_id="ann", timestamp=f"2024-03-0{day}", infer=False)
    return str(path)


def plan(database: str, *options: str) -> Result:
    return CliRunner().invoke(app, ["recall", "plan", "--query", "Where is my dog?", "--db", database, *options])


def document(database: str, *options: str) -> Any:
    result = plan(database, "--user", "ann", "--json", *options)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_a_short_history_is_read_whole(database: str) -> None:
    found = document(database, "--reader", "gemini-2.5-flash")
    assert found["strategy"] == "full" and found["within_budget"]
    assert found["history"]["conversations"] == found["history"]["turns"] == 7
    assert {option["strategy"] for option in found["alternatives"]} == {"rag", "hybrid"}
    assert found["transitions"][0] == {
        "strategy": "full",
        "conversations": 1,
        "tokens": found["transitions"][0]["tokens"],
        "within_budget": True,
    }


def test_a_budget_nobody_keeps_is_said(database: str) -> None:
    assert not document(database, "--reader", "gemini-2.5-flash", "--max-latency", "0.001")["within_budget"]
    shown = plan(database, "--user", "ann", "--reader", "gemini-2.5-flash", "--max-cost", "0.0000001")
    assert shown.exit_code == 0 and "NOTHING FITS" in " ".join(shown.stdout.split())


def test_another_user_has_no_history(database: str) -> None:
    result = plan(database, "--user", "bob", "--json", "--reader", "gemini-2.5-flash-lite")
    found = json.loads(result.stdout)
    assert found["history"]["turns"] == 0 and found["est_quality"] is None and found["quality_of"] is None
    assert [option["quality"] for option in found["alternatives"]] == [None, None]
    assert "Nothing is remembered" in found["why"]


def test_no_memory_is_created_by_asking(tmp_path: Path) -> None:
    result = plan(str(tmp_path / "none.db"), "--json", "--reader", "gemini-2.5-flash")
    assert result.exit_code == 1 and "no memory at" in json.loads(result.stdout)["error"]["message"]
    assert list(tmp_path.iterdir()) == []


def test_a_reader_of_unknown_window_needs_one(database: str) -> None:
    result = plan(database, "--user", "ann", "--json", "--reader", "openai:some-model")
    assert result.exit_code == 1 and "--window" in json.loads(result.stdout)["error"]["message"]


class Words:
    """A chat model that answers one word."""

    name = "openai:words"

    def count_tokens(self, text: str) -> int:
        return len(text.split())

    def chat(self, messages: Any, *, schema: Any = None, max_tokens: int = 256) -> str:
        return "word"


def test_another_model_is_timed_and_its_price_is_asked_for(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lamina.llm.chat_model", lambda *_, **__: Words())
    given = ("--user", "ann", "--json", "--reader", "openai:words", "--window", "8000", "--max-cost", "0.01")
    unknown = plan(database, *given)
    assert unknown.exit_code == 1 and "--trusted-tokens" in json.loads(unknown.stdout)["error"]["message"]
    told = (*given, "--trusted-tokens", "4000")
    refused = plan(database, *told)
    assert refused.exit_code == 1 and "--price-in" in json.loads(refused.stdout)["error"]["message"]
    result = plan(database, *told, "--price-in", "2")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["reader"] == "openai:words"
    assert found["quality_of"] == "gemini-2.5-flash, with the trusted tokens given"
    shown = plan(database, *(option for option in told if option != "--json"), "--price-in", "2")
    assert "Unknown reader" in " ".join(shown.stdout.split())
    assert found["est_cost"] == pytest.approx(found["est_tokens"] * 2e-6)
