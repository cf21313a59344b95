"""The demo shows what it says, in figures of its own run, and fails when a step fails."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from lamina.demo import conversation, story

Run = Callable[..., Result]


def test_the_conversation_is_as_described() -> None:
    talk = conversation.load()
    text = talk.text()
    assert len(talk.sessions) >= 8 and 100 <= talk.turns <= 150
    assert {message["name"] for session in talk.sessions for message in session} == {"Mira", "Jonas"}
    assert text.count(talk.secret) == 1, "the proof of forgetting looks for a string said once"
    dates = [session[0]["timestamp"] for session in talk.sessions]
    assert dates == sorted(dates) and talk.change.before < talk.change.after <= talk.today


def test_the_whole_demo_without_a_model(lamina: Run, tmp_path: Path) -> None:
    kept = tmp_path / "kept" / "demo.db"
    result = lamina("demo", "--fast", "--json", "--keep", str(kept), db=None)
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    talk = conversation.load()
    assert report["ingested"]["turns"] == talk.turns and report["ingested"]["facts"] > 20
    assert report["ingested"]["replaced"]
    assert "Lisbon" in report["changed"]["before"] and "Porto" in report["changed"]["after"]
    assert any(row["reason"] for row in report["changed"]["history"])
    assert report["forgotten"]["places_before"] > 0 == report["forgotten"]["places_after"]
    assert report["measured"]["messages_per_second"] > 0 and report["measured"]["search_p50_ms"] > 0
    assert len(report["questions"]) == len(talk.questions)
    assert talk.secret not in result.stdout
    assert story.occurrences(kept, talk.secret) == 0 < story.occurrences(kept, "Porto")
    assert max(map(len, result.stderr.splitlines())) <= 80
    assert lamina("demo", "--fast", "--keep", str(kept), db=None).exit_code == 1, "a kept database is never touched"


@pytest.mark.model
def test_the_model_answers_from_the_memories(lamina: Run, local_model: None) -> None:
    """Each answer is checked against the message that holds it; the demo itself is not told which that is."""
    result = lamina("demo", "--json", db=None)
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    answers = " | ".join(row["answer"].lower() for row in report["questions"])
    assert sum(word in answers for word in ("walnut", "tomas", "pepper", "tile museum", "october 18")) >= 4
    assert all(row["cited"] for row in report["questions"])
    measured = report["measured"]
    assert measured["prompt_tokens"] * 8 < measured["whole_conversation_tokens"]


def test_a_secret_that_stays_fails_the_demo(lamina: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    real = story.occurrences
    monkeypatch.setattr(story, "occurrences", lambda database, secret: 1 + real(database, secret))
    result = lamina("demo", "--fast", "--json", db=None)
    assert result.exit_code == 1
    error: dict[str, Any] = json.loads(result.stdout)["error"]
    assert error["code"] == "DEMO_FAILED" and "still there" in error["message"]
