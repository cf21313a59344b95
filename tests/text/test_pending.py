"""Turns that wait for a model: none is lost and no fact is written twice, whatever dies in between."""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from prompted_world import ALICE, T0, World, noted

from lamina import Memory
from lamina.bench.scripted_llm import Step, failed, form_of, said, scripted, serving
from lamina.cube.cube import Scope
from lamina.store.index import IndexCache
from lamina.text import removal
from lamina.text.base import Turn
from lamina.text.extraction import RulesExtractor
from lamina.text.ingestion import Batch, Ingestion
from lamina.text.prompted.draft import Reading
from lamina.text.prompted.reading import by_turn

WORKER = Path(__file__).with_name("pending_worker.py")


@pytest.fixture(autouse=True)
def _direct(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def half() -> Step:
    step = said('{"facts": []}')
    step.cut = True
    return step


def silent() -> Step:
    step = said('{"facts": []}')
    step.silence = 0.4
    return step


def restating(body: dict[str, Any], *, silence: float = 0.0) -> Step:
    """Every new turn is one fact: "Trip 3 was fun." -> "Alice: trip 3 was fun." ADD for everything."""
    if form_of(body) != "Notes":
        step = said(json.dumps({"decisions": [{"fact": n, "event": "ADD"} for n in range(8)]}))
    else:
        new = body["messages"][1]["content"].split("NEW turns:")[1]
        turns = re.findall(r'^\[(\d+)\] [^\n]*?: "(.*)"$', new, re.M)
        step = noted(*((f"Alice's {text[0].lower()}{text[1:]}", [int(number)]) for number, text in turns))
    step.silence = silence
    return step


def trips(count: int) -> list[str]:
    return [f"Kayak trip number {n} was fun." for n in range(2, count + 2)]


def facts_of(texts: list[str]) -> list[str]:
    return sorted(f"Alice's {text[0].lower()}{text[1:]}" for text in texts)


@pytest.mark.parametrize("trouble", [failed(429), failed(503), half(), silent()], ids=["429", "503", "half", "silent"])
def test_what_the_model_cannot_be_asked_waits_and_says_so(
    tmp_path: Path, trouble: Step, caplog: pytest.LogCaptureFixture
) -> None:
    with scripted(trouble) as server, caplog.at_level(logging.WARNING):
        world = World(tmp_path / "m.db", server.url, timeout=0.2)
        outcomes = world.say("I moved to Denver yesterday!", "I love it.", "It is sunny.")
    assert [outcome.event for outcome in outcomes] == ["ADD"] * 3
    assert all("extraction waits for the model" in outcome.reason for outcome in outcomes)
    assert len(server.requests) == 1 and "wait for the model" in caplog.text
    assert len(world.waiting()) == 3 and world.facts() == []
    hits = world.pipeline.retriever.search("Denver", world.embedder.encode(["Denver"])[0], world.store, ALICE, k=1)
    assert hits[0].cube.text == "I moved to Denver yesterday!"  # findable while it waits


def test_nobody_listens_and_later_somebody_does(tmp_path: Path) -> None:
    world = World(tmp_path / "m.db", "http://127.0.0.1:9/v1", timeout=0.5)
    texts = trips(5)
    world.say(*texts)
    assert world.retry() == {"extracted": 0, "waiting": 5}
    world.store.close()
    with serving(restating) as server:
        again = World(tmp_path / "m.db", server.url)  # another process, another day
        assert again.retry() == {"extracted": 5, "waiting": 0}
        assert again.retry() == {"extracted": 0, "waiting": 0}
        assert len([body for body in server.bodies() if form_of(body) == "Notes"]) == 3
    assert sorted(again.facts()) == facts_of(texts) and again.waiting() == []
    assert [cube.header.version for cube in again.turns()] == [3, 2, 2, 2, 2]  # the first says that it was tried
    assert [cube.header.tags for cube in again.turns()] == [()] * 5
    assert again.store.verify() == []


def test_the_rest_of_a_call_does_not_wait_for_a_silent_model_too(tmp_path: Path) -> None:
    with scripted(noted(), failed(503)) as server:
        world = World(tmp_path / "m.db", server.url)
        batches = [Batch(replace(ALICE, run=f"r{n}"), [world.turn(f"Remark {n}.")]) for n in range(4)]
        rows = world.ingestion.write([*batches, Batch(ALICE, [world.turn("Raw.")], infer=False)])
        assert len(server.requests) == 2
    waits = ["waits" in row[0].reason for row in rows]
    assert waits == [False, True, True, True, False]


def test_one_session_that_upsets_the_model_does_not_hold_up_the_others(tmp_path: Path) -> None:
    world = World(tmp_path / "m.db", "http://127.0.0.1:9/v1", timeout=0.5)
    texts = [f"Kayak trip number {n} was {'cursed' if n == 2 else 'fun'}." for n in range(2, 7)]
    world.ingestion.write(
        [Batch(ALICE, [replace(world.turn(text), session=f"s{n}", ordinal=0)]) for n, text in enumerate(texts)]
    )
    with serving(lambda body: failed(500) if "cursed" in str(body["messages"][1]) else restating(body)) as server:
        world = World(tmp_path / "m.db", server.url)
        assert world.retry() == {"extracted": 4, "waiting": 1}
    assert world.waiting() == texts[:1]


def test_order_name_and_zone_survive_the_waiting(tmp_path: Path) -> None:
    world = World(tmp_path / "m.db", "http://127.0.0.1:9/v1", timeout=0.5)
    late = replace(world.turn("I moved to Oslo yesterday."), at=T0.replace(hour=22), zone=timezone(timedelta(hours=9)))
    person = replace(
        world.turn("I live in Boston.", role="assistant", speaker="Bob"), named=True, at=T0.replace(hour=23)
    )
    world.ingestion.write([Batch(ALICE, [late, person])])
    with scripted(noted(("Alice moved to Oslo on 13 June 2025.", [1]))) as server:  # the 14th over there
        world = World(tmp_path / "m.db", server.url)
        assert world.retry() == {"extracted": 2, "waiting": 0}
    assert world.facts() == ["Alice moved to Oslo on 13 June 2025."]
    assert "Saturday 14 June 2025 07:00" in server.bodies()[0]["messages"][1]["content"]


def test_rules_leave_alone_what_was_promised_to_a_model(tmp_path: Path) -> None:
    """A process without the model's settings drains no queue; with the model all is read by it."""
    world = World(tmp_path / "m.db", "http://127.0.0.1:9/v1", timeout=0.5)
    world.say("I live in Boston.", "Bob and I went to the lake.")
    with Memory(store=world.store, embedder=world.embedder) as memory:
        assert memory.retry() == {"extracted": 0, "waiting": 2}
        assert world.facts() == [] and len(world.waiting()) == 2


def test_three_sessions_that_always_upset_the_model_starve_nobody(tmp_path: Path) -> None:
    world = World(tmp_path / "m.db", "http://127.0.0.1:9/v1", timeout=0.5)
    texts = [f"Kayak trip number {n} was {'cursed' if n < 6 else 'fun'}." for n in range(2, 10)]
    world.ingestion.write(
        [Batch(ALICE, [replace(world.turn(text), session=f"s{n}", ordinal=0)]) for n, text in enumerate(texts)]
    )
    with serving(lambda body: failed(500) if "cursed" in str(body["messages"][1]) else restating(body)) as server:
        extracted = [World(tmp_path / "m.db", server.url).retry()["extracted"] for _ in range(3)]  # processes
    assert extracted == [0, 4, 0] and world.waiting() == texts[:4]


class Choking(RulesExtractor):
    """Reads conversations; what is cursed upsets it."""

    def read(self, scope: Scope, turns: Sequence[Turn], context: Sequence[Turn] = ()) -> Reading:
        if any("cursed" in turn.text for turn in turns[:2]):
            raise ValueError("int() of 5000 digits")
        return Reading(len(turns[:2]), tuple(by_turn(self, turns[:2], context)))


def test_a_turn_that_cannot_be_read_is_left_to_the_rules_and_holds_up_nobody(tmp_path: Path) -> None:
    world = World(tmp_path / "m.db", "http://127.0.0.1:9/v1", timeout=0.5)
    pipeline = replace(world.pipeline, extractor=Choking(), connectors=())
    ingestion = Ingestion(world.store, world.embedder, pipeline, IndexCache())
    texts = ["I live in Boston.", "I have a cursed dog called Rex.", "I work at Globex."]
    ingestion.write([Batch(ALICE, [world.turn(text) for text in texts])])
    assert world.waiting() == [] and len(world.facts()) == 3
    by = {cube.text: cube.header.provenance.extractor for cube in world.cubes()}
    assert [name for text, name in by.items() if "Rex" in text] == ["rules(fallback)"]


def test_other_tenants_are_left_alone(tmp_path: Path) -> None:
    world = World(tmp_path / "m.db", "http://127.0.0.1:9/v1", timeout=0.5)
    world.ingestion.write([Batch(Scope(tenant="acme", user="alice"), [world.turn("I live in Boston.")])])
    assert world.retry() == {"extracted": 0, "waiting": 0}
    assert world.ingestion.pending.retry("acme") == {"extracted": 0, "waiting": 1}


@pytest.mark.parametrize("taken", ["deleted", "forgotten"])
def test_what_is_taken_back_while_the_model_reads_yields_nothing(tmp_path: Path, taken: str) -> None:
    def answer(body: dict[str, Any]) -> Step:
        first = world.turns()[0]
        if taken == "deleted":
            removal.delete(world.store, first, first.header.recorded)
        else:
            removal.forget(world.store, world.embedder, [first.id], reason="asked")
        return noted(
            ("Alice owns a kayak.", [1]), ("Alice lives in Boston.", [2]), ("Alice's kayak is in Boston.", [1, 2])
        )

    with serving(answer) as server:
        world = World(tmp_path / "m.db", server.url)
        world.say("I own a kayak.", "I live in Boston.")
    assert world.facts() == ["Alice lives in Boston."] and world.waiting() == []
    assert world.store.verify() == []


def test_two_threads_with_two_stores_write_no_duplicate(tmp_path: Path) -> None:
    texts = trips(8)
    World(tmp_path / "m.db", "http://127.0.0.1:9/v1", timeout=0.5).say(*texts)
    with serving(lambda body: restating(body, silence=0.02)) as server:
        worlds = [World(tmp_path / "m.db", server.url) for _ in range(2)]
        done: list[dict[str, int]] = []
        threads = [threading.Thread(target=lambda world=world: done.append(world.retry())) for world in worlds]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sum(result["extracted"] for result in done) == 8
    assert sorted(worlds[0].facts()) == facts_of(texts)


def _start(path: Path, url: str, *arguments: str) -> subprocess.Popen[str]:
    folders = os.pathsep.join([str(WORKER.parent), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": folders, "NO_PROXY": "127.0.0.1", "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, str(WORKER), str(path), url, *arguments],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment,
    )  # fmt: skip
    return process


def _is_ready(process: subprocess.Popen[str]) -> bool:
    assert process.stdout is not None
    return process.stdout.readline() == "ready\n"


def test_two_processes_write_no_duplicate(tmp_path: Path) -> None:
    texts = trips(8)
    World(tmp_path / "m.db", "http://127.0.0.1:9/v1", timeout=0.5).say(*texts)
    with serving(lambda body: restating(body, silence=0.02)) as server:
        processes = [_start(tmp_path / "m.db", server.url, "retry") for _ in range(2)]
        assert all(_is_ready(process) for process in processes)
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        done = [json.loads(process.communicate(timeout=60)[0]) for process in processes]
    assert sum(result["extracted"] for result in done) == 8
    world = World(tmp_path / "m.db", "http://127.0.0.1:9/v1")
    assert sorted(world.facts()) == facts_of(texts) and world.waiting() == []
    assert world.store.verify() == []


def test_killed_in_the_middle_of_a_write_nothing_is_lost_and_nothing_doubled(tmp_path: Path) -> None:
    """kill -9 while the model is thinking about the third of four pairs."""
    texts = trips(8)
    with serving(lambda body: restating(body, silence=60.0 if third(body) else 0.0)) as server:

        def third(body: dict[str, Any]) -> bool:
            return sum(form_of(each) == "Notes" for each in server.bodies()) >= 3

        process = _start(tmp_path / "m.db", server.url, "add", *texts)
        assert _is_ready(process)
        deadline = time.monotonic() + 60
        while sum(form_of(body) == "Notes" for body in server.bodies()) < 3 and time.monotonic() < deadline:
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    with serving(restating) as well:
        world = World(tmp_path / "m.db", well.url)
        assert Counter(cube.text for cube in world.turns()) == Counter(texts)  # each once, before anything is retried
        assert sorted(world.facts()) == facts_of(texts[:4]) and world.waiting() == texts[4:]
        assert world.retry() == {"extracted": 4, "waiting": 0}
    assert sorted(world.facts()) == facts_of(texts)
    assert world.store.verify() == []
