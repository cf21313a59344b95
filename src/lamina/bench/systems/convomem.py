"""ConvoMem, arXiv 2511.10523: no count of conversations decides whether to retrieve, the reader and the budget do.

Part A replays the router on the accuracies, times and prices that the paper's authors released. Cost and time of a
strategy are what a user's own meter shows at that size (they need no labels); accuracy is only ever *expected*, from
released curves of other categories than the one being scored. Nothing is asked of any model.

Part B asks generated histories in ConvoMem's schema, 2 to 300 conversations of six messages, with near misses written
by the evidence's own templates, through a reader that sees only the context and has no labels. Lamina stores turns
verbatim; retrieval is hybrid search (BM25 and MiniLM), 10 turns; block extraction starts from 50, and from 200 where
no word of the question was found; it has no helper model. The router plays the paper's balanced budget for its
reader: our conversations are shorter, so prices and speed are scaled until one conversation costs and takes what it
did there. mem0 writes one message at a time, so at laptop scale it is asked at
two sizes and fewer personas, and compared on the same cases. The reader is never confused by a long context, so
its accuracy with full context is an upper bound, and none of these accuracies is comparable with the paper's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lamina.bench import mem0_peer
from lamina.bench.card import Card, Claim, Measurement, Scale
from lamina.bench.conversations import slot_reader
from lamina.bench.conversations.convomem import SIZES, Asked, TestCase, evaluate, mix
from lamina.bench.conversations.convomem_answerers import fixed, mem0, open_histories, routed
from lamina.bench.conversations.convomem_generator import MOST_EVIDENCE, Persona, persona
from lamina.bench.conversations.convomem_replay import Cell, cells, choose
from lamina.llm.embed import MiniLM
from lamina.text.context_choice import (
    HOSTED,
    Budget,
    NoFeasibleStrategy,
    QualityPrior,
    ReaderProfile,
)
from lamina.text.context_prior import CONVERSATION, REFERENCE, released

PRESETS = {
    "interactive": Budget(max_latency_s=2.5),
    "balanced": Budget(max_latency_s=8.0, max_cost=0.03),
    "thrifty": Budget(max_cost=0.002),
}
LEAVES = {"interactive": (30, 50), "balanced": (150, 200), "thrifty": (5, 6)}

LEAVING = {
    name: Claim(
        f"{name}: a strict router keeps full context up to n={last} and has left it at n={after}",
        "released sizes at which it plans otherwise (user facts, 1 message)",
        "sizes",
        0,
        better="less",
        of="ours",
    )
    for name, (last, after) in LEAVES.items()
}
REGRET = {
    name: Claim(
        f"{name}: little is lost against the best strategy of each cell in hindsight, categories unseen",
        "1 - mean utility / mean utility of the best within the budget",
        "share",
        0.05,
        better="less",
        of="ours",
    )
    for name in PRESETS
}
BEATS = {
    (name, other): Claim(
        f"{name}: choosing beats {label}", f"mean utility less that of {label}", "utility", 1e-9, of="ours"
    )
    for name in PRESETS
    for other, label in (("full", "always reading everything"), ("rag", "always retrieving"))
}
VALID = Claim(
    "every generated item is answerable from its evidence, not without it, and not with any needed message missing",
    "valid items",
    "share",
    1.0,
    of="ours",
)
LINEAR = Claim("full context grows with the history", "r^2 of tokens against conversations", "r^2", 0.999, of="ours")
FLAT = Claim(
    "retrieval reads as much at 300 conversations as at 30", "tokens, 300 over 30", "x", 1.2, better="less", of="ours"
)
SPREAD = Claim(
    "retrieval loses evidence that is spread over messages",
    "all-evidence recall at n=300, 1 message less 6 messages",
    "points",
    10,
    of="ours",
)
HYBRID = Claim(
    "block extraction finds spread evidence that retrieval misses",
    "all-evidence recall at n=300, 6 messages, less retrieval's",
    "points",
    10,
    of="ours",
)
HYBRID_TOKENS = Claim(
    "block extraction reads a fraction of the history",
    "tokens at n=300 over full",
    "share",
    0.2,
    better="less",
    of="ours",
)
HYBRID_MEM0 = Claim(
    "block extraction finds spread evidence that mem0 misses",
    "all-evidence recall at n=300, 2 to 6 messages, less mem0's on the same questions",
    "points",
    10,
    of="ours",
)
ROUTER = Claim(
    "the router answers as well as the best fixed strategy",
    "accuracy lost to it, mean over sizes 2 to 300",
    "points",
    2,
    better="less",
    of="ours",
)
ROUTER_TOKENS = Claim(
    "the router reads less than full context over the sweep",
    "tokens over full's",
    "share",
    0.6,
    better="less",
    of="ours",
)


# -- A: replay -----------------------------------------------------------------------------------


def _replay() -> list[Measurement]:
    every = cells(released())
    priors = {category: QualityPrior(leave_out=(category,)) for category in {cell.category for cell in every}}
    measured = []
    for name, budget in PRESETS.items():
        chosen = [cell.utility(choose(cell, budget, priors[cell.category]), budget) for cell in every]
        best = [cell.best(budget) for cell in every]
        measured.append(REGRET[name].measured(1 - float(np.mean(chosen)) / float(np.mean(best))))
        for other in ("full", "rag"):
            always = float(np.mean([cell.utility(other, budget) for cell in every]))
            measured.append(BEATS[name, other].measured(float(np.mean(chosen)) - always))
        curve = [cell for cell in every if (cell.category, cell.evidence) == ("user_facts", 1)]
        measured.append(LEAVING[name].measured(_misplaced(curve, name, priors["user_facts"])))
    return measured


def _misplaced(curve: Sequence[Cell], preset: str, prior: QualityPrior) -> float:
    """Sizes at which a strict router reads everything though it should have left, or the reverse."""
    last = LEAVES[preset][0]
    wrong = 0
    for cell in curve:
        try:
            full = choose(cell, PRESETS[preset], prior, strict=True) == "full"
        except NoFeasibleStrategy:
            full = False
        wrong += full != (cell.stats.conversations <= last)
    return wrong


# -- B: harness ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Plan:
    """Cases: how many personas ask at each size, how many histories of each; where mem0 is asked."""

    personas: dict[int, int]
    cases: dict[int, int]
    fillers: int
    mem0: dict[int, int]  # size -> personas


_PLANS: dict[Scale, _Plan] = {
    "smoke": _Plan({2: 1, 10: 1, 30: 1}, {2: 1, 10: 1, 30: 5}, 60, {2: 1}),
    "laptop": _Plan(
        {2: 20, 6: 20, 10: 20, 30: 20, 70: 8, 150: 8, 300: 8}, {2: 4, 6: 4, 10: 4, 30: 2, 70: 2}, 300, {30: 4, 300: 2}
    ),
    "full": _Plan(dict.fromkeys(SIZES, 20), dict.fromkeys(SIZES, 100), 300, {30: 10, 300: 10}),
}


def _harness(seed: int, scale: Scale) -> list[Measurement]:
    plan = _PLANS[scale]
    people = [persona(number, seed, fillers=plan.fillers) for number in range(max(plan.personas.values()))]
    cases = {size: [_mixed(one, size, seed, plan) for one in people[:count]] for size, count in plan.personas.items()}
    flat = {size: [case for own in of for case in own] for size, of in cases.items()}
    embedder = MiniLM(cache_size=500_000)
    rows: dict[str, list[Asked]] = {}
    with open_histories(embedder, embedder.count_tokens) as histories:
        every = [case for of in flat.values() for case in of]
        for strategy in ("full", "rag", "hybrid"):
            rows[strategy] = evaluate(fixed(histories, strategy, slot_reader.read), every, slot_reader.judge)
        reader = _scaled(every, embedder.count_tokens)
        router = routed(histories, reader, PRESETS["balanced"], slot_reader.read, prior=QualityPrior())
        rows["router"] = evaluate(router, every, slot_reader.judge)
        if mem0_peer.installed():
            shared = [case for size, count in plan.mem0.items() for own in cases[size][:count] for case in own]
            rows["mem0"] = evaluate(mem0(embedder, embedder.count_tokens, slot_reader.read), shared, slot_reader.judge)
            rows["hybrid, mem0's cases"] = evaluate(
                fixed(histories, "hybrid", slot_reader.read), shared, slot_reader.judge
            )
    return _judged(rows, people, max(plan.personas))


def _mixed(one: Persona, size: int, seed: int, plan: _Plan) -> list[TestCase]:
    return mix(one.items, {one.name: one.fillers}, size, seed)[: plan.cases.get(size, 1)]


def _scaled(cases: Sequence[TestCase], count: Any) -> ReaderProfile:
    """The paper's reader, with a conversation of ours costing and taking what one of theirs did."""
    talks = [talk for case in cases[:50] for talk in case.conversations]
    ours = sum(count(f'{m.speaker}, 1 January 2024: "{m.text}"') for talk in talks for m in talk.messages) / len(talks)
    factor, paper = CONVERSATION / ours, HOSTED[REFERENCE]
    return replace(
        paper,
        usd_input=paper.usd_input * factor,
        usd_cached=paper.usd_cached * factor,
        prefill_tps=paper.prefill_tps / factor,
        window=round(paper.window / factor),
    )


