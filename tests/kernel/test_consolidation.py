"""The four actions over a real store: what they write, that a rebuilt log gives the same, rollback, forgetting."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from lamina.bench.experiments.rhythms.rhythm_experiments import open_tiers
from lamina.bench.experiments.rhythms.rhythm_stream import SCOPE, Associator, extract, stream
from lamina.cube.cube import Header, MemCube, Scope
from lamina.errors import InvalidInput
from lamina.kernel.rhythm import NestedRhythm, Tick
from lamina.kernel.rhythms.consolidation import Observation, Tiers, read_clock
from lamina.kernel.rhythms.index_segments import Segments
from lamina.kernel.rhythms.parameter_consolidation import top_rows
from lamina.store.sqlite import SqliteStore

EVENTS = 576


def versions(store: SqliteStore) -> dict[tuple[str, int], tuple[str, Header]]:
    found = store.query(SCOPE, closed=True, limit=100_000).cubes
    return {(cube.id, cube.header.version): (cube.sha256, cube.header) for cube in found}


def run(store: SqliteStore, events: int, seed: int = 0) -> tuple[Tiers, NestedRhythm]:
    tiers, clock = open_tiers(store, seed)
    for item in islice(stream(seed, events), clock.n, None):
        clock.observe(item, clock.n + 1)
    return tiers, clock


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[SqliteStore, Tiers, NestedRhythm]]:
    with SqliteStore(tmp_path_factory.mktemp("full") / "m.db") as store:
        yield store, *run(store, EVENTS)


def cubes(store: SqliteStore, kind: str) -> list[MemCube]:
    return store.query(SCOPE, {"semantic_type": kind}, limit=10_000, newest_first=False).cubes


def test_the_log_holds_every_event_in_order(full: tuple[SqliteStore, Tiers, NestedRhythm]) -> None:
    turns = cubes(full[0], "turn")
    assert [turn.text for turn in turns] == [item.text for item in stream(0, EVENTS)]
    assert [turn.header.metadata["n"] for turn in turns] == list(range(1, EVENTS + 1))
    assert full[0].verify() == []


def test_facts_are_deduplicated_and_changes_become_versions(full: tuple[SqliteStore, Tiers, NestedRhythm]) -> None:
    store = full[0]
    said: dict[tuple[str, str | None], list[str | None]] = {}
    for turn in cubes(store, "turn"):
        (claim,) = extract(turn)
        history = said.setdefault((claim.subject, claim.slot), [])
        if not history or history[-1] != claim.value:
            history.append(claim.value)
    facts = {(f.header.claim.subject, f.header.claim.slot): f for f in cubes(store, "fact") if f.header.claim}
    assert facts.keys() == said.keys()
    assert any(len(values) > 1 for values in said.values())
    for key, values in said.items():
        stored = [version.header.claim.value for version in store.versions(facts[key].id) if version.header.claim]
        assert stored == values


def test_summaries_hold_the_newest_value_of_everything(full: tuple[SqliteStore, Tiers, NestedRhythm]) -> None:
    store, _, clock = full
    newest: dict[str, dict[str, str]] = {}
    for turn in cubes(store, "turn")[: clock.watermark(2)]:
        (claim,) = extract(turn)
        newest.setdefault(claim.subject, {})[str(claim.slot)] = str(claim.value)
    texts = sorted("\n".join(f"{k}: {v}" for k, v in sorted(lines.items())) for lines in newest.values())
    assert sorted(summary.text for summary in cubes(store, "summary")) == texts


def test_turns_of_a_sequence_are_linked(full: tuple[SqliteStore, Tiers, NestedRhythm]) -> None:
    store, _, clock = full
    place = {turn.id: turn.header.metadata["n"] for turn in cubes(store, "turn")}
    links = {(place[edge.source], place[edge.target]) for edge in store.edges(SCOPE, relations=["next"])}
    assert links == {(n, n + 1) for n in range(1, clock.watermark(1)) if n % 8}


def test_the_hot_index_finds_every_turn_also_after_reopening(full: tuple[SqliteStore, Tiers, NestedRhythm]) -> None:
    store, tiers, _ = full
    assert len(tiers.published) == EVENTS
    assert len(tiers.published.parts) < 5, "small segments were merged"
    again, clock = open_tiers(store, 0)
    assert clock.n == EVENTS and clock.state_dict() == read_clock(store, SCOPE)
    for item in islice(stream(0, EVENTS), 0, EVENTS, 97):
        said = item.text.split(" is ")[0]
        assert tiers.search(item.vector, 1)[0].text.split(" is ")[0] == said
        assert [c.id for c in tiers.search(item.vector)] == [c.id for c in again.search(item.vector)]


def test_the_clock_is_in_no_search_of_the_user(full: tuple[SqliteStore, Tiers, NestedRhythm]) -> None:
    assert cubes(full[0], "procedure") == []
    assert read_clock(full[0], Scope(user="another")) is None


def test_a_log_replayed_into_an_empty_store_gives_the_same_versions(
    full: tuple[SqliteStore, Tiers, NestedRhythm], tmp_path: Path
) -> None:
    source = full[0]
    with SqliteStore(tmp_path / "again.db") as store:
        _, clock = open_tiers(store, 0)
        for turn in cubes(source, "turn"):
            vector = source.vector(turn.id)
            assert vector is not None
            clock.observe(Observation(turn.text, turn.header.recorded, vector))
        assert versions(store) == versions(source)
        assert any(header.kind == "parameter" for _, header in versions(store).values())


def test_an_error_in_a_cascade_leaves_neither_rows_nor_readers_changed(tmp_path: Path) -> None:
    with SqliteStore(tmp_path / "m.db") as store:
        fail_at = 32
        seen: list[int] = []

        def between() -> None:
            seen.append(len(tiers.published))
            if clock.n == fail_at and len(seen) % 7 == 6:
                raise OSError("disk full")

        tiers, clock = open_tiers(store, 0, between=between)
        items = list(stream(0, 64))
        for item in items[:31]:
            clock.observe(item)
        before, published = versions(store), tiers.published
        with pytest.raises(OSError, match="disk full"):
            clock.observe(items[31])
        assert versions(store) == before and tiers.published is published and clock.n == 31
        assert seen[-1] == 24, "a reader between slices sees the last committed version"
        fail_at = 0
        for item in items[31:]:
            clock.observe(item)
        assert len(cubes(store, "turn")) == 64


def test_forgetting_a_turn_takes_the_weights_and_training_begins_anew(tmp_path: Path) -> None:
    with SqliteStore(tmp_path / "m.db") as store:
        tiers, clock = run(store, EVENTS)
        clock.drain()
        (weights,) = store.query(SCOPE, {"kind": "parameter"}).cubes
        turn = cubes(store, "turn")[3]
        with store.transaction() as tx:
            gone = tx.forget([turn.id])
        assert turn.id in gone and weights.id in gone
        for item in islice(stream(0, 640), EVENTS, None):
            clock.observe(item)
        clock.drain()
        (fresh,) = store.query(SCOPE, {"kind": "parameter"}).cubes
        assert fresh.header.version == 1
        assert turn.text not in {hit.text for hit in tiers.search(next(stream(0, 1)).vector, 50) if hit.id == turn.id}


def test_training_that_makes_things_worse_is_rolled_back(tmp_path: Path) -> None:
    with SqliteStore(tmp_path / "m.db") as store:
        tiers, clock = run(store, EVENTS)
        clock.drain()
        learner = tiers.parameters.learner
        good = {name: np.array(value) for name, value in learner.tensors().items()}
        assert isinstance(learner, Associator)
        learner._rate = 50.0  # diverges
        for item in islice(stream(0, 640), EVENTS, None):
            clock.observe(item)
        clock.drain()
        assert tiers.parameters.rollbacks == 1
        assert all(np.array_equal(good[name], value) for name, value in learner.tensors().items())


def test_actions_refuse_to_write_outside_the_clock(tmp_path: Path) -> None:
    with SqliteStore(tmp_path / "m.db") as store:
        tiers, _ = open_tiers(store, 0)
        item = next(stream(0, 1))
        with pytest.raises(InvalidInput, match=r"NestedRhythm\.observe"):
            list(tiers.append(Tick(1, 0, (0,), 8, (item,), 0, 1)))


def test_segments_are_values_and_find_what_one_index_finds() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(100, 16)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    whole = Segments()
    for start in range(0, 100, 8):
        whole = whole.added([str(n) for n in range(start, min(start + 8, 100))], list(vectors[start : start + 8]))
    merged = whole.merged(64)
    assert (len(whole.parts), len(merged.parts), len(merged)) == (13, 1, 100)
    assert merged.added(["x"] * 0, []) is merged and merged.merged(64) is merged
    for query in vectors[:5]:
        exact = np.argsort(-(vectors @ query), kind="stable")[:10]
        for segments in (whole, merged):
            assert [id for id, _ in segments.search(query, 10)] == [str(n) for n in exact]


def test_top_rows_keeps_the_largest_fraction() -> None:
    gradient = np.diag([3.0, 1.0, 2.0, 0.0])
    assert top_rows(gradient, 0.5).tolist() == [True, False, True, False]
    assert top_rows(gradient, 0.01).sum() == 1
