"""Every mixer and every feed-forward block in one trunk: what it learns, what it keeps, what it reads.

Mixers answer which value was bound to a key, near (``mqar-tiny``) and anywhere in the text (``far-mqar``); a mixer is
judged by the bytes a row of the text leaves in its state. Feed-forward and side blocks keep long-tailed facts in their
weights; they are judged by the bytes of weights that one token reads. All arms have the same trunk, batches, steps and
two rates to choose from, by half a run on a seed that is not reported. What is only slow to learn at this size looks
weak here: it is a table of small models, not of papers.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lamina._optional import require
from lamina.bench.card import Scale

if TYPE_CHECKING:
    from lamina.nn.decoder import LaminaForCausalLM
    from lamina.nn.tasks import Task
    from lamina.train.on_task import Learned

WIDTH, LAYERS, HEADS = 48, 2, 4
RATES = (5e-3, 1.5e-2)
_TUNING = 1000  # added to the seed
Note = Callable[[str], None]
Row = dict[str, Any]

# What the blocks are told; one that is not named here stands with its defaults.
_SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "gated_delta": {"heads": 1, "key_dim": 16, "value_dim": 32},
    "mom": {"heads": 1, "key_dim": 16, "value_dim": 32},
    "bmojo": {"window": 8, "eidetic": 8},
    "table_attention": {"bits": 8},
    "memory_block": {"bits": 8},
    "experts": {"experts": 16, "top_k": 2, "size": 16},
}
_WINDOW = {"window": 8}


@dataclass(frozen=True, slots=True)
class _Size:
    seeds: int
    steps: int
    batch: int
    facts: int  # how many
    evaluated: int


_SIZES: Mapping[Scale, _Size] = {
    "smoke": _Size(1, 4, 8, 256, 64),
    "laptop": _Size(2, 500, 48, 4_096, 512),
    "full": _Size(3, 1_500, 64, 16_384, 512),
}


@dataclass(frozen=True, slots=True)
class Arm:
    """A block in its slot; ``name`` is what the table calls it."""

    slot: str
    block: str
    name: str
    settings: Mapping[str, Any]


def arms() -> Iterator[Arm]:
    """Every block there is, and attention that sees a window alone."""
    from lamina.nn import slots

    for slot, table in {"mixer": slots.MIXERS, "ffn": slots.FFNS, "side": slots.SIDES}.items():
        for block in table:
            yield Arm(slot, block, block.replace("_", " "), _SETTINGS.get(block, {}))
    yield Arm("mixer", "attention", f"attention, window {_WINDOW['window']}", _WINDOW)
    yield Arm("ffn", slots.NONE, "nothing", {})


def run(seed: int, scale: Scale, note: Note) -> list[Row]:
    """A row for each arm and task: accuracy (mean, least and most of the seeds), steps, parameters and bytes."""
    size, rows = _SIZES[scale], []
    for arm in arms():
        tasks = _tasks(arm.slot, size)
        rate = _rate(arm, tasks[next(reversed(tasks))], size, seed)
        for name, task in tasks.items():
            note(f"{arm.name} on {name}")
            learned = [_taught(arm, task, size, seed + each, rate, size.steps) for each in range(size.seeds)]
            rows.append(_row(arm, name, task, rate, learned))
    return rows


def _tasks(slot: str, size: _Size) -> dict[str, Task]:
    from lamina.nn.suite import task

    if slot == "mixer":
        return {name: task(name) for name in ("mqar-tiny", "far-mqar")}
    return {"facts": task("facts", N=size.facts, subjects=64, relations=64)}


def _model(arm: Arm, task: Task, seed: int) -> LaminaForCausalLM:
    import torch

    from lamina.nn.config import LaminaConfig
    from lamina.nn.decoder import LaminaForCausalLM

    named: dict[str, Any] = {"ffn": "none" if arm.slot == "mixer" else "swiglu", arm.slot: arm.block}
    block = {arm.block: arm.settings} if arm.settings else None
    torch.manual_seed(seed)
    config = LaminaConfig(task.V, WIDTH, LAYERS, HEADS, ffn_size=WIDTH, short_conv=4, block=block, **named)
    return LaminaForCausalLM(config)


def _taught(arm: Arm, task: Task, size: _Size, seed: int, rate: float, steps: int) -> tuple[LaminaForCausalLM, Learned]:
    from lamina.train.on_task import learn

    model = _model(arm, task, seed)
    return model, learn(model, task, steps=steps, lr=rate, batch=size.batch, seed=seed, below=0.02)


def _rate(arm: Arm, task: Task, size: _Size, seed: int) -> float:
    """The better of two rates after half a run, on a seed of its own."""
    half = max(1, size.steps // 2)
    losses = {rate: _taught(arm, task, size, seed + _TUNING, rate, half)[1].losses for rate in RATES}
    return min(RATES, key=lambda rate: statistics.fmean(losses[rate][-20:]))


def _row(arm: Arm, name: str, task: Task, rate: float, learned: Sequence[tuple[LaminaForCausalLM, Learned]]) -> Row:
    from lamina.nn import costs

    model, _ = learned[0]
    right = [each.accuracy["all"] for _, each in learned]
    tail = [each.accuracy["tail"] for _, each in learned if "tail" in each.accuracy]
    return {
        "slot": arm.slot,
        "arm": arm.name,
        "task": name,
        "right": statistics.fmean(right),
        "least": min(right),
        "most": max(right),
        **({"tail": statistics.fmean(tail)} if tail else {}),
        "steps": statistics.fmean(len(each.losses) for _, each in learned),
        "rate": rate,
        "parameters": model.num_parameters(),
        "state_bytes": _state_bytes(model, task.T),
        "bytes_read_per_token": costs.bytes_read_per_token(model),
        "macs_per_token": costs.macs_per_token(model, task.T),
        "cpu_seconds": statistics.fmean(each.seconds for _, each in learned),
    }


def _state_bytes(model: LaminaForCausalLM, time: int) -> int:
    """Measured, of one row after so many tokens."""
    import torch

    with torch.inference_mode():
        cache = model(torch.zeros(1, time, dtype=torch.long), use_cache=True).past_key_values
    return int(cache.nbytes)


def draw(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Right answers of mixers against bytes kept, and of feed-forward blocks against bytes read. Raises
    ``MissingDependency`` without matplotlib."""
    figure = require("matplotlib.figure", "drawing architectures").Figure(figsize=(12, 4.8), layout="constrained")
    tasks = list(dict.fromkeys(row["task"] for row in rows))
    for panel, task in zip(figure.subplots(1, len(tasks)), tasks, strict=True):
        own = [row for row in rows if row["task"] == task]
        mixers = own[0]["slot"] == "mixer"
        what = "state_bytes" if mixers else "bytes_read_per_token"
        for row in own:
            around = [[row["right"] - row["least"]], [row["most"] - row["right"]]]
            panel.errorbar(row[what], row["right"], around, marker="o", capsize=3)
            panel.annotate(row["arm"], (row[what], row["right"]), xytext=(5, 4), textcoords="offset points", fontsize=8)
        told = "bytes kept of one row" if mixers else "bytes of weights a token reads"
        panel.set(xscale="log", xlabel=told, title=task, ylim=(-0.03, 1.08))
        panel.grid(alpha=0.3)
    figure.savefig(path, dpi=140)
