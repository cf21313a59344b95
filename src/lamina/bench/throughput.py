"""``lamina bench throughput``: how fast memories go in and come out, at growing sizes, beside mem0.

Everything is in one scope of one store on disk. Both contenders get the same texts and vectors, are warmed
equally, and answer the same questions in turn; times are medians. Up to ``real`` memories the encoder is
MiniLM and rates of adding include it; above, embedding would take minutes and say nothing about a store,
so vectors come from ``synthetic.WordVectors`` and no rate of adding is stated that includes embedding.

mem0 adds one message at a time and commits each, so beyond the smallest size its store is filled through
its own ``vector_store.insert``, which leaves its history out: that flatters it. Above 100,000 it is left
out: embedded Qdrant scans every point in Python.
"""

from __future__ import annotations

import math
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from lamina.bench import mem0_peer
from lamina.bench.card import Claim, Measurement, Scale
from lamina.bench.contenders import Contender, Lamina, Mem0, Meter
from lamina.bench.probe import probe
from lamina.bench.synthetic import Chatter, WordVectors
from lamina.llm.base import Embedder

_K = 10  # memories asked for
_WARM = 5  # questions each contender answers before any is timed
_MEM0_LARGEST = 100_000

_ABOUT_VECTORS = (
    "Up to {real:,} memories vectors are MiniLM's; above they are seeded sums of word vectors, and no rate includes "
    "embedding. p50_ms and p95_ms are of a search for 10 memories without the embedding of the question."
)
_ABOUT_ADDING = (
    "batch: lamina add_batch of 1,000 a call, mem0 add of a list; single: one add a message; infer: add_batch that "
    "also extracts and compares facts. Above {small:,} mem0 was filled through its vector_store.insert, because its "
    "add would take too long; its history is then empty."
)
_ABOUT_OPENING = (
    "open_s and peak_mib: a fresh process opens the store and answers 20 questions; seconds to the first answer, and "
    "peak memory beyond the loaded libraries."
)

Record = dict[str, Any]
Note = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Plan:
    """What a scale does: sizes, up to which the encoder is real, and how much is timed."""

    sizes: tuple[int, ...]
    real: int
    singles: int  # adds one by one
    questions: int
    peer_questions: int  # of these, for the peer at the largest size, where one takes a second


PLANS: dict[Scale, Plan] = {
    "smoke": Plan((100, 200, 400), real=200, singles=20, questions=20, peer_questions=5),
    "laptop": Plan((1_000, 10_000, 100_000), real=10_000, singles=200, questions=200, peer_questions=25),
    "full": Plan((1_000, 10_000, 100_000, 1_000_000), real=10_000, singles=500, questions=500, peer_questions=50),
}


def claims(plan: Plan) -> tuple[Claim, ...]:
    """What is claimed, of the largest size that the peer takes part in."""
    small, large = plan.sizes[0], _compared(plan)
    median = f"search p50 at {large:,}, embedding apart"
    return (
        Claim(f"Searching {large:,} memories takes at most 10 ms", median, "ms", 10.0, "less", "ours"),
        Claim(f"Searching {large:,} memories is at least 10 times faster than mem0", median, "ms", 10.0, "less"),
        Claim(
            f"Adding {small:,} memories at once is at least 5 times faster than mem0, embedding included",
            f"adds per second of {small:,}",
            "1/s",
            5.0,
        ),
        Claim(
            "Ten times the memories make a search at most 3 times slower",
            f"largest growth of search p50 per tenfold size up to {plan.sizes[-1]:,}",
            "x",
            3.0,
            "less",
            "ours",
        ),
    )


def run(seed: int, scale: Scale, note: Note) -> tuple[list[Measurement], list[Record], list[str]]:
    """Measurements of the claims, one record per size and contender, and what a reader must know."""
    from lamina.llm.embed import MiniLM

    plan = PLANS[scale]
    chatter = Chatter(seed)
    model = MiniLM(cache_size=0)
    model.encode(["warm"])
    questions = chatter.questions(plan.questions + _WARM)
    records: list[Record] = []
    for size in plan.sizes:
        encoder: Embedder = model if size <= plan.real else WordVectors()
        note(f"{size:,} memories ({encoder.name})")
        with tempfile.TemporaryDirectory(prefix="lamina-throughput-") as folder:
            records += _size(Path(folder), chatter.messages(size + plan.singles), encoder, questions, plan, note)
    return _measurements(plan, records), records, _notes(plan)


# -- one size ------------------------------------------------------------------------------------


def _size(
    folder: Path, texts: list[str], encoder: Embedder, questions: list[str], plan: Plan, note: Note
) -> list[Record]:
    size = len(texts) - plan.singles
    real = size <= plan.real
    bulk, singles = texts[:size], texts[size:]
    meter = Meter(encoder)
    ours = Lamina(_new(folder / "lamina"), meter)
    record: Record = {"memories": size, "system": "lamina", "encoder": encoder.name}
    record |= _rates("batch", _timed(lambda: ours.add_batch(bulk), meter), size, real)
    record |= _rates("single", _timed(lambda: _one_by_one(ours, singles), meter), len(singles), real)
    if size == plan.sizes[0]:
        record |= _inferring(_new(folder / "infer"), bulk, Meter(encoder))
    arms: list[tuple[Contender, Meter, Record]] = [(ours, meter, record)]
    if mem0_peer.installed() and size <= _MEM0_LARGEST:
        note(f"{size:,} memories: filling mem0")
        arms.append(_mem0(_new(folder / "mem0"), bulk, singles, encoder, plan))
    note(f"{size:,} memories: searching")
    _search(arms, questions, plan, size)
    for contender, _, row in arms:
        contender.close()
        row |= probe(contender.name, folder / contender.name, encoder.name, questions[:20])
        row["disk_mib"] = _bytes(folder / contender.name) / 2**20
    return [row for _, _, row in arms]


