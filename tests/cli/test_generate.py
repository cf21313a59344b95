"""``lamina generate``: answers within a cache of so many bytes, and behind a text that was saved."""

from __future__ import annotations

import json
import pydoc_data.topics
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lamina.cli.app import app

pytestmark = pytest.mark.model


def run(*words: str, typed: str | None = None, code: int = 0) -> str:
    found = CliRunner().invoke(app, ["generate", *words], input=typed)
    assert found.exit_code == code, found.output
    return found.stdout if code == 0 else found.output


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text("The pass key is 73914.\n\n" + pydoc_data.topics.topics["assignment"][:1500])
    return path


def test_a_saved_context_answers_as_the_read_one(text: Path, tmp_path: Path) -> None:
    saved, spec = tmp_path / "some.cube", "xkv:ratio=2,group=3+int8"
    asked = ["What is the pass key?", "--max-tokens", "6", "--json"]
    first = json.loads(run(*asked, "--context", str(text), "--cache", spec, "--save", str(saved)))
    assert first["cache_bytes"] < 0.8 * first["whole_bytes"] and first["tokens"] > 300
    again = json.loads(run(*asked, "--behind", str(saved)))
    assert (again["text"], again["tokens"]) == (first["text"], first["tokens"])


def test_without_a_policy_the_cache_is_whole() -> None:
    found = json.loads(run("Say hello.", "--max-tokens", "3", "--json"))
    assert found["text"] and found["cache_bytes"] == found["whole_bytes"] == found["tokens"] * 46_080


def test_people_read_the_answer_and_its_price(text: Path) -> None:
    said = run(
        "What is it about?", "--context", "-", "--cache", "cake:3MiB", "--max-tokens", "4", typed=text.read_text()
    )
    assert "tokens in a cache of" in said and "times smaller than whole" in said


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["x", "--cache", "lru:1MiB"], "lru:1MiB"),
        (["x", "--save", "a.cube"], "give both"),
        (["x", "--context", "missing.txt"], "there is no such file"),
        (["x", "--behind", "missing.cube"], "missing.cube"),
        (["x", "--behind", "a.cube", "--cache", "cake:1MiB"], "takes no"),
        (["x", "--cache", "cake"], "say how much cake may keep"),
        (["x", "--max-tokens", "9000"], "more than the 8192"),
        (["x", "--context", "README.md", "--cache", "int8", "--save", "nowhere/a.cube"], "no such folder"),
    ],
)
def test_what_is_wrong_is_said(words: list[str], says: str) -> None:
    assert says in run(*words, code=1)
