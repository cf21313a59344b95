"""``lamina policy``: train the policy that decides what is written to memory, test it, and judge what it wrote."""

from __future__ import annotations

from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lamina.cli import output
from lamina.cli.command import OWNER, PLAIN, Session, command

if TYPE_CHECKING:
    from lamina.text.construction_policy import MemAlpha
    from lamina.text.policy.grpo import TrainLog

_DRAWN = ("r1", "r2", "r3", "r4", "entropy")


class Split(StrEnum):
    """Unseen sentences and names: those that settings are chosen on, or those that decide nothing."""

    VALIDATION = "validation"
    FRESH = "fresh"


class Baseline(StrEnum):
    HISTORY = "history"
    CHUNK = "chunk"


@command(PLAIN)
def train(
    session: Session,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where the policy goes (.safetensors).")],
    updates: Annotated[int, typer.Option(min=1, help="How many more.")] = 800,
    seed: Annotated[int, typer.Option(help="Of weights and histories.")] = 0,
    beta: Annotated[float, typer.Option(help="Weight of a small memory.")] = 0.05,
    gamma: Annotated[float, typer.Option(help="Weight of well-formed entries.")] = 0.1,
    entropy: Annotated[float, typer.Option(help="Weight of staying undecided.")] = 0.15,
    baseline: Annotated[Baseline, typer.Option(help="What a reward is compared with.")] = Baseline.HISTORY,
    retold: Annotated[float, typer.Option(min=0.0, max=1.0, help="Share of histories as extractors tell them.")] = 0.5,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from FILE, with its own settings.")] = False,
    plot: Annotated[Path | None, typer.Option(metavar="FILE", help="Draw the learning curves.")] = None,
) -> None:
    """Train a write policy in the memory gym."""
    from lamina.bench.experiments.text.memory_gym import HistoryEnv
    from lamina.text.construction_policy import MemAlpha, about
    from lamina.text.policy.grpo import Recipe

    recipe = Recipe(beta=beta, gamma=gamma, entropy=entropy, baseline=baseline.value)
    policy = MemAlpha.load(file) if resume else MemAlpha(recipe=recipe, seed=seed)
    log = policy.fit(HistoryEnv(retold=retold), updates=updates)
    policy.save(file)
    if plot is not None:
        draw(log, plot)
    last = {name: float(log.column(name)[-20:].mean()) for name in _DRAWN}
    output.emit(
        session.json, {"file": str(file), "last": last, **about(policy)}, lambda screen: _trained(screen, last, file)
    )


@command(PLAIN)
def evaluate(
    session: Session,
    file: Annotated[Path | None, typer.Argument(metavar="[FILE]", help="Default: the packaged policy.")] = None,
    chunks: Annotated[int, typer.Option(min=1, help="Length of the histories.")] = 312,
    histories: Annotated[int, typer.Option(min=1, help="How many.")] = 12,
    seed: Annotated[int, typer.Option(help="Of the histories.")] = 0,
    split: Annotated[Split, typer.Option(help="Whose sentences; look at fresh only when all is chosen.")] = (
        Split.VALIDATION
    ),
) -> None:
    """Test a policy on unseen histories, beside policies that always do the same."""
    from lamina.bench.experiments.text.memory_gym import HistoryEnv
    from lamina.bench.experiments.text.memory_policies import CONSTANT, evaluate, gold_rules, greedy, random_actions

    env = HistoryEnv(split.value)
    acts = {
        "mem-alpha": greedy(_policy(file)),
        "told the kinds": gold_rules,
        "random": random_actions(seed),
        **CONSTANT,
    }
    seeds = range(1_000_000 * (seed + 1), 1_000_000 * (seed + 1) + histories)
    rows = [{"policy": name, **asdict(evaluate(env, act, seeds, chunks))} for name, act in acts.items()]
    output.emit(session.json, rows, lambda screen: _table(screen, rows))


@command(OWNER)
def explain(session: Session) -> None:
    """Count what is out of date, there twice, or filed wrongly among a user's memories (--user '*': everybody's)."""
    from lamina.text.policy.report import explain as reports

    with session.memory() as memory:
        found = reports(memory.store, session.scope())
    rows = [
        {
            "user": report.user,
            "memories": report.memories,
            "stale_rate": report.stale_rate,
            "duplicate_rate": report.duplicate_rate,
            **{f"{name} precision": share for name, share in report.precision.items()},
        }
        for report in found
    ]
    output.emit(session.json, rows, lambda screen: _table(screen, rows))


def draw(log: TrainLog, file: Path) -> None:
    """The curves as an image. Raises ``MissingDependency`` without matplotlib."""
    from lamina._optional import require

    figure = require("matplotlib.figure", "drawing learning curves").Figure(figsize=(8, 5), layout="constrained")
    axes = figure.add_subplot(xlabel="update", ylabel="mean per update")
    for name in _DRAWN:
        axes.plot(log.column(name), label=name, linewidth=1)
    axes.legend()
    figure.savefig(file)


def _policy(file: Path | None) -> MemAlpha:
    from lamina.text.construction_policy import MemAlpha

    return MemAlpha.default() if file is None else MemAlpha.load(file)


def _trained(screen: Any, last: dict[str, float], file: Path) -> None:
    screen.print(f"Answers right in the last updates: {last['r1']:.2f}; words not kept: {last['r3']:.2f}")
    screen.print(output.styled(f"Written: {file}. Test it with: lamina policy eval {file}", "dim"))


def _table(screen: Any, rows: list[dict[str, Any]]) -> None:
    from rich.table import Table

    if not rows:
        screen.print("No memories to explain.")
        return
    names = list(dict.fromkeys(name for row in rows for name in row))
    table = Table(*names)
    for row in rows:
        cells = (row.get(name, "-") for name in names)
        table.add_row(*(output.styled(f"{cell:.2f}" if isinstance(cell, float) else str(cell)) for cell in cells))
    screen.print(table)


policy = typer.Typer(help="Train, test and judge what decides which memories are written.", no_args_is_help=True)
policy.command("train")(train)
policy.command("eval")(evaluate)
policy.command("explain")(explain)
