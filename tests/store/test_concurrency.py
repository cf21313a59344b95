"""Processes with eight threads each write to one store: nothing is lost, everything stays consistent."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from contracts.store import insert
from lamina.cube.cube import Header, MemCube, Scope
from lamina.cube.payload import TextPayload
from lamina.store.opening import open_store

THREADS = 8


def test_two_processes_of_eight_threads(tmp_path: Path) -> None:
    write_together(str(tmp_path / "m.db"), "ab", steps=15)


def test_four_processes_of_eight_threads_on_a_server(postgres_url: str) -> None:
    write_together(postgres_url, "abcd", steps=2)


def write_together(place: str, processes: str, steps: int) -> None:
    with open_store(place) as store:
        insert(store, MemCube(Header(id="counter", scope=Scope(user="shared")), TextPayload("0")))
    script = str(Path(__file__).with_name("concurrent_writers.py"))
    writers = [
        subprocess.Popen(
            [sys.executable, script, place, name, str(THREADS), str(steps)], stderr=subprocess.PIPE, text=True
        )
        for name in processes
    ]
    for writer in writers:
        _, errors = writer.communicate(timeout=300)
        assert writer.returncode == 0, errors
    with open_store(place) as store:
        total = len(processes) * THREADS * steps
        assert [one.text for one in store.versions("counter")] == [str(n) for n in range(total + 1)]
        mine = Scope(user="mine")
        names = [
            f"{process}{thread}-{step}" for process in processes for thread in range(THREADS) for step in range(steps)
        ]
        visible = {f"{name}-{fate}" for name in names for fate in ("kept", "revised")}
        visible |= {f"{name}-dropped" for name in names if int(name.split("-")[1]) % 5}
        assert {one.id for one in store.query(mine, limit=10_000).cubes} == visible
        assert all(len(store.versions(f"{name}-revised")) == 2 for name in names)
        assert all(store.get(f"{name}-closed").header.superseded for name in names)  # type: ignore[union-attr]
        events = list(store.events())
        assert [event.seq for event in events] == list(range(1, len(events) + 1))
        changes = [change.change for change in store.changes(Scope())]
        assert changes == sorted(set(changes))
        assert store.verify() == []
