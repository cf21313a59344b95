"""Which memories a conversation draws on, call by call: synthetic traces with known habits, and recorded ones.

Traces are written down before any policy runs, so that every policy meets the same calls. Popularity follows Zipf's
law with exponent 1.1; a call draws ``per_call`` different memories. Updates and forgettings fall on what is
talked about (drawn by the same popularity); a forgotten memory's habit passes to a new one.
Development uses seeds from 100 on, results are reported on 0 to 4.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Weights = NDArray[np.float64]

CUBES = 400
PER_CALL = 10
EXPONENT = 1.1


@dataclass(frozen=True, slots=True)
class Step:
    """One call: what was injected (the best first), then what changed, and was forgotten, after it."""

    used: tuple[str, ...]
    updated: tuple[str, ...] = ()
    forgotten: tuple[str, ...] = ()
    topics: tuple[str, ...] = ()  # what the turn was about, as far as its words tell
    session: str = ""


@dataclass(frozen=True, slots=True)
class Trace:
    """``tokens`` of every memory that ever lives, and the calls in order.

    ``law`` (calls, memories), if the trace was drawn from one: the chance of each memory to be used in each call.
    """

    name: str
    tokens: Mapping[str, int]
    steps: tuple[Step, ...]
    law: Weights | None = field(default=None, repr=False, compare=False)


def zipf(seed: int, calls: int = 2000, *, shift: bool = True) -> Trace:
    """Zipf over 400 memories; half way, popularity is dealt anew."""
    rng = np.random.default_rng([seed, 1])
    ranks = [rng.permutation(CUBES), rng.permutation(CUBES)]
    law = _law()

    def weights(call: int) -> Weights:
        return np.asarray(law[ranks[1 if shift and call >= calls // 2 else 0]])

    return _generate("zipf", rng, calls, weights)


def drifting(seed: int, calls: int = 2000) -> Trace:
    """Popularity wanders: every 10 calls one of the 30 most popular memories changes places with any other."""
    rng = np.random.default_rng([seed, 2])
    rank = rng.permutation(CUBES)
    law = _law()

    def weights(call: int) -> Weights:
        if call % 10 == 0:
            hot = int(np.flatnonzero(rank == rng.integers(0, 30))[0])
            other = int(rng.integers(0, CUBES))
            rank[hot], rank[other] = rank[other], rank[hot]
        return np.asarray(law[rank])

    return _generate("drifting", rng, calls, weights)


def bursty(seed: int, calls: int = 2000) -> Trace:
    """A Zipf background, and every 80 calls a burst of 40 in which 8 memories are each used in a third of the calls."""
    rng = np.random.default_rng([seed, 3])
    rank = rng.permutation(CUBES)
    law = _law()
    burst = np.empty(0, np.int64)

    def weights(call: int) -> Weights:
        nonlocal burst
        if call % 80 == 0:
            burst = rng.choice(CUBES, 8, replace=False)
        found = law[rank].copy()
        if call % 80 < 40:
            found[burst] = found.max() / 3
        return found

    return _generate("bursty", rng, calls, weights)


def topical(seed: int, calls: int = 2000) -> Trace:
    """Sessions of 12 to 25 calls on one of 25 topics of 16 memories, which come back; a fifth drawn from anywhere."""
    rng = np.random.default_rng([seed, 4])
    topics = rng.permutation(CUBES).reshape(25, 16)
    favour = _law(25)[rng.permutation(25)]
    rank, law = rng.permutation(CUBES), _law()
    inside = _law(16)
    until, topic, session = 0, 0, -1

    def weights(call: int) -> Weights:
        nonlocal until, topic, session
        if call >= until:
            until, session = call + int(rng.integers(12, 26)), session + 1
            topic = int(rng.choice(25, p=favour))
        found = 0.2 * law[rank]
        found[topics[topic]] += 0.8 * inside
        return np.asarray(found)

    return _generate(
        "topical", rng, calls, weights, about=lambda: (f"topic {topic}",), session=lambda: f"session {session}"
    )


def recorded(name: str, calls: Sequence[Sequence[str]], tokens: Mapping[str, int]) -> Trace:
    """What a real conversation drew on: the ids each of its questions retrieved, the best first."""
    return Trace(name, dict(tokens), tuple(Step(tuple(used)) for used in calls))


TRACES: Mapping[str, Callable[[int, int], Trace]] = {
    "zipf": zipf,
    "drifting": drifting,
    "bursty": bursty,
    "topical": topical,
}


def _law(count: int = CUBES) -> Weights:
    law = np.arange(1, count + 1, dtype=np.float64) ** -EXPONENT
    return np.asarray(law / law.sum())


def _generate(
    name: str,
    rng: np.random.Generator,
    calls: int,
    weights: Callable[[int], Weights],
    about: Callable[[], tuple[str, ...]] = lambda: (),
    session: Callable[[], str] = lambda: "",
) -> Trace:
    """5% of calls are followed by an update, 1% by a forgetting."""
    tokens, holder, steps = dict[str, int](), [""] * CUBES, list[Step]()
    number, laws = np.zeros(CUBES, np.int64), list[tuple[NDArray[np.int64], Weights]]()

    def born(slot: int) -> None:
        number[slot] = len(tokens)
        holder[slot] = f"m{len(tokens):03d}"
        tokens[holder[slot]] = int(rng.integers(20, 61))

    for slot in range(CUBES):
        born(slot)
    for call in range(calls):
        chances = weights(call)
        chances = chances / chances.sum()
        laws.append((number.copy(), _inclusion(chances)))
        drawn = rng.choice(CUBES, PER_CALL, replace=False, p=chances)
        drawn = drawn[np.argsort(-chances[drawn], kind="stable")]
        updated, forgotten = rng.choice(CUBES, 2, replace=False, p=chances).tolist()
        changes = rng.random() < 0.05, rng.random() < 0.01
        steps.append(
            Step(
                used=tuple(holder[slot] for slot in drawn.tolist()),
                updated=(holder[updated],) if changes[0] else (),
                forgotten=(holder[forgotten],) if changes[1] else (),
                topics=about(),
                session=session(),
            )
        )
        if changes[1]:
            born(forgotten)
    law = np.zeros((calls, len(tokens)))
    for call, (numbers, inclusion) in enumerate(laws):
        law[call, numbers] = inclusion
    return Trace(name, tokens, tuple(steps), law)


def _inclusion(chances: Weights) -> Weights:
    """Chance of each to be among ``PER_CALL`` drawn in turn without replacement (each waits an exponential time)."""
    low, high = 0.0, 1e6
    for _ in range(60):
        time = (low + high) / 2
        low, high = (time, high) if float(-np.expm1(-chances * time).sum()) < PER_CALL else (low, time)
    return np.asarray(-np.expm1(-chances * high))
