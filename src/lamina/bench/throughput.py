"""``lamina bench throughput``: how fast memories go in and come out, at growing sizes, beside mem0.

Everything is in one scope of one store on disk. Both contenders get the same texts and vectors, are warmed
equally, add the same lists and answer the same questions in turn; search times are medians. Up to ``real``
memories the encoder is MiniLM and rates of adding include it; above, embedding would take minutes and say
nothing about a store, so vectors come from ``synthetic.WordVectors`` and no rate of adding includes it.

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
from itertools import pairwise, product
from pathlib import Path
from typing import Any, TypeVar

from lamina.bench import mem0_peer
from lamina.bench.card import Claim, Measurement, Scale
from lamina.bench.contenders import BATCH, Contender, Lamina, Mem0, Meter
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
    "batch: lamina add_batch, mem0 add of a list, the same lists in turn; single: one add a message; infer: add_batch "
    "that also extracts and compares facts. Above {small:,} mem0 was filled through its vector_store.insert, because "
    "its add would take too long; its history is then empty. first_search_s builds what searching needs."
)
_ABOUT_OPENING = (
    "open_s and peak_mib: a fresh process opens the store and answers 20 questions; seconds to the first answer, and "
    "peak memory beyond the loaded libraries."
)

Record = dict[str, Any]
Note = Callable[[str], None]
T = TypeVar("T")


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
        with tempfile.TemporaryDirectory(prefix="lamina-throughput-") as folder:
            records += _size(Path(folder), chatter.messages(size + plan.singles), encoder, questions, plan, note)
    return _measurements(plan, records), records, _notes(plan)


# -- one size ------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Arm:
    """A contender with what is known of it so far."""

    contender: Contender
    meter: Meter
    record: Record

    def timed(self, work: Callable[[Contender, T], object], given: T) -> _Took:
        before = self.meter.seconds
        begin = time.perf_counter()
        work(self.contender, given)
        return _Took(time.perf_counter() - begin, self.meter.seconds - before)


@dataclass(frozen=True, slots=True)
class _Took:
    """Seconds of a call, and how many of them its encoder took."""

    total: float
    embedding: float

    @property
    def apart(self) -> float:
        return self.total - self.embedding


def _size(
    folder: Path, texts: list[str], encoder: Embedder, questions: list[str], plan: Plan, note: Note
) -> list[Record]:
    size = len(texts) - plan.singles
    bulk, singles = texts[:size], texts[size:]
    arms = [_arm(Lamina, folder, encoder, size)]
    if mem0_peer.installed() and size <= _MEM0_LARGEST:
        arms.append(_arm(Mem0, folder, encoder, size))
    note(f"{size:,} memories ({encoder.name}): adding")
    if size == plan.sizes[0]:
        _add(arms, bulk, singles, True)
        arms[0].record |= _inferring(_new(folder / "infer"), bulk, encoder)
    else:
        _add(arms[:1], bulk, singles, size <= plan.real)
        for arm in arms:
            if isinstance(arm.contender, Mem0):
                note(f"{size:,} memories: filling mem0")
                arm.contender.fill(texts, arms[0].meter.again(texts))
    note(f"{size:,} memories: searching")
    _search(arms, questions, plan, size)
    for arm in arms:
        arm.contender.close()
        home = folder / arm.contender.name
        arm.record |= probe(arm.contender.name, home, encoder.name, questions[:20])
        arm.record["disk_mib"] = _bytes(home) / 2**20
    return [arm.record for arm in arms]


def _arm(kind: type[Lamina] | type[Mem0], folder: Path, encoder: Embedder, size: int) -> _Arm:
    meter = Meter(encoder, keep=kind is Lamina)
    record: Record = {"memories": size, "system": kind.name, "encoder": encoder.name}
    return _Arm(kind(_new(folder / kind.name), meter), meter, record)


def _add(arms: Sequence[_Arm], bulk: list[str], singles: list[str], real: bool) -> None:
    """Contenders add the same parts in turn. A rate is of all parts, so that no slow one is left out."""
    step = min(BATCH, max(1, len(bulk) // 5))
    parts = [bulk[start : start + step] for start in range(0, len(bulk), step)]
    batched: list[list[_Took]] = [[] for _ in arms]
    for part, (place, arm) in product(parts, enumerate(arms)):
        batched[place].append(arm.timed(lambda contender, texts: contender.add_batch(texts), part))
    single: list[list[_Took]] = [[] for _ in arms]
    for text, (place, arm) in product(singles, enumerate(arms)):
        single[place].append(arm.timed(lambda contender, text: contender.add_one(text), text))
    for place, arm in enumerate(arms):
        arm.record |= _rates("batch", batched[place], len(bulk), real)
        arm.record |= _rates("single", single[place], len(singles), real)


def _rates(kind: str, calls: Sequence[_Took], count: int, real: bool) -> Record:
    """Adds per second, without and (for a real encoder) with the seconds of embedding."""
    rates = {f"{kind}_per_s_with_embedding": count / sum(took.total for took in calls)} if real else {}
    return rates | {f"{kind}_per_s": count / max(sum(took.apart for took in calls), 1e-9)}


def _inferring(folder: Path, texts: list[str], encoder: Embedder) -> Record:
    """The same memories with facts extracted and compared, which mem0 does with a language model only."""
    arm = _Arm(Lamina(folder, encoder, infer=True), Meter(encoder), {})
    took = arm.timed(lambda contender, texts: contender.add_batch(texts), texts)
    arm.contender.close()
    return {"infer_per_s_with_embedding": len(texts) / took.total}


def _search(arms: Sequence[_Arm], questions: list[str], plan: Plan, size: int) -> None:
    """Contenders answer each question in turn, so that a busy moment of the machine hits both."""
    slow = size == plan.sizes[-1] or size >= _MEM0_LARGEST
    times: list[list[_Took]] = [[] for _ in arms]
    for number, question in enumerate(questions):
        for place, arm in enumerate(arms):
            if slow and place and number >= _WARM + plan.peer_questions:
                continue
            times[place].append(arm.timed(lambda contender, query: contender.search(query, _K), question))
    for arm, (first, *taken) in zip(arms, times, strict=True):
        del taken[: _WARM - 1]
        arm.record["first_search_s"] = first.apart
        arm.record |= _quantiles("", [1e3 * took.apart for took in taken])
        if size <= plan.real:
            arm.record |= _quantiles("_with_embedding", [1e3 * took.total for took in taken])
        arm.record["searches"] = len(taken)


def _quantiles(suffix: str, values: Sequence[float]) -> Record:
    return {f"p50_ms{suffix}": statistics.median(values), f"p95_ms{suffix}": _quantile(sorted(values), 0.95)}


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
