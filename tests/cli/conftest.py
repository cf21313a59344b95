"""The command line under test: in this process (``lamina``) or as a real one (``process``)."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from lamina.cli import app
from lamina.llm.base import ChatModel
from lamina.llm.local import LocalChat

Run = Callable[..., Result]


@pytest.fixture
def db(tmp_path: Path) -> str:
    return str(tmp_path / "cli.db")


@pytest.fixture
def lamina(db: str, minilm: Any, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a verb on the test's database. The embedder is real; it is shared, because loading takes a second."""
    monkeypatch.setattr("lamina.llm.embedder", lambda *_, **__: minilm)
    runner = CliRunner()

    def run(verb: str, *arguments: str, input: str | None = None, db: str | None = db) -> Result:
        where = ["--db", db] if db else []
        result = runner.invoke(app, [verb, *arguments, *where], input=input)
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return run


@pytest.fixture(scope="session")
def smollm2() -> ChatModel:
    return LocalChat("smollm2")


@pytest.fixture
def local_model(smollm2: ChatModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """The default chat model, real, and loaded once for all tests that talk to it."""
    monkeypatch.setattr("lamina.llm.chat_model", lambda *_, **__: smollm2)


@pytest.fixture
def value(lamina: Run) -> Callable[..., Any]:
    """Run a verb with ``--json``, expect success, and give back what it printed."""

    def run(verb: str, *arguments: str, **options: Any) -> Any:
        result = lamina(verb, *arguments, "--json", **options)
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    return run


@pytest.fixture
def process() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the command line as users do, in its own process."""

    def run(*arguments: str, input: str = "") -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", "from lamina.cli import main; main()", *arguments]
        return subprocess.run(command, input=input, capture_output=True, text=True, timeout=120)

    return run
