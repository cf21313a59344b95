"""``lamina rhythm``: what it shows, what it does, what it refuses, and that it loads no model for that."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from lamina.errors import LaminaError
from lamina.llm.causal import CausalLM

Run = Callable[..., Result]
Value = Callable[..., Any]


@pytest.fixture(autouse=True)
def no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever loads one here fails."""

    def load(*_: Any, **__: Any) -> CausalLM:
        raise LaminaError("a model was loaded")

    monkeypatch.setattr(CausalLM, "load", load)


def drained(value: Value, *options: str) -> tuple[list[int], list[int]]:
    """Watermarks after draining, and which levels worked."""
    told = value("rhythm", "drain", *options)
    return [row["watermark"] for row in told["levels"]], [row["level"] for row in told["ticks"]]


def test_status_shows_every_level_and_writes_nothing(lamina: Run, value: Value, db: str) -> None:
    for n in range(5):
        lamina("add", f"I have {n} cats and a dog.")
    rows = value("audit", "head")["rows"]
    told = value("rhythm", "status")
    levels = told["levels"]
    assert [row["period"] for row in levels] == [8, 32, 128, 512]
    assert {*levels[0]} >= {"level", "period", "phase", "watermark", "lag", "carry", "work", "does"}
    assert [row["lag"] for row in levels] == [told["events"] - row["watermark"] for row in levels]
    assert told["events"] == rows == value("audit", "head")["rows"]
    shown = lamina("rhythm", "status").stdout
    assert "level" in shown and "teaches adapters" in shown and f"{rows} events" in shown
    assert not Path(f"{db}.rhythm").exists()


def test_drain_does_what_is_due_once_and_writes_its_trace(lamina: Run, value: Value, tmp_path: Path) -> None:
    lamina("add", "I have a cat.")
    events, file = value("rhythm", "status")["events"], tmp_path / "trace.jsonl"
    told = value("rhythm", "drain", "--trace", str(file))
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert lines == told["ticks"] and [{*line} for line in lines] == [{"n", "level", "work", "ms"}] * 3
    assert [(line["n"], line["level"], line["work"]) for line in lines] == [
        (events, 0, 0),
        (events, 1, 0),
        (events, 2, 1),
    ]
    assert [row["watermark"] for row in value("rhythm", "status")["levels"]] == [events, events, events, 0]
    assert drained(value) == ([events, events, events, 0], [0, 1, 2])
    assert "(+1)" in lamina("rhythm", "drain").stdout


def test_only_where_asked_what_is_idle_is_archived(lamina: Run, value: Value) -> None:
    lamina("add", "I have a cat.")
    drained(value)
    drained(value)
    assert value("search", "cat")["results"], "old is not idle: nobody asked to archive"
    drained(value, "--archive-idle", "1e-9")
    assert not value("search", "cat")["results"]


def test_lessons_alone_need_a_model(lamina: Run, value: Value) -> None:
    lamina("add", "I have a cat.")
    result = lamina("rhythm", "drain", "--consolidate")
    assert result.exit_code == 1 and "a model was loaded" in result.output
    levels = value("rhythm", "status")["levels"]
    assert levels[3]["watermark"] == 0 and levels[3]["lag"] > 0, "what failed is not taken for done"


def test_wrong_input_says_what_is_wrong(lamina: Run, tmp_path: Path, db: str) -> None:
    for verb in ("status", "drain"):
        missing = lamina("rhythm", verb)
        assert missing.exit_code == 1 and "add something first" in missing.output and not Path(db).exists()
    lamina("add", "I have a cat.")
    before = Path(db).read_bytes()
    for options, told in (
        (("--archive-idle", "-1"), "--archive-idle -1"),
        (("--archive-idle", "nan"), "--archive-idle nan"),
        (("--trace", str(tmp_path / "nowhere" / "t.jsonl")), "a folder that exists"),
        (("--trace", db), "File exists"),
    ):
        result = lamina("rhythm", "drain", *options)
        assert result.exit_code == 1 and told in " ".join(result.output.split()), result.output
    assert Path(db).read_bytes() == before
    assert lamina("rhythm", "drain", "--often").exit_code == 2
    failed = lamina("rhythm", "drain", "--archive-idle", "0", "--json")
    assert json.loads(failed.stdout)["error"]["code"] and failed.exit_code == 1


def test_a_folder_that_cannot_be_written_is_an_error(lamina: Run, value: Value, db: str) -> None:
    lamina("add", "I have a cat.")
    Path(f"{db}.rhythm").mkdir()
    result = lamina("rhythm", "drain")
    assert result.exit_code == 1 and "write access" in result.output
    shutil.rmtree(f"{db}.rhythm")
    assert drained(value)[1] == [0, 1, 2]
