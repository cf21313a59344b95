"""What a model still knows of a text when its cache takes fewer bytes: every policy, on one scale of bytes.

SmolLM2 reads documentation once; each policy starts from that exact cache. Three figures: likelihood lost per token of
prose that goes on; digits found when the question stood in the text; digits found when it comes afterwards, so that
nothing could know what matters. Bytes are live ones, of everything a policy holds.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lamina._optional import require
from lamina.activation.policies import parse_policy
from lamina.bench.card import Scale
from lamina.bench.experiments.caches.compressed_context import Prefilled, compressed, passkeys, prefill, prose, whole
from lamina.errors import BudgetError
from lamina.llm.causal import CausalLM

POLICIES: Mapping[str, str] = {
    "CAKE": "cake:{budget}",
    "SnapKV": "snapkv:{budget}",
    "PyramidKV": "pyramidkv:{budget}",
    "StreamingLLM": "streaming-llm:{budget}",
    "chance": "random:{budget}",
    "xKV": "xkv:ratio={ratio}",
    "CAKE, int8": "cake:{budget}+int8",
    "CAKE, int4": "cake:{budget}+int4",
    "xKV, int8": "xkv:ratio={ratio}+int8",
    "CAKE, then xKV, int8": "cake:{budget}+xkv:ratio=4,tail=16+int8",
}
_SIZES: Mapping[Scale, Mapping[str, int]] = {
    "smoke": {"texts": 1, "keys": 1, "length": 300, "after": 8},
    "laptop": {"texts": 4, "keys": 6, "length": 900, "after": 64},
    "full": {"texts": 24, "keys": 40, "length": 900, "after": 64},
}
_RATIOS: Mapping[Scale, Sequence[float]] = {
    "smoke": (2.0,),
    "laptop": (2.0, 4.0, 8.0),
    "full": (2.0, 3.0, 4.0, 6.0, 8.0),
}
LOST, BEFORE, AFTER = "nats lost", "digits, asked in the text", "digits, asked afterwards"


def run(seed: int, scale: Scale, note: Callable[[str], None]) -> list[dict[str, Any]]:
    """A row for each policy at each size: its name, ``times`` fewer bytes than the whole cache, and the three figures.
    A policy whose budget is under its window has no row."""
    size, lm = _SIZES[scale], CausalLM.load()
    rows: list[dict[str, Any]] = []
    for figure, reads in _reads(lm, size, seed).items():
        exact = [whole(lm, read) for read in reads]
        for ratio in (*_RATIOS[scale], 1.0):
            note(f"{figure}, {ratio:g} times fewer bytes")
            for name, spec in POLICIES.items() if ratio > 1 else {"whole": ""}.items():
                _add(rows, name, ratio, figure, _figure(lm, reads, exact, figure, spec, ratio))
    return [row for row in rows if AFTER in row]


def _reads(lm: CausalLM, size: Mapping[str, int], seed: int) -> dict[str, list[Prefilled]]:
    texts, length = size["texts"], size["length"]
    keys = {
        before: passkeys(lm, size["keys"], length, seed=seed + 2, dev=False, asked_before=before)
        for before in (True, False)
    }
    chosen = {LOST: prose(lm, texts, length, size["after"], seed=seed + 2, dev=False), BEFORE: keys[True]}
    return {name: [prefill(lm, text) for text in some] for name, some in (chosen | {AFTER: keys[False]}).items()}


def _figure(
    lm: CausalLM, reads: Sequence[Prefilled], exact: Sequence[Any], figure: str, spec: str, ratio: float
) -> tuple[float, float] | None:
    """Times fewer bytes, really, and the figure; ``None`` for a budget that is too small."""
    if not spec:
        return 1.0, 0.0 if figure == LOST else statistics.fmean(one.right for one in exact)
    found, shares = [], []
    for read, one in zip(reads, exact, strict=True):
        dense = sum(part.untyped_storage().nbytes() for part in (*read.keys, *read.values))
        try:
            score, held = compressed(parse_policy(spec.format(budget=int(dense / ratio), ratio=ratio)), lm, read)
        except BudgetError:
            return None
        found.append(score.nll - one.nll if figure == LOST else score.right)
        shares.append(held / dense)
    return 1 / statistics.fmean(shares), statistics.fmean(found)


def _add(rows: list[dict[str, Any]], name: str, ratio: float, figure: str, found: tuple[float, float] | None) -> None:
    if found is None:
        return
    row = next((row for row in rows if (row["policy"], row["ratio"]) == (name, ratio)), None)
    if row is None:
        row = {"policy": name, "ratio": ratio, "times": found[0]}
        rows.append(row)
    row[figure] = found[1]


def draw(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Both losses against bytes, a line a policy. Raises ``MissingDependency`` without matplotlib."""
    figure = require("matplotlib.figure", "drawing policies").Figure(figsize=(11, 4.6), layout="constrained")
    panels = figure.subplots(1, 3)
    names = list(dict.fromkeys(row["policy"] for row in rows if row["policy"] != "whole"))
    for panel, what in zip(panels, (LOST, BEFORE, AFTER), strict=True):
        for place, name in enumerate(names):
            own = sorted((row["times"], row[what]) for row in rows if row["policy"] == name)
            style = {"color": f"C{place}", "marker": "o", "markersize": 4, "linestyle": "--" if "," in name else "-"}
            panel.plot([x for x, _ in own], [y for _, y in own], label=name, **style)
        panel.set(xscale="log", xlabel="times fewer bytes than the whole cache", title=what)
        panel.set_xticks([2, 4, 8], ["2", "4", "8"])
        panel.minorticks_off()
        panel.grid(alpha=0.3)
    panels[0].set_ylim(-0.03, 0.6)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=5, frameon=False)
    figure.savefig(path, dpi=140)
