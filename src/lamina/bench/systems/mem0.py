"""Mem0: is a conversation remembered at a fraction of its cost, found again, and kept current?

The paper compares latency and tokens with a full context and lets a model judge answers. Five experiments here judge
without one: *cost* beside the full context (``bench.context_cost``), *recall* of LoCoMo's evidence beside cosine,
BM25, mem0's own ranking and the mem0 package (``bench.conversations.locomo``; only where ``LAMINA_LOCOMO`` names the
file), *knowledge updates* of people whose sentences the rules were not made from (``bench.knowledge_updates``), *two
hops* over the graph of facts (``bench.two_hop``), and what a chat model's broken answers do to the facts
(``bench.model_days``).

A ratio is a claim where the baseline pays for the same answer; where one side alone decides, its own value is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lamina.bench import context_cost, knowledge_updates, mem0_peer, model_days, two_hop
from lamina.bench.card import Card, Claim, Measurement, Scale
from lamina.bench.conversations.locomo import data_file, has_data
from lamina.bench.conversations.locomo import run as run_locomo
from lamina.bench.knowledge_updates import Updates
from lamina.llm.embed import LocalEmbedder, MiniLM

TOKENS = Claim("Ten memories take a sixth of the tokens of the conversation", "tokens of the prompt", "", 6.0, "less")
TTFT_P50 = Claim("The first token comes four times sooner", "time to first token p50", "ms", 4.0, "less")
TTFT_P95 = Claim("Nearly always it comes three times sooner", "time to first token p95", "ms", 3.0, "less")
SEARCH = Claim(
    "Searching 10 000 memories takes no time that one notices",
    "search p95, encoding included",
    "ms",
    60.0,
    "less",
    "ours",
)
FOUND = Claim("Most of the evidence is among ten turns", "LoCoMo recall@10", "", 0.70, of="ours")
OVER_COSINE = Claim("Half as much again as a vector store finds", "LoCoMo recall@10", "", 1.5)
OVER_ALL = Claim("More than any other way to rank turns", "LoCoMo recall@10 over the best baseline", "", 1.0)
STALE_PLAIN = Claim("What changed is known, said outright", "stale@1, canonical", "", 0.05, "less", "ours")
STALE_TALK = Claim(
    "What changed is known, in other words too", "stale@1, canonical and paraphrased", "", 0.25, "less", "ours"
)
STALE_IMPLIED = Claim("Changes that are only implied are no worse than by cosine", "stale@1, implied", "", 1.0, "less")
CURRENT = Claim("The first hit is the current statement", "share of all changes", "", 2.0)
WRONG = Claim("What still holds is not ended", "wrong supersessions of pairs that hold", "", 0.02, "less", "ours")
LOST = Claim("No statement is lost", "statements lost", "", 0.0, "less", "ours")
TWICE = Claim("What is said twice is stored once", "share of repetitions stored", "", 0.05, "less", "ours")
PAST = Claim("The past is what was known then", "as_of shows the old statement alone", "", 1.0, of="ours")
HOPS = Claim("The graph reaches the second hop", "recall@10 of the second hop", "", 0.6, of="ours")
NO_HOPS = Claim("Cosine does not", "recall@10 of the second hop by cosine", "", 0.1, "less", "ours")
KEPT = Claim("A model's true facts are kept, however it words its answer", "valid facts kept", "", 1.0, of="ours")
INVENTED = Claim("What it invents is never active", "ungrounded facts active", "", 0.0, "less", "ours")
UNREAD = Claim("No turn is lost when it fails", "turns lost", "", 0.0, "less", "ours")

LOCOMO = ("lamina", "dense", "bm25", "mem0-ranker")


def run(seed: int, scale: Scale) -> list[Measurement]:
    """See ``Card.run``."""
    model = MiniLM(cache_size=200_000)
    return [
        *_cost(model, seed, scale),
        *(_recall(model, seed) if scale != "smoke" and has_data(None) else ()),
        *_updates(knowledge_updates.measure(model, seed, {"smoke": 3, "laptop": 50, "full": 200}[scale])),
        *_two_hops(model, seed, scale),
        *_bad_days(seed, scale),
    ]


def _cost(model: LocalEmbedder, seed: int, scale: Scale) -> list[Measurement]:
    from lamina.llm.local import LocalChat

    tokens, questions = {"smoke": (700, 1), "laptop": (4096, 10), "full": (7168, 30)}[scale]
    memories, searches = {"smoke": (300, 10), "laptop": (10_000, 200), "full": (100_000, 500)}[scale]
    cost = context_cost.measure(model, LocalChat(), seed, tokens, questions)
    took = context_cost.search_times(model, seed, memories, searches)
    name = "the whole conversation"
    measured = [TOKENS.measured(cost.retrieved_tokens, cost.full_tokens, name)]
    for claim, share in ((TTFT_P50, 50), (TTFT_P95, 95)):
        ours, full = (float(np.percentile(times, share)) for times in (cost.retrieved_ms, cost.full_ms))
        measured.append(claim.measured(ours, full, name))
    return [*measured, SEARCH.measured(float(np.percentile(took, 95)))]


def _recall(model: LocalEmbedder, seed: int) -> list[Measurement]:
    names = [*LOCOMO, *(["mem0ai"] if mem0_peer.installed() else [])]
    table: Mapping[str, Any] = run_locomo(data_file(None), systems=names, seed=seed, embedder=model)["systems"]
    recall = {name: float(row["recall@10"]) for name, row in table.items()}
    best = max((name for name in recall if name != "lamina"), key=lambda name: recall[name])
    return [
        FOUND.measured(recall["lamina"]),
        OVER_COSINE.measured(recall["lamina"], recall["dense"], "cosine per turn"),
        OVER_ALL.measured(recall["lamina"], recall[best], best),
    ]


def _updates(found: Updates) -> list[Measurement]:
    cosine = "cosine over all statements"

    def stale(claim: Claim, *phrasings: knowledge_updates.Phrasing) -> Measurement:
        return claim.measured(found.stale(*phrasings), found.stale_baseline(*phrasings), cosine)

    return [
        stale(STALE_PLAIN, "canonical"),
        stale(STALE_TALK, "canonical", "paraphrase"),
        stale(STALE_IMPLIED, "implicit"),
        CURRENT.measured(found.current, found.current_baseline, cosine),
        WRONG.measured(found.wrongly_closed),
        LOST.measured(float(found.lost)),
        TWICE.measured(found.duplicates),
        PAST.measured(found.as_of),
    ]


def _two_hops(model: LocalEmbedder, seed: int, scale: Scale) -> list[Measurement]:
    found = two_hop.measure(model, seed, scale).second_hop
    return [
        HOPS.measured(found["graph"], found["dense"], "cosine"),
        NO_HOPS.measured(found["dense"]),
    ]


def _bad_days(seed: int, scale: Scale) -> list[Measurement]:
    """The worse of the paper's pipeline and the additive one."""
    exchanges = {"smoke": 12, "laptop": 48, "full": 96}[scale]
    days = [model_days.measure(seed, pipeline="mem0", exchanges=exchanges)]
    days.append(model_days.measure(seed, pipeline="mem0-additive", exchanges=exchanges))
    return [
        KEPT.measured(min(day.valid_kept for day in days)),
        INVENTED.measured(float(max(day.ungrounded_active for day in days))),
        UNREAD.measured(float(max(day.turns_lost for day in days))),
    ]


