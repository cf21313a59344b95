"""Runs that are killed, each in a process of its own: ``python killed_run.py FOLDER`` prints what they leave as JSON.

Torch is imported once; every run is a fork of this process, which is killed with SIGKILL where its plan says.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from lamina.train.checkpoint import Checkpoint
from lamina.train.loop import train

STEPS, EVERY = 12, 3


class Drawn:
    """Where the data stands."""

    def __init__(self) -> None:
        self.rows = 0

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.rows = state["rows"]


class Small(nn.Module):
    """A bit of everything: tied weights, dropout (torch's own generator), a normalisation that counts."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(6, 6)
        self.norm = nn.BatchNorm1d(6)
        self.outer = nn.Linear(6, 6, bias=False)
        self.outer.weight = self.inner.weight
        self.drop = nn.Dropout(0.3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.outer(self.drop(torch.tanh(self.norm(self.inner(x)))))


def course(folder: Path, killed_in_step: int | None = None) -> dict[str, Any]:
    """The whole training; everything that may differ afterwards."""
    torch.manual_seed(1)
    model, cursor = Small(), Drawn()
    torch.manual_seed(2)
    drawn, chosen = torch.Generator().manual_seed(3), np.random.default_rng(4)

    def loss(step: int) -> torch.Tensor:
        if step == killed_in_step:
            os.kill(os.getpid(), signal.SIGKILL)
        x = torch.randn(8, 6, generator=drawn) * chosen.uniform(0.5, 2.0)
        cursor.rows += len(x)
        return (model(x) - x.flip(1) * cursor.rows / 50).square().mean()

    checkpoint = Checkpoint(folder, model, EVERY, {"data": drawn, "scale": chosen}, cursor)
    made: list[torch.optim.Optimizer] = []

    def adamw(groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        made.append(torch.optim.AdamW(groups, amsgrad=True, weight_decay=0.01))
        return made[0]

    losses = train(model.parameters(), loss, steps=STEPS, lr=0.05, optimizer=adamw, checkpoint=checkpoint)
    state = [{name: value.tolist() for name, value in made[0].state[each].items()} for each in model.parameters()]
    return {
        "losses": losses,
        "model": {name: tensor.tolist() for name, tensor in model.state_dict().items()},
        "optimizer": state,
        "next": [torch.rand(1).item(), torch.rand(1, generator=drawn).item(), chosen.random(), cursor.rows],
    }


def killed_at(call: str, number: int) -> None:
    """From now on this process dies just before it calls ``call`` for the ``number``-th time."""
    owner: Any = {"fsync": os, "rename": Path, "rmtree": shutil}[call]
    real, left = getattr(owner, call), [number]

    def counted(*args: Any, **more: Any) -> Any:
        left[0] -= 1
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*args, **more)

    setattr(owner, call, counted)


def forked(folder: Path, plan: tuple[str, int] | None) -> tuple[int, Any]:
    """The signal a run died of (0: none), and what it came to. ``plan``: a step, or the n-th call of a function."""
    result = folder.with_suffix(".json")
    if (child := os.fork()) == 0:
        if plan is not None and plan[0] != "step":
            killed_at(*plan)
        found = course(folder, plan[1] if plan is not None and plan[0] == "step" else None)
        result.write_text(json.dumps(found))
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0, json.loads(result.read_text()) if not status else None


def main(root: Path) -> None:
    torch.optim.AdamW(nn.Linear(1, 1).parameters())  # what torch imports at the first optimizer, once for all forks
    # The second save (after step 6): its files are fsynced by calls 6 to 8, its folder by 9, the folder above by 10.
    plans = [("step", 1), ("step", 7), ("fsync", 1), ("fsync", 6), ("fsync", 8), ("rename", 2), ("fsync", 10)]
    plans += [("rename", 3), ("rmtree", 1), ("rmtree", 2)]
    whole = forked(root / "whole", None)[1]
    told = []
    for number, plan in enumerate(plans):
        folder = root / f"run{number}"
        died, _ = forked(folder, plan)
        left = sorted(path.name for path in folder.glob("*")) if folder.exists() else []
        told.append({"plan": plan, "died": died, "left": left, "resumed": forked(folder, None)[1] == whole})
        told[-1]["after"] = sorted(path.name for path in folder.glob("*"))
    print(json.dumps({"runs": told, "losses": whole["losses"]}))  # noqa: T201 - what the test reads


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]))
