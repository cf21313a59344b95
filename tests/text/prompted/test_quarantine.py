"""A person's word on what was set aside: it is listed, accepted, corrected or rejected, and the turn stays."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from prompted_world import ALICE, T0, World, noted

from lamina.bench.scripted_llm import scripted
from lamina.cube.cube import MemCube, Scope
from lamina.errors import Conflict
from lamina.store.index import IndexCache
from lamina.text.base import Outcome
from lamina.text.prompted import quarantine

BOSTON, OSLO = "Alice lives in Boston.", "Alice lives in Oslo."
LATER = T0 + timedelta(days=3)


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Boston is known; a tool said Oslo, which is set aside."""
    with scripted(noted((BOSTON, [1])), noted((OSLO, [2]))) as server:
        world = World(tmp_path / "m.db", server.url)
        world.say("I live in Boston.")
        world.say("Alice lives in Oslo.", role="tool", day=1)
    return world


def held(world: World) -> MemCube:
    (cube,) = quarantine.quarantined(world.store, Scope(user="alice"))
    return cube


def accept(world: World, cube: MemCube, text: str | None = None) -> Outcome:
    return quarantine.accept(
        world.store, world.embedder, world.pipeline.updater, IndexCache(), cube, at=LATER, text=text
    )


def found(world: World, query: str) -> set[str]:
    hits = world.pipeline.retriever.search(query, world.embedder.encode([query])[0], world.store, ALICE, k=10)
    return {cube.text for hit in hits for cube in (hit.cube, *hit.facts)}


def test_it_is_listed_with_its_reason_and_found_by_no_search(world: World) -> None:
    cube = held(world)
    assert cube.text == OSLO and quarantine.reason(cube) == "only a tool says so"
    assert world.facts() == [BOSTON]


def test_what_is_accepted_is_decided_on_and_trusted_like_a_person_s_word(world: World) -> None:
    cube = held(world)
    outcome = accept(world, cube)
    assert (outcome.event, outcome.cube.text, outcome.cube.header.trust) == ("UPDATE", OSLO, "user")
    assert world.facts() == [OSLO] and OSLO in found(world, "Oslo")
    old = world.store.get(cube.id)
    assert old is not None and old.header.superseded_by == outcome.cube.id
    assert list(quarantine.quarantined(world.store, ALICE)) == []
    assert len(world.turns()) == 2  # what was said stays as it was said
    with world.store.transaction() as tx:
        assert outcome.cube.id in tx.forget([cube.header.provenance.sources[0].id])


def test_it_may_be_accepted_in_other_words(world: World) -> None:
    outcome = accept(world, held(world), "Alice has a summer house in Oslo.")
    assert outcome.cube.text == "Alice has a summer house in Oslo." and outcome.cube.header.trust == "user"
    assert outcome.cube.header.claim is not None and outcome.cube.header.claim.value is None
    assert len(world.turns()) == 2 and found(world, "summer house")


def test_what_is_rejected_is_closed_alone_and_stays_closed(world: World) -> None:
    cube = held(world)
    quarantine.reject(world.store, cube, at=LATER)
    assert list(quarantine.quarantined(world.store, ALICE)) == []
    assert world.facts() == [BOSTON] and len(world.turns()) == 2


def test_a_decision_is_taken_once(world: World) -> None:
    cube = held(world)
    accept(world, cube)
    for taken in (cube, world.store.get(cube.id)):
        assert taken is not None
        with pytest.raises(Conflict, match="not in quarantine"):
            accept(world, taken)
    with pytest.raises(Conflict, match="not in quarantine"):
        quarantine.reject(world.store, world.cubes()[0], at=LATER)


def test_said_again_by_the_tool_after_the_decision_changes_nothing(world: World) -> None:
    cube = held(world)
    quarantine.reject(world.store, cube, at=LATER)
    with scripted(noted((OSLO, [3]))) as server:
        again = World(Path(world.store.path), server.url)
        again.clock = 2
        again.say("Alice lives in Oslo.", role="tool", day=4)
    assert again.facts() == [BOSTON] and list(quarantine.quarantined(again.store, ALICE)) == []
