"""Checkpoints: killed runs go on to the last bit, other runs are refused, nothing on disk is ever half a state."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from lamina.errors import InvalidInput, StoreUnavailable
from lamina.train.checkpoint import Checkpoint
from lamina.train.loop import train


class Stopped(Exception):
    """What interrupts a run in these tests."""


def linear(width: int = 3) -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(3, width)


def course(
    folder: Path,
    model: nn.Module,
    *,
    until: int | None = None,
    steps: int = 8,
    lr: float = 0.1,
    every: int = 2,
    optimizer: Callable[..., torch.optim.Optimizer] | None = None,
    **more: Any,
) -> list[float]:
    x = torch.randn(steps, 4, 3, generator=torch.Generator().manual_seed(1))

    def loss(step: int) -> torch.Tensor:
        if step == until:
            raise Stopped
        return model(x[step].to(next(model.parameters()).dtype)).float().square().mean()

    checkpoint = Checkpoint(folder, model, every, **more)
    return train(model.parameters(), loss, steps=steps, lr=lr, optimizer=optimizer, checkpoint=checkpoint)


def interrupted(folder: Path, model: nn.Module, until: int = 5, **more: Any) -> None:
    with pytest.raises(Stopped):
        course(folder, model, until=until, **more)


def test_a_killed_run_goes_on_to_the_last_bit(tmp_path: Path) -> None:
    script = Path(__file__).with_name("killed_run.py")
    done = subprocess.run([sys.executable, script, tmp_path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert len(told["losses"]) == 12 and len(told["runs"]) == 10
    for run in told["runs"]:
        assert run["died"] == 9 and run["resumed"], run
        assert run["after"] == ["step-00000012"], run
    left = {tuple(run["plan"]): {name.split("-")[-1] for name in run["left"]} for run in told["runs"]}
    assert left["step", 1] == set() and left["step", 7] == {"00000006"}
    assert "00000003" in left["fsync", 8] and len(left["fsync", 8]) == 2  # half of the second beside the whole first
    assert left["fsync", 10] == left["rename", 3] == {"00000003", "00000006"}


def test_wider_and_narrower_states_come_back_as_they_were(tmp_path: Path) -> None:
    """torch's own ``load_state_dict`` would make all of them bfloat16."""

    class Counting(torch.optim.Optimizer):
        def __init__(self, groups: list[dict[str, Any]]) -> None:
            super().__init__(groups, {"taken": 0})

        @torch.no_grad()
        def step(self, closure: None = None) -> None:  # type: ignore[override]
            for group in self.param_groups:
                group["taken"] += 1
                for parameter in group["params"]:
                    state = self.state[parameter]
                    if not state:
                        state["wide"] = torch.zeros(parameter.shape, dtype=torch.float64)
                        state["parts"] = [torch.zeros(parameter.shape, dtype=torch.int8), (group["taken"], "q")]
                    state["wide"] += parameter.grad.double() / 3
                    state["parts"][0] += parameter.grad.sign().to(torch.int8)
                    parameter -= group["lr"] * (state["wide"] + state["parts"][0] / group["taken"]).to(parameter.dtype)

    whole, resumed = (linear().to(torch.bfloat16) for _ in range(2))
    expected = course(tmp_path / "whole", whole, optimizer=Counting)
    interrupted(tmp_path / "run", resumed, optimizer=Counting)
    resumed = linear().to(torch.bfloat16)
    assert course(tmp_path / "run", resumed, optimizer=Counting) == expected
    assert all(torch.equal(one, other) for one, other in zip(whole.parameters(), resumed.parameters(), strict=True))
    files = [load_file(tmp_path / name / "step-00000008" / "optim.safetensors") for name in ("whole", "run")]
    assert files[0].keys() == files[1].keys() and len(files[0]) == 4
    for name, tensor in files[0].items():
        assert tensor.dtype in (torch.float64, torch.int8) and torch.equal(tensor, files[1][name])


def test_another_model_is_refused_and_nothing_is_changed(tmp_path: Path) -> None:
    interrupted(tmp_path, linear())
    wide = linear(5)
    before, random = wide.weight.clone(), torch.get_rng_state()
    shapes = r"weight was \(3, 3\) torch.float32, is \(5, 3\) torch.float32; bias was \(3,\).*is \(5,\)"
    with pytest.raises(InvalidInput, match=shapes):
        course(tmp_path, wide)
    assert torch.equal(wide.weight, before) and torch.equal(torch.get_rng_state(), random)
    with pytest.raises(InvalidInput, match=r"0.weight was absent.*; weight was \(3, 3\) torch.float32, is absent"):
        course(tmp_path, nn.Sequential(linear()))
    with pytest.raises(InvalidInput, match=r"weight was .*float32, is .*bfloat16"):
        course(tmp_path, linear().to(torch.bfloat16))


