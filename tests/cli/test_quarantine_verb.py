"""A statement that only a tool made is set aside; a person lists it, accepts or rejects it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lamina import Memory
from lamina.errors import Conflict, LLMError
from lamina.llm.base import Embedder


class Notes:
    """A chat model that takes one note from the first turn it is shown."""

    name = "notes"

    def chat(self, messages: Any, *, schema: Any = None, max_tokens: int = 256) -> Any:
        try:
            return schema.model_validate({"facts": [{"text": "Mira lives in Oslo.", "about": "Mira", "turns": [1]}]})
        except ValueError as error:
            raise LLMError(str(error)) from error


@pytest.fixture
def filled(tmp_path: Path, minilm: Embedder) -> Path:
    with Memory(tmp_path / "q.db", embedder=minilm, llm=Notes(), pipeline="mem0") as memory:
        memory.add([{"role": "tool", "content": "Mira lives in Oslo."}], user_id="me", timestamp="2024-05-01")
        assert len(memory.quarantined(user_id="me")["results"]) == 1
    return tmp_path / "q.db"


def test_a_person_decides(filled: Path, lamina: Callable[..., Any]) -> None:
    (row,) = json.loads(lamina("quarantine", "--json", db=filled).stdout)["results"]
    assert row["memory"] == "Mira lives in Oslo." and "tool" in row["reason"]
    done = json.loads(lamina("quarantine", "--accept", row["id"], "--json", db=filled).stdout)
    assert done["event"] == "ADD" and done["memory"] == row["memory"]
    assert json.loads(lamina("quarantine", "--json", db=filled).stdout)["results"] == []
    assert "Oslo" in lamina("search", "Where does Mira live?", db=filled).stdout


def test_a_rejected_statement_is_gone_and_its_turn_is_not(filled: Path, minilm: Embedder) -> None:
    with Memory(filled, embedder=minilm) as memory:
        (row,) = memory.quarantined(user_id="me")["results"]
        with pytest.raises(Conflict, match="accept"):
            memory.restore(row["id"])
        memory.delete(row["id"])
        assert memory.quarantined(user_id="me")["results"] == []
        assert [one["memory"] for one in memory.get_all(filters={"user_id": "me"})["results"]] == [
            "Mira lives in Oslo."
        ]


def test_correcting_it_accepts_the_correction(filled: Path, minilm: Embedder) -> None:
    with Memory(filled, embedder=minilm) as memory:
        (row,) = memory.quarantined(user_id="me")["results"]
        memory.update(row["id"], "Mira lives in Bergen.")
        texts = {one["memory"] for one in memory.get_all(filters={"user_id": "me"})["results"]}
        assert texts == {"Mira lives in Oslo.", "Mira lives in Bergen."}
