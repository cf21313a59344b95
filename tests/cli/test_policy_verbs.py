"""``lamina policy``: train, go on, draw, test and explain, through the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from lamina import Memory
from lamina.bench.synthetic import WordVectors
from lamina.cli.policy import policy
from lamina.text.construction_policy import MemAlpha, MemAlphaUpdater


def _run(*arguments: str) -> Result:
    result = CliRunner().invoke(policy, [*arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def _value(*arguments: str) -> Any:
    result = _run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_train_and_resume_is_training_longer(tmp_path: Path) -> None:
    short, long, picture = tmp_path / "a.safetensors", tmp_path / "b.safetensors", tmp_path / "curve.png"
    first = _value("train", str(short), "--updates", "2", "--beta", "0.4", "--seed", "3")
    assert (first["updates"], first["seed"], first["recipe"]["beta"]) == (2, 3, 0.4)
    _run("train", str(short), "--updates", "1", "--resume", "--plot", str(picture))
    _run("train", str(long), "--updates", "3", "--beta", "0.4", "--seed", "3")
    one, other = MemAlpha.load(short).training, MemAlpha.load(long).training
    assert one.log.rows == other.log.rows and len(one.log.rows) == 3
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_eval_shows_the_policy_beside_the_constants(tmp_path: Path) -> None:
    rows = {row["policy"]: row for row in _value("eval", "--chunks", "24", "--histories", "4")}
    assert rows["mem-alpha"]["accuracy"] > rows["insert-episodic"]["accuracy"] > rows["skip"]["accuracy"] == 0.0
    assert {"told the kinds", "random", "delete-best"} < set(rows)
    assert "mem-alpha" in _run("eval", "--chunks", "12", "--histories", "1").stdout
    missing = _run("eval", str(tmp_path / "none"), "--json")
    assert missing.exit_code == 1 and json.loads(missing.stdout)["error"]["code"] == "NOT_FOUND"


def test_explain_counts_per_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lamina.llm.embedder", lambda *_, **__: WordVectors())
    db = str(tmp_path / "m.db")
    with Memory(db, embedder=WordVectors(), updater=MemAlphaUpdater()) as memory:
        for user in ("alice", "boris"):
            memory.add("I live in Boston.", user_id=user, timestamp="2024-03-01")
            memory.add("I moved to Denver.", user_id=user, timestamp="2024-03-02")
    (alice,) = _value("explain", "--db", db, "--user", "alice")
    assert (alice["user"], alice["memories"], alice["stale_rate"], alice["duplicate_rate"]) == ("alice", 1, 0.0, 0.0)
    assert [row["user"] for row in _value("explain", "--db", db, "--user", "*")] == ["alice", "boris"]
    assert "alice" in _run("explain", "--db", db, "--user", "alice").stdout
    assert "No memories" in _run("explain", "--db", db, "--user", "nobody").stdout
