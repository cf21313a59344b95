"""Nested rhythms: does a consolidation clock keep reads fast, writes few, knowledge old and new, and crashes harmless?

The paper (arXiv 2105.07284) is a perspective without algorithm, code or numbers: nothing here reproduces a result of
it, and nothing is claimed about brains. Each claim takes one part of the clock away and measures what that costs, with
the same actions over real tiers (SQLite, index segments, merged text, a small associator), the same budgets and the
same gradient steps. What keeps reads fast are the slices: without them the clock makes reads wait too, and eager
writing in slices does not, which is stated beside H2. What H3 saves, the slow tiers pay in age, stated beside it.

Limits of isolation, write economy and order were set without calibration. Parity with uniform replay is what is
expected; being better is reported, not claimed.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lamina.bench.card import Card, Claim, Measurement, Scale
from lamina.bench.experiments.rhythms.rhythm_baselines import (
    EagerPolicy,
    PeriodicPolicy,
    Unsliced,
    UnslicedEager,
    UnsyncedPolicy,
)
from lamina.bench.experiments.rhythms.rhythm_crash import crash
from lamina.bench.experiments.rhythms.rhythm_experiments import (
    ARMS,
    Isolation,
    Retention,
    Written,
    input_lag,
    isolation,
    order,
    retention,
    unsynced_lag,
    write,
)
from lamina.kernel.rhythm import NestedRhythm
from lamina.llm.embed import MiniLM

_ROUNDS = 3
EXPECTED_LAG = (8 + 32 - 2) / 2  # of level 2 without nesting: the mean age of what either level below wrote last
FRESH = 16.0  # events by which level 1 may be stale in the mean
PERIODS = (8, 16, 24, 32, 33)  # the longest that is fresh enough writes least

NESTED_LAG = Claim(
    "H1: with nested periods level 2 reads what level 1 wrote an instant ago",
    *("mean input lag of level 2", "events", 0.0, "less", "ours"),
)
UNSYNCED_LAG = Claim(
    "H1: without nesting it reads what is as old as the periods predict: nesting is not decorative",
    *("distance of the mean lag of random phases from (P0 + P1 - 2) / 2", "%", 15.0, "less", "ours"),
)
SAME_BYTES = Claim(
    "H1: and that freshness is not paid for with more writing",
    *("difference of bytes written from random phases", "%", 2.0, "less", "ours"),
)
ISOLATED = Claim(
    "H2: reads hardly notice that memories are consolidated",
    *("p99 latency of reads over p99 alone", "x", 2.0, "less", "ours"),
)
EAGER_BLOCKS = Claim(
    "H2: writing every tier through on every event, as one call, does make them wait",
    *("p99 latency of reads over p99 alone, eager and not sliced", "x", 3.0, "more", "ours"),
)
ECONOMY = Claim(
    "H3: with facts as fresh as by the best single period, the clock writes a third as much to the slow tiers",
    *("bytes of summaries and parameters over those of the best period", "x", 0.35, "less", "ours"),
)
RETAINED = Claim(
    "H4: replay keeps old knowledge through the same number of gradient steps",
    *("accuracy over all pairs above no replay", "", 0.15, "more", "ours"),
)
AS_UNIFORM = Claim(
    "H4: sequences and surprise cost nothing against uniform replay of items",
    *("accuracy over all pairs below uniform replay", "", 0.03, "less", "ours"),
)
ORDERED = Claim(
    "H5: order in replay teaches what comes next",
    *("accuracy of the next item above that of shuffled sequences", "", 0.2, "more", "ours"),
)
RECOVERED = Claim(
    "H6: killed at random events, the process ends with the versions of one that never died",
    *("final digests equal", "runs", 1.0, "more", "ours"),
)
KILLED = Claim(
    "H6: and it did die", "kills by SIGKILL, half of them inside a transaction", "kills", 20.0, "more", "ours"
)


@dataclass(frozen=True, slots=True)
class _Size:
    phases: int  # seeds of random phases
    events: int  # of the streams whose writing is compared
    written: int  # seeds of random phases whose bytes are counted
    reads: int
    eager_reads: int
    seeds: int  # of retention and order
    crash_events: int
    kills: int


_SIZES: dict[Scale, _Size] = {
    "smoke": _Size(30, 512, 1, 16, 8, 1, 136, 4),
    "laptop": _Size(50, 2048, 1, 500, 300, 5, 1040, 20),
    "full": _Size(50, 20_000, 3, 2000, 1000, 5, 4112, 20),
}


def run(seed: int, scale: Scale) -> list[Measurement]:
    """Every claim once."""
    size = _SIZES[scale]
    with tempfile.TemporaryDirectory(prefix="lamina-rhythm-") as folder:
        return [
            *_written(Path(folder), seed, size),
            *_isolated(Path(folder), seed, size),
            *_retained(seed, size),
            *_recovered(Path(folder), seed, size),
        ]


def _written(folder: Path, seed: int, size: _Size) -> list[Measurement]:
    """H1 and H3."""
    nested = write(folder / "nested", size.events, seed)
    unsynced = [write(folder / f"unsynced{n}", size.events, seed + n, UnsyncedPolicy) for n in range(size.written)]
    bytes_unsynced = float(np.mean([one.total for one in unsynced]))
    lag = unsynced_lag(4096, range(1000 * seed, 1000 * seed + size.phases))
    periods = {
        period: write(
            folder / f"every{period}", size.events, seed, lambda period=period, **more: PeriodicPolicy(period, **more)
        )
        for period in PERIODS[-2:]
    }
    return [
        NESTED_LAG.measured(max(nested.lag, input_lag(NestedRhythm, 4096, seed)), lag, "random phases"),
        UNSYNCED_LAG.measured(100 * abs(lag / EXPECTED_LAG - 1), lag, f"mean lag; predicted {EXPECTED_LAG:g} events"),
        SAME_BYTES.measured(100 * abs(nested.total / bytes_unsynced - 1), bytes_unsynced, "bytes of random phases"),
        _economy(nested, periods),
    ]


def _economy(nested: Written, periods: dict[int, Written]) -> Measurement:
    """Against the period that writes least among those fresh enough; not measured if the clock is not."""
    fresh = {period: one for period, one in periods.items() if one.staleness <= FRESH}
    if nested.staleness > FRESH or not fresh:
        return ECONOMY.measured(None, None, f"staleness {nested.staleness:.1f} events, {FRESH:g} are allowed")
    best = min(fresh, key=lambda period: fresh[period].slow)
    slow, others = (", ".join(f"{age:.0f}" for age in one.ages[2:]) for one in (nested, fresh[best]))
    note = (
        f"bytes of one period of {best}, staleness {fresh[best].staleness:.1f}; the clock's {nested.staleness:.1f};"
        f" of the two slow tiers {slow} events against {others}"
    )
    return ECONOMY.measured(nested.slow / fresh[best].slow, fresh[best].slow, note)


def _isolated(folder: Path, seed: int, size: _Size) -> list[Measurement]:
    """H2; questions are read by a real encoder, as every search does."""
    encoder = MiniLM()

    def against(name: str, policy: type[NestedRhythm], reads: int) -> Isolation:
        """The middle one of ``_ROUNDS``: the system takes pages away and gives them back, to reads alone as to others,
        and one such second decides a 99th percentile."""
        rounds = [
            isolation(folder / f"{name}{n}", policy, reads, size.reads, seed + n, encoder.encode)
            for n in range(_ROUNDS)
        ]
        return sorted(rounds, key=lambda one: one.ratio)[_ROUNDS // 2]

    clock = against("clock", NestedRhythm, size.reads)
    eager = against("eager", UnslicedEager, size.eager_reads)
    sliced, plain = against("sliced", EagerPolicy, size.eager_reads), against("plain", Unsliced, size.eager_reads)
    others = f"slices do it: eager in slices {sliced.ratio:.1f}x, the clock without {plain.ratio:.1f}x"
    return [
        ISOLATED.measured(clock.ratio, 1e3 * clock.idle, f"ms alone; {1e3 * clock.busy:.1f} ms in {clock.reads} reads"),
        EAGER_BLOCKS.measured(
            eager.ratio, 1e3 * eager.idle, f"ms alone; {1e3 * eager.busy:.1f} ms in {eager.reads} reads; {others}"
        ),
    ]


def _retained(seed: int, size: _Size) -> list[Measurement]:
    """H4 and H5, in the mean over seeds."""
    seeds = range(1000 * seed, 1000 * seed + size.seeds)
    arms = {arm: [retention(arm, each) for each in seeds] for arm in ARMS}
    sparse = [retention("rhythm", each, fraction=0.05) for each in seeds]
    assert len({one.steps for kept in arms.values() for one in kept}) == 1, "every arm takes equally many steps"
    mean = {arm: float(np.mean([one.all for one in kept])) for arm, kept in arms.items()}
    notes = {arm: f"{_shown(kept)}" for arm, kept in arms.items()}
    ordered = float(np.mean([order(each, shuffled=False) for each in seeds]))
    shuffled = float(np.mean([order(each, shuffled=True) for each in seeds]))
    return [
        RETAINED.measured(
            mean["rhythm"] - mean["none"],
            mean["none"],
            f"no replay {notes['none']}; this {notes['rhythm']}; with 5% of rows a tick {_shown(sparse)}",
        ),
        AS_UNIFORM.measured(
            max(0.0, mean["uniform"] - mean["rhythm"]),
            mean["uniform"],
            f"uniform {notes['uniform']}; this {notes['rhythm']}",
        ),
        ORDERED.measured(ordered - shuffled, shuffled, f"shuffled; ordered {ordered:.2f}"),
    ]


def _shown(kept: list[Retention]) -> str:
    return f"{np.mean([one.all for one in kept]):.3f} (oldest quarter {np.mean([one.oldest for one in kept]):.3f})"


def _recovered(folder: Path, seed: int, size: _Size) -> list[Measurement]:
    """H6."""
    (folder / "crash").mkdir()
    found = crash(folder / "crash", seed, size.crash_events, size.kills)
    return [
        RECOVERED.measured(found["equal"], None, "a life without deaths"),
        KILLED.measured(found["killed"], None, f"{found['mid_cascade']} inside a cascade"),
    ]


CARD = Card(
    name="dynamical-intelligence",
    paper="A brain basis of dynamical intelligence for AI and computational neuroscience (Monaco, Rajan, Hwang)",
    arxiv="2105.07284",
    module="lamina.kernel.rhythm",
    summary="One clock of nested periods says when memories are logged, merged, summarised and trained into weights.",
    claims=(
        *(NESTED_LAG, UNSYNCED_LAG, SAME_BYTES, ISOLATED, EAGER_BLOCKS, ECONOMY),
        *(RETAINED, AS_UNIFORM, ORDERED, RECOVERED, KILLED),
    ),
    run=run,
)
