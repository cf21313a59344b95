"""The card: every claim is measured at toy size; the associator's gradient is right; the experiments can fail."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from lamina.bench.experiments.rhythms import rhythm_crash
from lamina.bench.experiments.rhythms.rhythm_baselines import PeriodicPolicy
from lamina.bench.experiments.rhythms.rhythm_experiments import ARMS, Reads, order, retention, write
from lamina.bench.experiments.rhythms.rhythm_stream import CLASSES, SCOPE, Associator, extract, stream
from lamina.bench.systems.dynamical_intelligence import (
    CARD,
    KILLED,
    NESTED_LAG,
    ORDERED,
    RECOVERED,
    SAME_BYTES,
    UNSYNCED_LAG,
)
from lamina.cube.cube import Header, MemCube
from lamina.cube.payload import TextPayload

pytestmark = pytest.mark.model


def test_a_toy_run_measures_every_claim() -> None:
    found = {measurement.claim: measurement for measurement in CARD.measure(0, "smoke")}
    assert tuple(found) == CARD.claims
    assert all(measurement.ours is not None for measurement in found.values())
    for claim in (NESTED_LAG, UNSYNCED_LAG, ORDERED, RECOVERED):
        assert found[claim].holds, found[claim]
    assert found[KILLED].ours == 4
    assert found[SAME_BYTES].claim.target == 2.0


def turns(count: int) -> list[MemCube]:
    return [
        MemCube(Header(scope=SCOPE, metadata={"n": n}), TextPayload(item.text))
        for n, item in enumerate(stream(3, count), start=1)
    ]


def test_the_gradient_of_the_associator_is_that_of_its_loss() -> None:
    learner = Associator(0, dtype=np.float64)
    rng = np.random.default_rng(1)
    learner.weights["output"] = rng.normal(size=learner.weights["output"].shape)
    keys, classes = learner.encode(turns(12))
    assert keys.shape == (12, 32) and classes.max() < CLASSES
    _, gradients = learner.gradients(keys, classes)
    for name, table in learner.weights.items():
        for _ in range(8):
            place = tuple(rng.integers(0, size) for size in table.shape)
            kept, sides = table[place], []
            for delta in (1e-6, -1e-6):
                table[place] = kept + delta
                sides.append(learner.gradients(keys, classes)[0].mean())
            table[place] = kept
            assert gradients[name][place] == pytest.approx((sides[0] - sides[1]) / 2e-6, rel=1e-5, abs=1e-7)


def test_a_sparse_tick_changes_its_rows_only_and_a_load_brings_all_back() -> None:
    learner = Associator(0, fraction=0.05)
    batch = turns(16)
    learner.begin()
    learner.step(batch)
    before = {name: np.array(value) for name, value in learner.tensors().items()}
    learner.step(batch)
    for name, table in learner.weights.items():
        changed = (table != before[name]).any(axis=1).sum()
        assert 0 < changed <= 0.05 * len(table)
    learner.load(before)
    first = learner.step(batch)
    learner.load(before)
    assert learner.step(batch) == first


def test_arms_take_the_same_steps_and_order_needs_order() -> None:
    assert {retention(arm, 7, rounds=1).steps for arm in ARMS} == {160}
    assert order(7, shuffled=False, updates=200) > order(7, shuffled=True, updates=200)


def test_a_short_period_writes_more_to_the_slow_tiers(tmp_path: Path) -> None:
    clock = write(tmp_path / "a", 256, 0)
    often = write(tmp_path / "b", 256, 0, lambda **more: PeriodicPolicy(8, **more))
    assert often.staleness < clock.staleness <= 16
    assert often.slow > clock.slow


def test_reads_wait_from_their_arrival() -> None:
    reads = Reads(lambda: None, 1e-4, 0)
    reads.alone(20)
    assert len(reads.latencies) == 20 and min(reads.latencies) >= 0
    reads.start(1)
    reads.due = reads.due - 1.0
    reads.serve()
    assert max(reads.latencies) >= 0.9


def test_reads_slower_than_they_arrive_come_to_an_end() -> None:
    reads = Reads(lambda: time.sleep(1e-3), 1e-6, 0)
    reads.alone(20)
    assert len(reads.latencies) == 20


def test_the_digest_would_find_a_difference(tmp_path: Path) -> None:
    rhythm_crash.live(tmp_path / "a.db", 0, 40)
    rhythm_crash.live(tmp_path / "b.db", 0, 48)
    rhythm_crash.live(tmp_path / "c.db", 0, 24)
    rhythm_crash.live(tmp_path / "c.db", 0, 40)
    assert rhythm_crash.digest(tmp_path / "a.db") == rhythm_crash.digest(tmp_path / "c.db")
    assert rhythm_crash.digest(tmp_path / "a.db") != rhythm_crash.digest(tmp_path / "b.db")


def test_extraction_reads_what_the_stream_says() -> None:
    (claim,) = extract(turns(1)[0])
    assert claim.subject == "context 0" and str(claim.value).startswith("value ")
    assert extract(MemCube(Header(scope=SCOPE), TextPayload("Hello."))) == []