def test_other_settings_are_refused(tmp_path: Path) -> None:
    interrupted(tmp_path, linear(), generators={"data": np.random.default_rng()})
    generators = {"data": np.random.default_rng()}
    with pytest.raises(InvalidInput, match=r"setting steps was 8, is 9"):
        course(tmp_path, linear(), steps=9, generators=generators)
    with pytest.raises(InvalidInput, match=r"setting groups\[0\].lr was 0.1, is 0.2"):
        course(tmp_path, linear(), lr=0.2, generators=generators)
    with pytest.raises(InvalidInput, match=r"optimizer was AdamW, is SGD.*groups\[0\].momentum was absent, is 0"):
        course(tmp_path, linear(), optimizer=torch.optim.SGD, generators=generators)
    with pytest.raises(InvalidInput, match=r"generator data was kept, is absent"):
        course(tmp_path, linear())
    assert len(course(tmp_path, linear(), generators=generators)) == 8


def test_what_is_learned_must_be_in_the_model(tmp_path: Path) -> None:
    strange = nn.Parameter(torch.ones(7))
    checkpoint = Checkpoint(tmp_path, linear(), 1)
    with pytest.raises(InvalidInput, match=r"model lacks.*\(7,\)"):
        train([strange], lambda _: strange.sum(), steps=1, lr=0.1, checkpoint=checkpoint)
    assert not list(tmp_path.iterdir())


def test_an_ended_run_is_not_trained_again(tmp_path: Path) -> None:
    model = linear()

    def go(loss: Callable[[int], torch.Tensor]) -> list[float]:
        checkpoint = Checkpoint(tmp_path, model, 100)
        return train(model.parameters(), loss, steps=9, lr=0.1, stop=lambda step, _: step == 3, checkpoint=checkpoint)

    first = go(lambda _: model(torch.ones(3)).square().sum())
    after = model.weight.clone()
    with torch.no_grad():
        model.weight.zero_()
    assert go(lambda _: pytest.fail("trained again")) == first and len(first) == 4
    assert torch.equal(model.weight, after)


@pytest.mark.parametrize("name", ["model.safetensors", "optim.safetensors", "trainer.json"])
def test_a_damaged_checkpoint_is_told(tmp_path: Path, name: str) -> None:
    interrupted(tmp_path, linear())
    file = tmp_path / "step-00000004" / name
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(InvalidInput, match=r"step-00000004' cannot be read.*remove it"):
        course(tmp_path, linear())
    file.unlink()
    with pytest.raises(InvalidInput, match="cannot be read"):
        course(tmp_path, linear())


def test_a_disk_that_refuses_and_wrong_intervals_are_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreUnavailable, match=r"file/run'.*check rights"):
        course(tmp_path / "file" / "run", linear())
    with pytest.raises(InvalidInput, match="every=0"):
        Checkpoint(tmp_path, linear(), 0)


def test_a_model_with_state_that_is_no_tensor_is_refused(tmp_path: Path) -> None:
    class Told(nn.Linear):
        def get_extra_state(self) -> dict[str, int]:
            return {"seen": 1}

    with pytest.raises(InvalidInput, match="_extra_state"):
        course(tmp_path, Told(3, 3))


def test_transformers_reads_it_with_tied_weights_once(tmp_path: Path) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=32,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        tie_word_embeddings=True,
    )
    model = LlamaForCausalLM(config)
    ids = torch.arange(12).reshape(2, 6)
    checkpoint = Checkpoint(tmp_path, model, 2)
    train(model.parameters(), lambda _: model(ids, labels=ids).loss, steps=2, lr=0.01, checkpoint=checkpoint)
    assert checkpoint.newest is not None
    kept = load_file(checkpoint.newest / "model.safetensors")
    assert "model.embed_tokens.weight" in kept and "lm_head.weight" not in kept
    with torch.no_grad():
        read = LlamaForCausalLM.from_pretrained(checkpoint.newest)
        assert torch.equal(read(ids).logits, model(ids).logits)
