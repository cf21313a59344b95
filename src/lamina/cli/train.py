"""``lamina train``: teach a small model a task of the suite, and see what its memory can do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from lamina.cli import output, progress
from lamina.cli.command import PLAIN, Session, command
from lamina.errors import InvalidInput

_ARCH = "What stands in its blocks, joined by +: mom, attention+experts, table_attention+memory_block."
_TASK = "A task of the suite: mqar, far-mqar, selective-copy, recall, facts..."
_SET = "A setting of a block (mom.memories=8) or of the task (task.kv=4); repeatable."


@command(PLAIN)
def train(
    session: Session,
    arch: Annotated[str, typer.Option(help=_ARCH)] = "attention",
    task: Annotated[
        str, typer.Option(help="A task of the suite: mqar, far-mqar, selective-copy, recall, facts...")
    ] = "mqar",
    settings: Annotated[list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help=_SET)] = None,
    steps: Annotated[int, typer.Option(min=1)] = 500,
    lr: Annotated[float, typer.Option(min=0.0, help="The highest rate of learning.")] = 3e-3,
    batch: Annotated[int, typer.Option(min=1, help="Rows a step.")] = 64,
    width: Annotated[int, typer.Option(min=2, help="Channels.")] = 64,
    layers: Annotated[int, typer.Option(min=1)] = 2,
    heads: Annotated[int, typer.Option(min=1)] = 4,
    short_conv: Annotated[int, typer.Option(min=0, help="Taps of a convolution before every mixer.")] = 4,
    seed: Annotated[int, typer.Option()] = 0,
    out: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Keep the run and the model; an interrupted one goes on.")
    ] = None,
    plot: Annotated[Path | None, typer.Option(metavar="FILE", help="Draw the losses.")] = None,
) -> None:
    """Teach a model from nothing. Succeeds whether or not it learned; the figures say how well."""
    import torch

    from lamina.nn import costs, slots, suite
    from lamina.nn.config import LaminaConfig
    from lamina.nn.decoder import LaminaForCausalLM
    from lamina.train import curves
    from lamina.train.on_task import learn

    given = _settings(settings or [])
    asked = suite.task(task, **given.pop("task", {}))
    names = slots.placed(arch)
    if unknown := set(given) - set(names.values()):
        raise InvalidInput(f"--set {sorted(unknown)[0]}...: blocks here are {', '.join(names.values())}; or task")
    config = LaminaConfig(asked.V, width, layers, heads, short_conv=short_conv, block=given)
    for slot, name in names.items():
        setattr(config, slot, name)
    torch.manual_seed(seed)
    model = LaminaForCausalLM(config)
    kept = out and out / "run"
    with progress.steps(session.json, f"{arch} learns {task}", steps) as done:
        learned = learn(
            model, asked, steps=steps, lr=lr, batch=batch, seed=seed, folder=kept, report=lambda *_: done(1)
        )
    if out is not None:
        model.save_pretrained(out / "model")
    if plot is not None:
        curves.plot({arch: learned.losses}, plot)
    result = {
        "arch": arch,
        "task": task,
        "seed": seed,
        "steps": len(learned.losses),
        "loss": learned.losses[-1],
        "accuracy": learned.accuracy,
        "cpu_seconds": round(learned.seconds, 1),
        "parameters": model.num_parameters(),
        "stored_bytes": costs.stored_bytes(model),
        "bytes_read_per_token": costs.bytes_read_per_token(model),
        "macs_per_token": costs.macs_per_token(model, asked.T),
    }
    output.emit(session.json, result, lambda screen: _show(screen, result))


def _settings(given: list[str]) -> dict[str, dict[str, Any]]:
    """``["mom.memories=8"]`` as ``{"mom": {"memories": 8}}``; values are JSON, or else text."""
    found: dict[str, dict[str, Any]] = {}
    for one in given:
        path, equals, value = one.partition("=")
        block, dot, name = path.partition(".")
        if not (equals and dot and block and name):
            raise InvalidInput(f"--set {one!r}: write BLOCK.NAME=VALUE, as in mom.memories=8")
        try:
            found.setdefault(block, {})[name] = json.loads(value)
        except json.JSONDecodeError:
            found.setdefault(block, {})[name] = value
    return found


def _show(screen: Any, result: dict[str, Any]) -> None:
    right = ", ".join(f"{name} {share:.3f}" for name, share in result["accuracy"].items())
    screen.print(f"{result['arch']} on {result['task']}: right answers {right}")
    screen.print(
        f"{result['steps']} steps to loss {result['loss']:.4f} in {result['cpu_seconds']} CPU s, seed {result['seed']}"
    )
    screen.print(
        f"{result['parameters']:,} parameters, {result['stored_bytes']:,} B; a token reads"
        f" {result['bytes_read_per_token']:,} B and takes {result['macs_per_token']:,} multiply-adds"
    )
