"""The ADD-only pipeline through a real server: memories in view, links as edges, rules for what is current."""

from __future__ import annotations

from pathlib import Path

from prompted_world import ALICE, World, added

from lamina.bench.scripted_llm import said, scripted
from lamina.cube.cube import Scope
from lamina.text.prompted.draft import Counts

BOSTON = "Alice lives in Boston."
DENVER = "Alice moved to Denver on 17 June 2025."


def counts(world: World) -> Counts:
    return world.pipeline.extractor.counts  # type: ignore[attr-defined,no-any-return]


def test_one_question_shows_new_turns_and_nearest_memories_by_small_numbers(tmp_path: Path) -> None:
    with scripted(added((BOSTON, [1], [])), added((DENVER, [2], [0]))) as server:
        world = World(tmp_path / "m.db", server.url, kind="additive")
        world.say("I live in Boston.")
        old = world.cubes()[0]
        world.say("I moved to Denver yesterday!", day=5)
    prompt = server.bodies()[1]["messages"][1]["content"]
    assert f'EXISTING memories:\n0: "{BOSTON}"' in prompt and old.id not in prompt
    assert "NEW turns:\n[2]" in prompt and len(server.requests) == 2


def test_what_is_current_is_decided_by_rules_and_links_become_edges(tmp_path: Path) -> None:
    kayak = "Alice keeps a kayak in Boston at the river house."
    with scripted(added((BOSTON, [1], []), (kayak, [2], [])), added((DENVER, [3], [0, 1, 7]))) as server:
        world = World(tmp_path / "m.db", server.url, kind="additive")
        world.say("I live in Boston.", "I keep a kayak in Boston at the river house.")
        world.say("I moved to Denver yesterday!", day=5)
    assert sorted(world.facts()) == sorted([kayak, DENVER])  # Boston is superseded
    new = next(cube for cube in world.cubes() if cube.text == DENVER)
    kept = next(cube for cube in world.cubes() if cube.text == kayak)
    edges = world.store.edges(ALICE, [new.id])
    assert [(edge.source, edge.target, edge.relation) for edge in edges] == [(new.id, kept.id, "linked")]
    assert edges[0].evidence == new.header.provenance.sources[-1].id
    assert counts(world).unknown_ids == 1 and counts(world).repaired == 1


def test_the_same_again_is_counted_not_stored(tmp_path: Path) -> None:
    with scripted(added((BOSTON, [1], []), (f" {BOSTON.lower()} ", [1], [])), added((BOSTON, [2], [0]))) as server:
        world = World(tmp_path / "m.db", server.url, kind="additive")
        world.say("I live in Boston.")
        outcomes = world.say("I live in Boston.", day=1)
    assert world.facts() == [BOSTON] and outcomes[1].event == "NONE"
    assert len(world.cubes()[0].header.provenance.sources) == 2


def test_many_turns_take_several_questions_of_ten(tmp_path: Path) -> None:
    with scripted(added(), added(), added()) as server:
        world = World(tmp_path / "m.db", server.url, kind="additive")
        world.say(*(f"This is remark number {n}." for n in range(23)))
    assert [body["messages"][1]["content"].split("NEW turns:")[1].count("\n[") for body in server.bodies()] == [
        10,
        10,
        3,
    ]
    assert world.waiting() == []


def test_junk_leaves_all_its_turns_to_the_rules(tmp_path: Path) -> None:
    with scripted(*[said("[]")] * 3) as server:
        world = World(tmp_path / "m.db", server.url, kind="additive")
        world.say("I live in Boston.", "My sister Ana works at Globex.")
    assert BOSTON in world.facts() and len(world.facts()) == 2
    assert {cube.header.provenance.extractor for cube in world.cubes()} == {"rules(fallback)"}
    assert counts(world).fallback == 2


def test_memories_of_narrower_scopes_are_not_shown(tmp_path: Path) -> None:
    with scripted(added((BOSTON, [1], [])), added()) as server:
        world = World(tmp_path / "m.db", server.url, kind="additive")
        world.say("I live in Boston.")
        from lamina.text.ingestion import Batch

        world.ingestion.write([Batch(Scope(user="alice"), [world.turn("I live in Boston, you know.")])])
    assert "EXISTING" not in server.bodies()[1]["messages"][1]["content"]
