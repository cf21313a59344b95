"""Teaching a task of the suite: it is learned, again alike, resumed, and judged on what was never taught."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from lamina.errors import InvalidInput
from lamina.nn.config import LaminaConfig
from lamina.nn.decoder import LaminaForCausalLM
from lamina.nn.suite import SUITE, task
from lamina.nn.tasks import MQAR
from lamina.train.on_task import evaluate, learn

EASY = MQAR(T=12, kv=2, V=16)


def _model(ids: int = 16, seed: int = 0) -> LaminaForCausalLM:
    torch.manual_seed(seed)
    return LaminaForCausalLM(LaminaConfig(ids, 32, 2, 2, short_conv=4, ffn="none"))


def test_attention_learns_to_look_up() -> None:
    model = _model()
    before = evaluate(model, EASY, seed=1)["all"]
    learned = learn(model, EASY, steps=300, lr=1e-2, batch=64, below=0.02)
    assert before < 0.3 and learned.accuracy["all"] > 0.95, (before, learned.accuracy)
    assert len(learned.losses) < 300 and learned.seconds > 0
    assert evaluate(model, EASY, seed=1) == evaluate(model, EASY, seed=1) and not model.training


def test_a_seed_decides_and_a_folder_goes_on(tmp_path: Path) -> None:
    whole = learn(_model(), EASY, steps=140, batch=4, seed=5, below=None)
    assert whole.losses == learn(_model(), EASY, steps=140, batch=4, seed=5, below=None).losses
    assert whole.losses != learn(_model(), EASY, steps=140, batch=4, seed=6, below=None).losses

    class Interrupted(Exception):
        pass

    def report(step: int, _: float) -> None:
        if step == 120:
            raise Interrupted

    with pytest.raises(Interrupted):
        learn(_model(), EASY, steps=140, batch=4, seed=5, below=None, folder=tmp_path, report=report)
    again = learn(_model(seed=9), EASY, steps=140, batch=4, seed=5, below=None, folder=tmp_path)
    assert again.losses == whole.losses and again.accuracy == whole.accuracy


def test_every_task_of_the_suite_fits_a_model() -> None:
    for name, one in SUITE.items():
        rows = one.sample(2, torch.Generator().manual_seed(0))
        out = _model(one.V)(rows.ids, shift_labels=rows.targets)
        assert torch.isfinite(out.loss), name
    assert task("mqar", kv=4) == MQAR(T=64, kv=4, V=256)


def test_what_does_not_fit_is_told() -> None:
    with pytest.raises(InvalidInput, match="vocab_size=8: the task has ids up to 15"):
        learn(_model(8), EASY, steps=1)
    with pytest.raises(InvalidInput, match="task='maze': there are mqar"):
        task("maze")
    with pytest.raises(InvalidInput, match="pairs"):
        task("mqar", pairs=3)
