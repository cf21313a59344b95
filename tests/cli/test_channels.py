"""``lamina channels``: the strongest channels, a picture of them, and an edit that is tried and kept as a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from lamina.bench.experiments.channels.channel_edits import load
from lamina.cli.channels import channels
from lamina.cube import file
from lamina.cube.payload import TensorPayload
from lamina.llm.causal import CausalLM
from lamina.parameter.head_channels import Head, WeightDelta, composition_scores


@pytest.fixture(scope="module")
def noise() -> CausalLM:
    return load("smoke")


@pytest.fixture(autouse=True)
def _loaded(noise: CausalLM, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CausalLM, "load", lambda _name="smollm2": noise)


def _run(*arguments: str) -> Result:
    app = typer.Typer()
    app.command()(channels)
    return CliRunner().invoke(app, list(arguments))


def _value(*arguments: str) -> Any:
    result = _run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_the_strongest_channels_come_first(noise: CausalLM) -> None:
    rows = _value("--top", "4", "--kind", "k")
    table = composition_scores(noise, "k")
    assert [row["component"] for row in rows] == [str(link.component) for link in table.top(4)]
    assert rows[0]["z"] == pytest.approx(table.top(1)[0].z)
    mine = _value("--reader", "3.2", "--reader", "2.0")
    assert {row["reader"] for row in mine} <= {"3.2", "2.0"}
    assert composition_scores(noise, "q", [(3, 2)]).readers == (Head(3, 2),)
    told = _run("--top", "4").stdout
    assert "component" in told and "reader" in told


@pytest.mark.parametrize("arguments", [(), ("--reader", "3.2")])
def test_a_picture_is_drawn(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    drawn = tmp_path / "channels.png"
    assert _run("--plot", str(drawn), *arguments).exit_code == 0
    assert drawn.read_bytes().startswith(b"\x89PNG")


def test_an_edit_is_tried_taken_back_and_kept(noise: CausalLM, tmp_path: Path) -> None:
    kept, before = tmp_path / "lists.cube", noise.fingerprint
    told = _value("--laundry", "--prompts", "5", "--each", "2", "--out", str(kept))
    assert [row["items"] for row in told["accuracy"]] == [3, 4, 5]
    assert [row["alpha"] for row in told["edit"]] == [2.0, 2.0, 0.0, 0.0]
    assert (noise.fingerprint, noise.overlay) == (before, "")
    payload = file.read(kept).payload
    assert isinstance(payload, TensorPayload)
    assert [s.alpha for s in WeightDelta(noise, payload).scaled] == [2.0, 2.0, 0.0, 0.0]
    shown = _run("--laundry", "--prompts", "5", "--each", "1").stdout
    assert "Doubled" in shown and "taken back" in shown


def test_what_cannot_be_asked_is_said() -> None:
    for arguments, said in {
        ("--reader", "21"): "LAYER.HEAD",
        ("--reader", "9.0"): "layers 0-3",
        ("--out", "x.cube"): "add --laundry",
        ("--laundry", "--reader", "1.1"): "run them apart",
    }.items():
        result = _run(*arguments)
        assert result.exit_code == 1
        assert said in result.stderr
    assert _run("--reader", "0.0").stdout.strip() == "No head comes before this one."