def _mem0(
    folder: Path, bulk: list[str], singles: list[str], encoder: Embedder, plan: Plan
) -> tuple[Contender, Meter, Record]:
    """mem0 with the same memories; its own ``add`` at the smallest size, where its rate is taken."""
    meter = Meter(encoder)
    theirs = Mem0(folder, meter)
    record: Record = {"memories": len(bulk), "system": "mem0", "encoder": encoder.name}
    if len(bulk) == plan.sizes[0]:
        record |= _rates("batch", _timed(lambda: theirs.add_batch(bulk), meter), len(bulk), True)
        record |= _rates("single", _timed(lambda: _one_by_one(theirs, singles), meter), len(singles), True)
    else:
        theirs.fill([*bulk, *singles])
    return theirs, meter, record


def _inferring(folder: Path, texts: list[str], meter: Meter) -> Record:
    """The same batch with facts extracted and compared, which mem0 does with a language model only."""
    inferring = Lamina(folder, meter, infer=True)
    seconds, _ = _timed(lambda: inferring.add_batch(texts), meter)
    inferring.close()
    return {"infer_per_s": len(texts) / seconds}


def _search(arms: Sequence[tuple[Contender, Meter, Record]], questions: list[str], plan: Plan, size: int) -> None:
    """Both contenders answer each question in turn, so that a busy moment of the machine hits both."""
    slow = size == plan.sizes[-1] or size >= _MEM0_LARGEST
    limits = [len(questions) - _WARM, plan.peer_questions if slow else len(questions) - _WARM]
    times: list[list[tuple[float, float]]] = [[] for _ in arms]
    for number, question in enumerate(questions):
        for place, (contender, meter, _) in enumerate(arms):
            if number >= _WARM + limits[place]:
                continue
            took = _timed(lambda: contender.search(question, _K), meter)  # noqa: B023 - called at once
            if number >= _WARM:
                times[place].append(took)
    for (_, _, record), taken in zip(arms, times, strict=True):
        apart = sorted(1e3 * (total - encoding) for total, encoding in taken)
        record |= {"p50_ms": statistics.median(apart), "p95_ms": _quantile(apart, 0.95)}
        if size <= plan.real:
            whole = sorted(1e3 * total for total, _ in taken)
            record |= {"p50_ms_with_embedding": statistics.median(whole)}
            record |= {"p95_ms_with_embedding": _quantile(whole, 0.95)}
        record["searches"] = len(taken)


def _one_by_one(contender: Contender, texts: Sequence[str]) -> None:
    for text in texts:
        contender.add_one(text)


def _timed(work: Callable[[], object], meter: Meter) -> tuple[float, float]:
    """Seconds of ``work``, and how many of them its encoder took."""
    before = meter.seconds
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin, meter.seconds - before


def _rates(kind: str, took: tuple[float, float], count: int, real: bool) -> Record:
    """Adds per second, without and (for a real encoder) with the seconds of embedding."""
    total, encoding = took
    rates = {f"{kind}_per_s_with_embedding": count / total} if real else {}
    return rates | {f"{kind}_per_s": count / max(total - encoding, 1e-9)}


# -- from records to claims ----------------------------------------------------------------------


def _measurements(plan: Plan, records: Sequence[Record]) -> list[Measurement]:
    """Each claim with both contenders' values; a peer that did not run leaves its claims unmeasured."""
    peer = mem0_peer.name() if any(record["system"] == "mem0" for record in records) else ""
    small, large = plan.sizes[0], _compared(plan)
    ceiling, faster, adding, growing = claims(plan)

    def value(system: str, size: int, key: str) -> float | None:
        rows = (row for row in records if row["system"] == system and row["memories"] == size)
        return next((row.get(key) for row in rows), None)

    p50 = value("lamina", large, "p50_ms"), value("mem0", large, "p50_ms")
    rate = "batch_per_s_with_embedding"
    added = value("lamina", small, rate), value("mem0", small, rate)
    grown = _growth(records, "lamina"), _growth(records, "mem0")
    return [
        ceiling.measured(*p50, peer),
        faster.measured(*p50, peer),
        adding.measured(*added, peer),
        growing.measured(*grown, peer),
    ]


def _growth(records: Sequence[Record], system: str) -> float | None:
    """The largest factor of p50 between neighbouring sizes, scaled to ten times the memories."""
    rows = [row for row in records if row["system"] == system]
    factors = [
        (after["p50_ms"] / before["p50_ms"]) ** (1 / math.log10(after["memories"] / before["memories"]))
        for before, after in pairwise(rows)
    ]
    return max(factors, default=None)


def _compared(plan: Plan) -> int:
    return max(size for size in plan.sizes if size <= _MEM0_LARGEST)


def _notes(plan: Plan) -> list[str]:
    peer = mem0_peer.MISSING
    if mem0_peer.installed():
        peer = f"{mem0_peer.name()}, semantic only: its keyword and entity parts need downloads."
    return [_ABOUT_VECTORS.format(real=plan.real), _ABOUT_ADDING.format(small=plan.sizes[0]), _ABOUT_OPENING, peer]


def _quantile(ordered: Sequence[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, math.ceil(share * len(ordered)) - 1)]


def _new(folder: Path) -> Path:
    folder.mkdir()
    return folder


def _bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
