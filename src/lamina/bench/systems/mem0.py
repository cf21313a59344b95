"""Mem0: is a conversation remembered at a fraction of its cost, found again, and kept current?

The paper compares latency and tokens with a full context and lets a model judge answers. Five experiments here judge
without one: *cost* beside the full context, of questions whose evidence is among the ten memories
(``bench.experiments.context_cost``), *recall* of LoCoMo's evidence beside cosine, BM25, mem0's own ranking and the
mem0 package (``bench.conversations.locomo``; only where ``LAMINA_LOCOMO`` names the file), *knowledge updates* of
people whose sentences the rules were not made from (``bench.experiments.knowledge_updates``), *two hops* over the
graph of facts beside the same search without it (``bench.experiments.two_hop``), and what becomes of all that was
said when a chat model misbehaves in every way (``bench.experiments.model_days``).

A ratio is a claim where the baseline pays for the same answer; where one side alone decides, its own value is.

Three claims are known to fail and stay. ``CURRENT_BEST``: "The newest of the two nearest statements" puts the current
value first more often than Lamina does, and the stale one less often when it is paraphrased. It knows that every
question of that set is about a change, so it prefers any newer sentence that is near; Lamina ends a statement only
when what was said ends it, and a change that is merely implied ends nothing. What the rule costs is in the same run:
asked for the older of two statements that both hold (``STANDING``), it nearly always answers with the other one.
``EITHER`` weighs both kinds of question alike. ``SWAPPED``: a fact whose words were all said but for one ordinary verb
("repairs" for "sells") is not told from a paraphrase; only denials and verbs of events are looked at.
``PAST``: the past is searched as the present is, and the right statement is not always the first hit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from lamina.bench import mem0_peer
from lamina.bench.card import Card, Claim, Measurement, Scale
from lamina.bench.conversations.locomo import data_file, has_data
from lamina.bench.conversations.locomo import run as run_locomo
from lamina.bench.experiments.text import knowledge_updates, two_hop
from lamina.bench.experiments.text.knowledge_updates import BASELINES, Arm, Phrasing, Updates
from lamina.bench.experiments.tiers import context_cost, model_days
from lamina.llm.embed import LocalEmbedder, MiniLM

TOKENS = Claim("Ten memories take a sixth of the tokens of the conversation", "tokens of the prompt", "", 6.0, "less")
TTFT_P50 = Claim("The first token comes four times sooner", "time to first token p50", "ms", 4.0, "less")
TTFT_P95 = Claim("Nearly always it comes three times sooner", "time to first token p95", "ms", 3.0, "less")
ANSWERABLE = Claim("The ten memories hold what is asked for", "cost questions with evidence in ten", "", 0.7, of="ours")
SEARCH = Claim(
    "Searching 10 000 verbatim memories takes no time that one notices",
    "search p95, question encoded; stored vectors are of words, without facts",
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
CURRENT = Claim("The first hit is the current statement", "share of all changes", "", 2.0)
CURRENT_BEST = Claim("Current value first, against the better of both baselines", "share of all changes, best", "", 1.0)
STANDING = Claim("What still holds is first when it is asked for", "share of coexisting pairs, best", "", 1.0)
EITHER = Claim("Of changed and of standing matters, the right one is first", "mean of both shares, best", "", 1.0)
WRONG = Claim("What still holds is not ended", "wrong supersessions of pairs that hold", "", 0.02, "less", "ours")
LOST = Claim("No statement is lost", "statements lost", "", 0.0, "less", "ours")
TWICE = Claim("What is said twice is stored once", "share of repetitions stored", "", 0.05, "less", "ours")
PAST = Claim("The past is what was known then", "first hit as_of then is the old statement", "", 1.0, of="ours")
HOPS = Claim("The graph reaches the second hop", "recall@10 of the second hop", "", 0.6, of="ours")
NO_HOPS = Claim("Cosine does not", "recall@10 of the second hop by cosine", "", 0.1, "less", "ours")
OVER_HYBRID = Claim("The graph is what reaches it", "recall@10 of the second hop over hybrid search", "", 1.5)
FIRST_HOP = Claim("The first hop stays", "recall@10 of the first hop lost to the graph", "", 0.02, "less", "ours")
WRONG_HOP = Claim("It follows nobody else", "questions given another's second hop", "", 0.1, "less", "ours")
KEPT = Claim("What was said is kept, whatever the model does", "facts of all sayings active", "", 1.0, of="ours")
INVENTED = Claim("What it invents is never active", "invented facts active", "", 0.0, "less", "ours")
SWAPPED = Claim("Not even one verb put for another", "facts with another verb active", "", 0.0, "less", "ours")
ORDERED = Claim("What a tool orders is never a fact", "orders and lies of tool turns active", "", 0.0, "less", "ours")
UNREAD = Claim("No turn is lost when it fails", "turns not stored or never read", "", 0.0, "less", "ours")
RETRIED = Claim("All that waited is read when it is back", "share of waiting turns read", "", 1.0, of="ours")
DOUBLED = Claim("Nothing is remembered twice for it", "facts with the same wording", "", 0.0, "less", "ours")

_NAMES: dict[Arm, str] = {
    "nearest": "nearest by cosine",
    "newest of two": "newest of the two nearest by cosine",
}
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
    name = f"the whole conversation ({len(cost.full_ms)} of {cost.asked} questions: evidence among the ten)"
    measured = [ANSWERABLE.measured(cost.answerable), SEARCH.measured(float(np.percentile(took, 95)))]
    if not cost.full_ms:
        return measured
    measured.append(TOKENS.measured(float(np.mean(cost.retrieved_tokens)), float(np.mean(cost.full_tokens)), name))
    for claim, share in ((TTFT_P50, 50), (TTFT_P95, 95)):
        ours, full = (float(np.percentile(times, share)) for times in (cost.retrieved_ms, cost.full_ms))
        measured.append(claim.measured(ours, full, name))
    return measured


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
    nearest, newest = BASELINES

    def stale(claim: Claim, *phrasings: Phrasing) -> Measurement:
        best = min(BASELINES, key=lambda arm: found.stale(arm, *phrasings))
        return claim.measured(found.stale("lamina", *phrasings), found.stale(best, *phrasings), _NAMES[best])

    def against_best(claim: Claim, share: Callable[[Arm], float]) -> Measurement:
        best = max(BASELINES, key=share)
        return claim.measured(share("lamina"), share(best), _NAMES[best])

    implied = ", ".join(f"{arm} {found.stale(arm, 'implicit'):.3f}" for arm in ("lamina", nearest, newest))
    talk = stale(STALE_TALK, "canonical", "paraphrase")
    return [
        stale(STALE_PLAIN, "canonical"),
        replace(talk, baseline_name=f"{talk.baseline_name} (without a bar, stale@1 of implied changes: {implied})"),
        CURRENT.measured(found.current("lamina"), found.current(nearest), _NAMES[nearest]),
        against_best(CURRENT_BEST, found.current),
        against_best(STANDING, found.standing),
        against_best(EITHER, found.either),
        WRONG.measured(found.wrongly_closed),
        LOST.measured(float(found.lost)),
        TWICE.measured(found.duplicates),
        against_best(PAST, found.as_of),
    ]


def _two_hops(model: LocalEmbedder, seed: int, scale: Scale) -> list[Measurement]:
    found = two_hop.measure(model, seed, scale)
    graph, hybrid, dense = (found.second_hop[arm] for arm in ("graph", "hybrid", "dense"))
    return [
        HOPS.measured(graph, hybrid, "the same search without the graph"),
        NO_HOPS.measured(dense),
        OVER_HYBRID.measured(graph, hybrid, "the same search without the graph"),
        FIRST_HOP.measured(found.first_hop_loss),
        WRONG_HOP.measured(found.wrong_hop_rate),
    ]


def _bad_days(seed: int, scale: Scale) -> list[Measurement]:
    """The worse of the paper's pipeline and the additive one."""
    exchanges = {"smoke": 1, "laptop": 4, "full": 8}[scale] * len(model_days.TROUBLES)
    days = [model_days.measure(seed, pipeline=name, exchanges=exchanges) for name in model_days.PIPELINES]
    return [
        KEPT.measured(min(day.facts_kept for day in days)),
        INVENTED.measured(float(max(day.invented_active for day in days))),
        SWAPPED.measured(float(max(day.swapped_active for day in days))),
        ORDERED.measured(float(max(day.orders_active for day in days))),
        UNREAD.measured(float(max(day.turns_lost for day in days))),
        RETRIED.measured(min(day.retried_completed for day in days)),
        DOUBLED.measured(float(max(day.duplicates for day in days))),
    ]


