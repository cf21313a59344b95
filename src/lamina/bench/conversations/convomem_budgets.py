"""Is ConvoMem's router worth asking? Three budgets on the released cells, against always doing the same.

Claims and measurements of the replay (``convomem_replay``), for the card. A strict budget is not enforced here: a plan
beyond it is scored with its overshoot priced, as the router prices it. Baseline of the claims on utility is the same
router with constant accuracies: what the released curves add to it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby

import numpy as np

from lamina.bench.card import Claim, Measurement
from lamina.bench.conversations.convomem_replay import Cell, Constant, cells, errors, walked
from lamina.text.context_choice import Budget, QualityPrior, ReaderProfile
from lamina.text.context_fit import fitted
from lamina.text.context_prior import REFERENCE, released

PRESETS = {
    "interactive": Budget(max_latency_s=2.5),
    "balanced": Budget(max_latency_s=8.0, max_cost=0.03),
    "thrifty": Budget(max_cost=0.002),
}
LEAVES = {"interactive": (30, 50), "balanced": (150, 200), "thrifty": (5, 6)}

LEAVING = {
    name: Claim(
        f"{name}: full context is planned up to n={last}, and another strategy from n={after}",
        "released sizes at which it plans otherwise (user facts, 1 message)",
        "sizes",
        0,
        better="less",
        of="ours",
    )
    for name, (last, after) in LEAVES.items()
}
REGRET = {
    (name, bound): Claim(
        f"{name}: little is lost against the best strategy of each cell{label}, categories unseen",
        f"1 - mean utility / mean utility of the best{' within the budget' if bound else ', overshoot priced'}",
        "share",
        0.05,
        better="less",
        of="ours",
    )
    for name in PRESETS
    for bound, label in ((True, " that kept the budget"), (False, ""))
}
BEATS = {
    (name, other): Claim(
        f"{name}: choosing beats {label}", f"mean utility less that of {label}", "utility", 1e-9, of="ours"
    )
    for name in PRESETS
    for other, label in (("full", "always reading everything"), ("rag", "always retrieving"))
}
COSTS = {
    what: Claim(
        f"the formulas foretell the {what} of a strategy in categories unseen",
        f"median |predicted / released - 1| of {what}, nothing metered",
        "share",
        0.25,
        better="less",
        of="ours",
    )
    for what in ("dollars", "seconds")
}
CLAIMS = (*LEAVING.values(), *REGRET.values(), *BEATS.values(), *COSTS.values())


def replay() -> list[Measurement]:
    """Every claim above, on the released cells."""
    every = cells(released())
    runs = [list(run) for _, run in groupby(every, key=lambda cell: (cell.category, cell.evidence))]
    unseen = {cell.category: (cell.category,) for cell in every}
    readers = {category: fitted(REFERENCE, leave_out=out) for category, out in unseen.items()}
    priors = {category: QualityPrior(leave_out=out) for category, out in unseen.items()}
    measured = [
        COSTS[what].measured(error) for what, error in zip(("dollars", "seconds"), errors(every, readers), strict=True)
    ]
    for name, budget in PRESETS.items():
        plain = dict.fromkeys(priors, Constant())
        ours, constant = (_utility(runs, readers, of, budget) for of in (priors, plain))
        choice = sum(len(cell.within(budget)) > 1 for cell in every)
        kept = sum(bool(cell.within(budget)) for cell in every)
        among = f"constant accuracies; of {len(every)} cells {choice} have two strategies in budget, {kept} one or more"
        for bound in (True, False):
            best = float(np.mean([cell.best(budget, bound=bound) for cell in every]))
            measured.append(REGRET[name, bound].measured(1 - ours / best, 1 - constant / best, among))
        for other in ("full", "rag"):
            always = float(np.mean([cell.utility(other, budget) for cell in every]))
            measured.append(BEATS[name, other].measured(ours - always, constant - always, among))
        curve = next(run for run in runs if (run[0].category, run[0].evidence) == ("user_facts", 1))
        planned = walked(curve, readers["user_facts"], budget, priors["user_facts"])
        early = [cell.stats.conversations <= LEAVES[name][0] for cell in curve]
        wrong = sum(keep != (strategy == "full") for keep, strategy in zip(early, planned, strict=True))
        measured.append(LEAVING[name].measured(wrong))
    return measured


def _utility(
    runs: Sequence[Sequence[Cell]],
    readers: Mapping[str, ReaderProfile],
    priors: Mapping[str, QualityPrior],
    budget: Budget,
) -> float:
    """Mean over all cells of what a router gets that walks each run."""
    utilities = []
    for run in runs:
        category = run[0].category
        planned = walked(run, readers[category], budget, priors[category])
        utilities += [cell.utility(strategy, budget) for cell, strategy in zip(run, planned, strict=True)]
    return float(np.mean(utilities))