def _judged(rows: dict[str, list[Asked]], people: Sequence[Persona], longest: int) -> list[Measurement]:
    sizes = sorted({row.size for row in rows["full"]})
    tokens = {name: [_tokens(rows[name], size) for size in sizes] for name in ("full", "rag", "hybrid", "router")}
    accuracy = {name: np.mean([_accuracy(rows[name], size) for size in sizes]) for name in tokens}
    best = max(("full", "rag", "hybrid"), key=lambda name: accuracy[name])
    spread = {name: _recall(rows[name], longest, MOST_EVIDENCE) for name in ("rag", "hybrid")}
    measured = [
        VALID.measured(float(np.mean([slot_reader.valid(item) for one in people for item in one.items]))),
        LINEAR.measured(float(np.corrcoef(sizes, tokens["full"])[0, 1] ** 2)),
        FLAT.measured(_tokens(rows["rag"], longest) / _tokens(rows["rag"], 30)),
        SPREAD.measured(100 * (_recall(rows["rag"], longest, 1) - spread["rag"])),
        HYBRID.measured(100 * (spread["hybrid"] - spread["rag"]), 100 * spread["rag"], "retrieval"),
        HYBRID_TOKENS.measured(tokens["hybrid"][-1] / tokens["full"][-1]),
        ROUTER.measured(
            100 * float(accuracy[best] - accuracy["router"]), 100 * float(accuracy[best]), f"always {best}"
        ),
        ROUTER_TOKENS.measured(sum(tokens["router"]) / sum(tokens["full"])),
    ]
    if any(row.size == longest for row in rows.get("mem0", ())):
        several = range(2, MOST_EVIDENCE + 1)
        peer = _recall(rows["mem0"], longest, *several)
        ours = _recall(rows["hybrid, mem0's cases"], longest, *several)
        measured.append(HYBRID_MEM0.measured(100 * (ours - peer), 100 * peer, mem0_peer.name()))
    return measured


