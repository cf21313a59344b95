"""``lamina train``: figures for people and programs, a run that goes on, a model that transformers reads."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM
from typer.testing import CliRunner

import lamina.nn.decoder  # noqa: F401 - makes the models known to transformers
from lamina.cli.app import app

SMALL = ["--width", "16", "--heads", "2", "--batch", "4", "--steps", "5"]


def _run(*words: str, fails: bool = False) -> str:
    done = CliRunner().invoke(app, ["train", *words])
    assert (done.exit_code != 0) == fails, done.output
    return done.output if fails else done.stdout


def test_figures_a_picture_and_a_model_are_left(tmp_path: Path) -> None:
    out, picture = tmp_path / "out", tmp_path / "loss.png"
    words = ["--arch", "gated_delta+experts", "--task", "mqar-tiny", *SMALL, "--out", str(out), "--plot", str(picture)]
    told = json.loads(_run(*words, "--set", "experts.experts=3", "--set", "task.kv=2", "--json"))
    assert told["steps"] == 5 and set(told["accuracy"]) == {"all", "near", "far"}
    assert 0 < told["bytes_read_per_token"] < told["stored_bytes"] + 64 and told["macs_per_token"] > 0
    assert picture.stat().st_size > 1000
    model = AutoModelForCausalLM.from_pretrained(out / "model")
    assert model.config.mixer == "gated_delta" and model.config.block == {"experts": {"experts": 3}}
    assert model.num_parameters() == told["parameters"]
    again = json.loads(_run(*words, "--set", "experts.experts=3", "--set", "task.kv=2", "--json"))
    assert {**again, "cpu_seconds": 0} == {**told, "cpu_seconds": 0}
    assert all(torch.isfinite(parameter).all() for parameter in model.parameters())


def test_people_read_sentences() -> None:
    told = _run("--task", "recall", *SMALL)
    assert "attention on recall: right answers all" in told and "multiply-adds" in told


def test_what_does_not_fit_is_told() -> None:
    for words, why in (
        (["--arch", "mamba"], "'mamba': there are attention"),
        (["--arch", "attention+gated_delta"], "same slot"),
        (["--task", "maze"], "there are mqar"),
        (["--set", "kv=3"], "BLOCK.NAME=VALUE"),
        (["--set", "experts.top_k=1"], "blocks here are attention"),
        (["--set", "attention.window=none"], "window='none'"),
        (["--set", "task.kv=40"], "kv=40"),
    ):
        assert why in " ".join(_run(*words, fails=True).split()), words