def plot(measurements: Sequence[Measurement], file: Path) -> None:
    """Bars of the three shares of right first hits, ours beside the better baseline's."""
    from lamina._optional import require

    figures = require("matplotlib.figure", "drawing a card")
    rows = [found for found in measurements if found.claim in (CURRENT_BEST, STANDING, EITHER)]
    figure = figures.Figure(figsize=(6, 3), layout="constrained")
    axes = figure.subplots()
    places = np.arange(len(rows))
    for shift, label in ((-0.2, "lamina"), (0.2, "better baseline")):
        heights = [(row.ours if label == "lamina" else row.baseline) or 0.0 for row in rows]
        axes.bar(places + shift, heights, width=0.4, label=label)
    axes.set_xticks(places, ["changed", "standing", "either"])
    axes.set_ylabel("right first hit")
    axes.legend()
    figure.savefig(file)


CARD = Card(
    name="mem0",
    paper="Mem0: Building Production-Ready AI Agents with Scalable Long-Term Memory",
    arxiv="2504.19413",
    module="lamina.text",
    summary="Takes facts from conversations, keeps them current, and finds the few lines that answer a question.",
    claims=(
        TOKENS, TTFT_P50, TTFT_P95, ANSWERABLE, SEARCH, FOUND, OVER_COSINE, OVER_ALL, STALE_PLAIN, STALE_TALK, CURRENT,
        CURRENT_BEST, STANDING, EITHER, WRONG, LOST, TWICE, PAST, HOPS, NO_HOPS, OVER_HYBRID, FIRST_HOP, WRONG_HOP,
        KEPT, INVENTED, SWAPPED, ORDERED, UNREAD, RETRIED, DOUBLED,
    ),
    run=run,
    plot=plot,
)  # fmt: skip