def _tokens(rows: Sequence[Asked], size: int) -> float:
    return float(np.mean([row.tokens for row in rows if row.size == size]))


def _accuracy(rows: Sequence[Asked], size: int) -> float:
    return float(np.mean([bool(row.correct) for row in rows if row.size == size]))


def _recall(rows: Sequence[Asked], size: int, *evidence: int) -> float:
    """All-evidence recall; abstention has no evidence to find."""
    found = [r.all_found for r in rows if r.size == size and r.evidence in evidence and r.category != "abstention"]
    return float(np.mean(found))


def run(seed: int, scale: Scale) -> list[Measurement]:
    """Both parts. Part A does not depend on seed or scale."""
    return _replay() + _harness(seed, scale)


CARD = Card(
    name="convomem",
    paper="ConvoMem Benchmark: Why Your First 150 Conversations Don't Need RAG",
    arxiv="2511.10523",
    module="lamina.text.context_choice",
    summary="Full context, block extraction or retrieval: chosen per question by reader, history and budget",
    claims=(
        *LEAVING.values(),
        *REGRET.values(),
        *BEATS.values(),
        VALID,
        LINEAR,
        FLAT,
        SPREAD,
        HYBRID,
        HYBRID_TOKENS,
        HYBRID_MEM0,
        ROUTER,
        ROUTER_TOKENS,
    ),
    run=run,
)
