"""The rolling summary: when it is rewritten, what it may say, and what takes it away."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from prompted_world import ALICE, World, noted

from lamina.bench.scripted_llm import Step, failed, form_of, said, serving
from lamina.cube.cube import MemCube, State
from lamina.text import removal
from lamina.text.prompted.summary import summary_id


class Model:
    """Notes nothing; summarises with the next of its texts."""

    def __init__(self, *summaries: str | Step) -> None:
        self.summaries = list(summaries)
        self.asked: list[str] = []

    def __call__(self, body: dict[str, Any]) -> Step:
        prompt = body["messages"][1]["content"]
        if form_of(body) != "Summarised":
            self.asked.append(prompt)
            return noted()
        self.asked.append(f"SUMMARISE {prompt}")
        answer = self.summaries.pop(0)
        return answer if isinstance(answer, Step) else said(json.dumps({"summary": answer}))


def world_of(path: Path, url: str) -> World:
    world = World(path / "m.db", url)
    world.ingestion = type(world.ingestion)(
        world.store, world.embedder, world.pipeline, world.pipeline.retriever._indexes
    )  # type: ignore[attr-defined]
    return world


def talk(world: World, first: int, last: int) -> list[MemCube]:
    """Turns ``first`` to ``last`` (from 1), two a call."""
    return [
        outcome.cube
        for n in range(first, last, 2)
        for outcome in world.say(f"Kayak trip number {n} was fun.", f"Kayak trip number {n + 1} was fun.")
        if outcome.cube.header.semantic_type == "turn"
    ]


def test_every_ten_turns_it_is_rewritten_from_the_old_one_and_shown_to_the_extractor(tmp_path: Path) -> None:
    model = Model("Alice had fun on kayak trip 3.", "Alice had fun on kayak trip 3 and on kayak trip 14.")
    with serving(model) as server:
        world = world_of(tmp_path, server.url)
        turns = talk(world, 1, 24)
    asked = [prompt for prompt in model.asked if prompt.startswith("SUMMARISE")]
    assert len(asked) == 2 and asked[0].count("\n[") == 10 and "Old summary" not in asked[0]
    assert "Old summary:\nAlice had fun on kayak trip 3.\n" in asked[1] and asked[1].count("\n[") == 10
    assert "Summary of the conversation so far:\nAlice had fun on kayak trip 3 and" in model.asked[-1]
    first, second = world.store.versions(summary_id(ALICE))
    assert [id for id, _ in first.header.lineage.derived_from] == [turn.id for turn in turns[:10]]
    assert [id for id, _ in second.header.lineage.derived_from] == [turn.id for turn in turns[10:20]]
    assert second.header.state is State.ARCHIVED and second.header.semantic_type == "summary"
    assert second.header.provenance.model == "openai:m" and second.header.provenance.prompt_hash


def test_only_what_was_said_stays_in_it(tmp_path: Path) -> None:
    model = Model("Alice had fun on kayak trip 3. She has 97 cats. Bartholomew came along on kayak trip 4.")
    with serving(model) as server:
        world = world_of(tmp_path, server.url)
        talk(world, 1, 11)
    cube = world.store.get(summary_id(ALICE))
    assert cube is not None and cube.text == "Alice had fun on kayak trip 3."


def test_silence_and_junk_leave_the_old_one_and_it_is_asked_again_ten_turns_later(tmp_path: Path) -> None:
    model = Model(failed(503), failed(503), "Alice had fun on kayak trip 3.")
    with serving(model) as server:
        world = world_of(tmp_path, server.url)
        talk(world, 1, 29)
        assert world.store.get(summary_id(ALICE)) is None and world.waiting() == []
        assert len(model.summaries) == 1  # asked at turn 10 and at turn 20
        talk(world, 29, 31)
    assert world.store.get(summary_id(ALICE)) is not None


def test_after_a_long_silence_every_turn_enters_oldest_first(tmp_path: Path) -> None:
    world = world_of(tmp_path, "http://127.0.0.1:9/v1")
    texts = [f"Kayak trip number {n} was fun." for n in range(1, 51)]
    world.say(*texts)
    model = Model(*["Alice had fun on kayak trip 3."] * 9)
    with serving(model) as server:
        world = world_of(tmp_path, server.url)
        assert world.retry() == {"extracted": 50, "waiting": 0}
    covered = [id for v in world.store.versions(summary_id(ALICE)) for id, _ in v.header.lineage.derived_from]
    assert covered == [turn.id for turn in world.turns()]
    assert 9 - len(model.summaries) == 5  # questions


def test_a_backlog_of_turns_that_were_read_before_enters_too(tmp_path: Path) -> None:
    model = Model(*[failed(503)] * 4, *["Alice had fun on kayak trip 3."] * 3)
    with serving(model) as server:
        world = world_of(tmp_path, server.url)
        turns = talk(world, 1, 53)  # asked in vain at 10, 20, 30 and 40; at 50 and 52 about twenty each
    versions = world.store.versions(summary_id(ALICE))
    covered = [id for version in versions for id, _ in version.header.lineage.derived_from]
    assert covered == [turn.id for turn in turns[: len(covered)]] and len(covered) == 40


def test_forgetting_a_turn_forgets_the_summary_and_deleting_one_retires_it(tmp_path: Path) -> None:
    model = Model(
        "Alice had fun on kayak trip 3.", "Alice had fun on kayak trip 12.", "Alice had fun on kayak trip 29."
    )
    with serving(model) as server:
        world = world_of(tmp_path, server.url)
        turns = talk(world, 1, 11)
        removal.forget(world.store, world.embedder, [turns[2].id], reason="asked")
        assert world.store.get(summary_id(ALICE)) is None
        later = talk(world, 11, 13)  # nine old ones and these
        cube = world.store.get(summary_id(ALICE))
        assert cube is not None and "12" in cube.text
        removal.delete(world.store, later[0], later[0].header.recorded)
        gone = world.store.get(summary_id(ALICE))
        assert gone is not None and gone.header.superseded is not None
        talk(world, 29, 31)
        begun_again = world.store.get(summary_id(ALICE))
    assert begun_again is not None and begun_again.header.superseded is None
    assert later[0].id not in {id for id, _ in begun_again.header.lineage.derived_from}
    assert "Old summary" not in model.asked[-1]
    assert world.store.verify() == []