def plot(measurements: Sequence[Measurement], file: Path) -> None:
    """Bars of stale@1 by phrasing, ours beside cosine."""
    from lamina._optional import require

    figures = require("matplotlib.figure", "drawing a card")
    rows = [found for found in measurements if found.claim in (STALE_PLAIN, STALE_TALK, STALE_IMPLIED)]
    figure = figures.Figure(figsize=(6, 3), layout="constrained")
    axes = figure.subplots()
    places = np.arange(len(rows))
    for shift, label in ((-0.2, "lamina"), (0.2, "cosine")):
        heights = [(row.ours if label == "lamina" else row.baseline) or 0.0 for row in rows]
        axes.bar(places + shift, heights, width=0.4, label=label)
    axes.set_xticks(places, [row.claim.metric.removeprefix("stale@1, ") for row in rows])
    axes.set_ylabel("stale@1")
    axes.legend()
    figure.savefig(file)


CARD = Card(
    name="mem0",
    paper="Mem0: Building Production-Ready AI Agents with Scalable Long-Term Memory",
    arxiv="2504.19413",
    module="lamina.text",
    summary="Takes facts from conversations, keeps them current, and finds the few lines that answer a question.",
    claims=(
        TOKENS, TTFT_P50, TTFT_P95, SEARCH, FOUND, OVER_COSINE, OVER_ALL, STALE_PLAIN, STALE_TALK, STALE_IMPLIED,
        CURRENT, WRONG, LOST, TWICE, PAST, HOPS, NO_HOPS, KEPT, INVENTED, UNREAD,
    ),
    run=run,
    plot=plot,
)  # fmt: skip
