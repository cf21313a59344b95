"""How UltraMemV2's claims are measured; what is claimed is said in ``bench.systems.ultramem_v2``."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lamina._optional import require
from lamina.bench.card import Measurement, Scale
from lamina.bench.systems.ultramem_v2 import (
    BEGINNING,
    BYTES,
    CUT,
    EXPERTS,
    FROZEN,
    MACS,
    PARAMETERS,
    ROWS,
    SCORE,
    TAIL,
)

if TYPE_CHECKING:
    from lamina.bench.experiments.architectures.long_tail_arms import Learned
    from lamina.nn.facts import LongTailFacts

ARMS = ("dense", "wide", "experts", "memory")
_TOKENS = 64  # of the batch whose bytes are counted: half as many facts
_DEPTHS = (2, 12, 24)


@dataclass(frozen=True, slots=True)
class Size:
    """Facts are ``subjects * relations``; ``keys`` a side of the memory."""

    seeds: int
    steps: int
    batch: int
    subjects: int
    relations: int
    keys: int


SIZES: Mapping[Scale, Size] = {
    "smoke": Size(1, 2, 16, 16, 8, 32),
    "laptop": Size(1, 1_500, 512, 256, 64, 64),
    "full": Size(2, 1_500, 512, 256, 64, 64),
}


def run(seed: int, scale: Scale) -> list[Measurement]:
    """Every claim once; right answers are the mean of the seeds."""
    require("torch", "the proof of UltraMemV2")
    from lamina.bench.experiments.architectures.long_tail_arms import teach
    from lamina.nn.facts import LongTailFacts

    size = SIZES[scale]
    count = size.subjects * size.relations
    task = LongTailFacts(N=count, subjects=size.subjects, relations=size.relations, values=256, zipf=0.5, seed=seed)

    def taught(arm: str, each: int, *, freeze: bool = False) -> Learned:
        return teach(task, arm, size.keys, steps=size.steps, batch=size.batch, seed=each, freeze=freeze)

    learned = {arm: [taught(arm, seed + each) for each in range(size.seeds)] for arm in ARMS}
    learned["frozen"] = [taught("memory", seed, freeze=True)]  # it says what the table is for, and is no contender
    return [*_answers(learned), *_costs(task, learned), *_beginning(task, learned, size.keys)]


def _answers(learned: Mapping[str, list[Learned]]) -> list[Measurement]:
    tail = {arm: statistics.fmean(each.right["tail"] for each in runs) for arm, runs in learned.items()}
    first = {arm: runs[0].right["tail"] for arm, runs in learned.items()}
    gain = first["memory"] - first["wide"]
    lost = (first["memory"] - first["frozen"]) / gain if gain > 0 else float("nan")
    said = "; ".join(f"{arm} {tail[arm]:.3f} of the tail, {runs[0].cost}" for arm, runs in learned.items())
    by_seed = ", ".join(f"{each.right['tail']:.3f}" for each in learned["memory"])
    return [
        TAIL.measured(tail["memory"] - tail["wide"], None, said),
        EXPERTS.measured(tail["experts"] - tail["memory"], None, f"by seed the memory {by_seed}"),
        FROZEN.measured(lost, None, f"{first['frozen']:.3f} of the tail with the table as drawn"),
    ]


def _costs(task: LongTailFacts, learned: Mapping[str, list[Learned]]) -> list[Measurement]:
    import torch

    from lamina.bench.experiments.architectures.long_tail_arms import cost, memories, touched

    models = {arm: learned[arm][0].model for arm in ("wide", "experts", "memory")}
    ids = task.sample(_TOKENS // task.T, torch.Generator().manual_seed(task.seed)).ids
    ours, theirs = touched(models["memory"], ids), touched(models["experts"], ids)
    layers = memories(models["memory"])
    said = sum(layer.top_m * layer.table.row_bytes for layer in layers)
    alone = [touched(models["memory"], ids[:1, :1]), touched(models["memory"], ids[1:2, :1])]
    stored = sum(layer.table.rows * layer.table.row_bytes for layer in layers)
    found = {arm: cost(model) for arm, model in models.items()}
    macs, parameters = found["memory"]
    apart = {arm: abs(own / macs - 1) for arm, (own, _) in found.items()}
    return [
        BYTES.measured(ours, theirs, f"experts; the tables are {stored} B"),
        ROWS.measured(max(abs(each / said - 1) for each in alone), None, f"{said} B a token"),
        MACS.measured(max(apart.values()), None, ", ".join(f"{arm} {own:.3f}" for arm, own in apart.items())),
        PARAMETERS.measured(abs(found["experts"][1] / parameters - 1), None, f"{found['experts'][1]}, {parameters}"),
    ]


def _beginning(task: LongTailFacts, learned: Mapping[str, list[Learned]], keys: int) -> list[Measurement]:
    import torch

    from lamina.bench.experiments.architectures.long_tail_arms import beginnings, config, looking
    from lamina.nn.decoder import LaminaForCausalLM

    ids = task.sample(_TOKENS, torch.Generator().manual_seed(task.seed + 1)).ids
    torch.manual_seed(task.seed)
    fresh = LaminaForCausalLM(config(task, "memory", keys)).train(False)
    share, score = looking(fresh, ids)
    after, later = looking(learned["memory"][0].model, ids)
    ratios = [each for layers in _DEPTHS for each in beginnings(task, keys, layers, ids)]
    return [
        CUT.measured(share, None, f"after the lessons {after:.3f}"),
        SCORE.measured(max(score, 1 / score), None, f"{score:.3f}, after the lessons {later:.3f}"),
        BEGINNING.measured(
            max(max(each, 1 / each) for each in ratios), None, f"{min(ratios):.2f} to {max(ratios):.2f}"
        ),
    ]
