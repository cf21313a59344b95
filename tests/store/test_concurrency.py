"""Two processes with eight threads each write to one file: nothing is lost, everything stays consistent."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from contracts.store import insert
from lamina.cube.cube import Header, MemCube, Scope
from lamina.cube.payload import TextPayload
from lamina.store.sqlite import SqliteStore

THREADS, STEPS = 8, 15


def test_two_processes_of_eight_threads(tmp_path: Path) -> None:
    path = tmp_path / "m.db"
    with SqliteStore(path) as store:
        insert(store, MemCube(Header(id="counter", scope=Scope(user="shared")), TextPayload("0")))
    script = str(Path(__file__).with_name("concurrent_writers.py"))
    writers = [
        subprocess.Popen(
            [sys.executable, script, str(path), name, str(THREADS), str(STEPS)], stderr=subprocess.PIPE, text=True
        )
        for name in ("a", "b")
    ]
    for writer in writers:
        _, errors = writer.communicate(timeout=300)
        assert writer.returncode == 0, errors
    with SqliteStore(path) as store:
        total = 2 * THREADS * STEPS
        assert [one.text for one in store.versions("counter")] == [str(n) for n in range(total + 1)]
        mine = Scope(user="mine")
        names = [f"{process}{thread}-{step}" for process in "ab" for thread in range(THREADS) for step in range(STEPS)]
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
