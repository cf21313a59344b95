"""``bench`` and ``systems`` hand everything on to the bench room, and its exit code back."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from lamina.bench.catalog import overview

Run = Callable[..., Result]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the runner was asked; it answers 1, "a claim does not hold"."""
    seen: list[Any] = []

    def run(names: Any, **options: Any) -> int:
        seen.append((names, options))
        return 1

    monkeypatch.setattr("lamina.bench.runner.run", run)
    return seen


def test_every_option_reaches_the_runner_and_its_code_comes_back(lamina: Run, calls: list[Any]) -> None:
    options = (
        "--seed 7 --scale smoke --data d --system bm25 --system lamina --plot p.png --answers 3 --reader local:a "
        "--judge openai:b --write --json"
    )
    assert lamina("bench", "locomo", *options.split(), db=None).exit_code == 1
    assert calls == [
        (
            ["locomo"],
            {
                "seed": 7,
                "scale": "smoke",
                "data": Path("d"),
                "systems": ["bm25", "lamina"],
                "plot": Path("p.png"),
                "answers": 3,
                "reader": "local:a",
                "judge": "openai:b",
                "write": True,
                "json": True,
            },
        )
    ]


def test_all_means_no_names(lamina: Run, calls: list[Any]) -> None:
    lamina("bench", "--all", db=None)
    assert calls[0][0] is None and calls[0][1]["scale"] == "laptop"


@pytest.mark.parametrize("arguments", [[], ["cake", "--all"], ["cake", "--scale", "huge"]])
def test_wrong_usage(lamina: Run, calls: list[Any], arguments: list[str]) -> None:
    assert lamina("bench", *arguments, db=None).exit_code == 2 and calls == []


def test_an_unknown_name_is_an_error(lamina: Run) -> None:
    result = lamina("bench", "no-such-paper", "--json", db=None)
    assert result.exit_code == 1 and "no-such-paper" in json.loads(result.stdout)["error"]["message"]


def test_systems_prints_one_row_a_claim(lamina: Run) -> None:
    result = lamina("systems", "--json", db=None)
    assert result.exit_code == 0 and json.loads(result.stdout) == json.loads(json.dumps(overview()))
    shown = lamina("systems", db=None)
    assert shown.exit_code == 0 and shown.stdout.strip()
