"""Teach a small model a task of the suite, and say what it can do and what it costs.

Every arm of a comparison goes this way: the same batches for the same seed whatever the model, AdamW with weight decay
on matrices alone, 50 steps of warm-up and a cosine to a tenth, and an evaluation on batches that were never taught.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lamina._optional import require
from lamina.errors import InvalidInput
from lamina.train.checkpoint import Checkpoint
from lamina.train.loop import parameter_groups, train, warmup_cosine

if TYPE_CHECKING:
    import os

    from torch import Tensor

    from lamina.nn.decoder import LaminaForCausalLM
    from lamina.nn.tasks import Task

_WARM = 50
_EVALUATED = 512  # rows that were never taught
_APART = 1 << 20  # between the seeds of what is taught and what is asked


@dataclass(frozen=True, slots=True)
class Learned:
    """``losses`` of each step in nats; ``accuracy`` of fresh rows, by slice; ``seconds`` of this process's CPU."""

    losses: list[float]
    accuracy: Mapping[str, float]
    seconds: float


def learn(
    model: LaminaForCausalLM,
    task: Task,
    *,
    steps: int,
    lr: float = 3e-3,
    batch: int = 64,
    seed: int = 0,
    below: float | None = 0.01,
    folder: str | os.PathLike[str] | None = None,
    report: Callable[[int, float], None] | None = None,
) -> Learned:
    """At most ``steps`` steps on ``batch`` fresh rows each; it ends once the mean loss is ``below`` (nats).

    With ``folder`` the run is kept there every hundred steps and goes on from what is there. Raises ``InvalidInput``
    for a model of fewer ids than the task has, and what ``train`` raises.
    """
    torch = require("torch", "training")
    if model.config.vocab_size < task.V:
        raise InvalidInput(f"vocab_size={model.config.vocab_size}: the task has ids up to {task.V - 1}")
    drawn = torch.Generator().manual_seed(seed)

    def loss(_: int) -> Tensor:
        rows = task.sample(batch, drawn)
        found: Tensor = model(rows.ids, shift_labels=rows.targets).loss
        return found

    kept = None if folder is None else Checkpoint(folder, model, generators={"task": drawn})
    begin = time.process_time()
    model.train()
    losses = train(
        parameter_groups(model, lr),
        loss,
        steps=steps,
        lr=lr,
        schedule=warmup_cosine(min(_WARM, steps)),
        below=below,
        report=report,
        checkpoint=kept,
    )
    spent = time.process_time() - begin
    return Learned(losses, evaluate(model, task, seed=seed + _APART), spent)


def evaluate(model: LaminaForCausalLM, task: Task, *, seed: int, rows: int = _EVALUATED) -> dict[str, float]:
    """Right answers on ``rows`` fresh rows, by slice; the model is in its evaluating mode afterwards."""
    torch = require("torch", "evaluating")
    from lamina.nn.tasks import accuracy

    model.train(False)
    asked = task.sample(rows, torch.Generator().manual_seed(seed))
    with torch.inference_mode():
        said = [model(part.ids, use_cache=False).logits.argmax(-1) for part in asked.split(64)]
    return accuracy(torch.cat(said), asked)
