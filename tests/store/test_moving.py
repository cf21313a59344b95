"""A file moved to a server is the same store: versions, edges, vectors, tensors, log, numbers; also after a kill."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest

from contracts.store import ALICE, BOB, DAY, T0, close, cube, insert, revise, unit
from lamina.cube.cube import Header, Lineage, MemCube, Scope, now
from lamina.cube.payload import Fingerprint, TensorPayload
from lamina.errors import CorruptStore, InvalidInput, StoreUnavailable
from lamina.store import moving
from lamina.store.base import Edge, Store, Write
from lamina.store.moving import move_between
from lamina.store.postgres import PostgresStore
from lamina.store.sqlite import SqliteStore

SCOPES = (ALICE, BOB, Scope("acme", "ann", "helper", "run"))


def fill(path: Path, count: int) -> None:
    """Everything a store can hold, in three scopes of two tenants."""
    payload = TensorPayload.from_numpy({"k": np.arange(5000, dtype=np.float32)}, Fingerprint("a", "w", "t", "f"))
    with SqliteStore(path, embedder="unit") as store:
        for scope in SCOPES:
            cubes = [cube(f"memory {n} Straße", scope=scope, recorded=T0, metadata={"n": n}) for n in range(count)]
            with store.transaction() as tx:
                tx.insert([Write(one, unit(n) if n % 3 else None) for n, one in enumerate(cubes)])
                tx.connect(
                    [Edge(source=a.id, target=b.id, relation="next", weight=1 / 3, recorded=T0)
                     for a, b in pairwise(cubes[:20])]
                )  # fmt: skip
            lineage = Lineage(((cubes[0].id, 1),), "promote")
            insert(store, MemCube(Header(scope=scope, kind="activation", lineage=lineage), payload))
            revise(store, cubes[1], "second", recorded=T0 + DAY)
            close(store, cubes[2], now(), by=cubes[3].id, reason="over")
            with store.transaction() as tx:
                tx.disconnect(cubes[5].id, cubes[6].id, "next", at=now())
                tx.forget([cubes[4].id], reason="asked")
                tx.note(cubes[7].id, action="promote", details={"heat": 2.5})


def everything(store: Store) -> dict[str, Any]:
    """All that the protocol tells of a store, memory by memory."""
    found = state(store)
    for scope in SCOPES:
        ids = [one.id for one in store.query(scope, closed=True, limit=100_000).cubes]
        found[f"each of {scope}"] = [(store.versions(id), store.derived(id)) for id in ids]
    return found


def state(store: Store) -> dict[str, Any]:
    """Every version, vector, edge and event, as an index and an audit read them."""
    found: dict[str, Any] = {"events": list(store.events()), "last": store.last_change()}
    for scope in SCOPES:
        changes = list(store.changes(scope))
        found[str(scope)] = {
            "changes": [(c.change, c.key, c.gone, c.cube) for c in changes],
            "vectors": [None if c.vector is None else c.vector.tobytes() for c in changes],
            "edges": store.edges(scope, closed=True),
            "scopes": store.scopes(scope.tenant),
        }
    return found


def test_everything_arrives_and_goes_on(tmp_path: Path, postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moving, "CHUNK", 17)
    fill(tmp_path / "m.db", 60)
    told: dict[str, int] = {}
    moved = move_between(
        str(tmp_path / "m.db"), postgres_url, progress=lambda t, n: told.update({t: told.get(t, 0) + n})
    )
    with SqliteStore(tmp_path / "m.db", embedder="unit") as old, PostgresStore(postgres_url, embedder="unit") as new:
        assert everything(new) == everything(old)
        assert new.verify() == []
        counts = [old.stats()[name] for name in ("versions", "vectors", "events", "forgotten")]
        assert [moved.rows[name] for name in ("cubes", "vectors", "log", "gone")] == counts
        assert told == {name: moved.rows[name] for name in ("cubes", "edges", "gone", "log")}
        *_, last = old.events()
        assert moved.log_head == f"{last.seq}:{last.hash}"
        for store in (old, new):  # keys, changes and the chain go on from the same numbers
            insert(store, cube("after", id="after", recorded=T0))
        assert [(c.change, c.key) for c in new.changes(ALICE)] == [(c.change, c.key) for c in old.changes(ALICE)]
        assert new.verify() == []
        acme = new.as_tenant("acme")
        assert {event.cube for event in acme.events(cube=acme.query(SCOPES[2]).cubes[0].id)}


def test_a_killed_move_is_continued(tmp_path: Path, postgres_url: str) -> None:
    path = tmp_path / "m.db"
    fill(path, 1_000)
    command = [sys.executable, "-c", "from lamina.cli import main; main()", "migrate-store", f"sqlite://{path}"]
    running = subprocess.Popen([*command, postgres_url], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not (before := copied(postgres_url)) >= 500:
        assert running.poll() is None, "it ended before it could be killed"
        time.sleep(0.002)
    running.kill()
    running.wait()
    assert before <= copied(postgres_url) < 3_000
    with pytest.raises(StoreUnavailable, match="migrate-store again"):
        PostgresStore(postgres_url)
    done = subprocess.run([*command, postgres_url, "--json"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["rows"]["vectors"] == 1_995
    with SqliteStore(path) as old, PostgresStore(postgres_url) as new:
        assert state(new) == state(old)


def test_a_target_that_holds_something_else_is_refused(tmp_path: Path, postgres_url: str) -> None:
    fill(tmp_path / "m.db", 20)
    with PostgresStore(postgres_url) as store:
        insert(store, one := cube("here first"))
        with pytest.raises(InvalidInput, match="holds memories"):
            move_between(str(tmp_path / "m.db"), postgres_url)
        assert store.query(ALICE).cubes == [one]


def test_a_file_written_to_in_between_is_noticed(
    tmp_path: Path, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path / "m.db", 20)
    with monkeypatch.context() as patch:
        patch.setattr(moving, "_proved", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            move_between(str(tmp_path / "m.db"), postgres_url)
    with SqliteStore(tmp_path / "m.db") as store:
        insert(store, cube("new"))
    with pytest.raises(InvalidInput, match="before it was written to"):
        move_between(str(tmp_path / "m.db"), postgres_url)


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE lamina.cubes SET importance = 0.25 WHERE key = 7",
        "UPDATE lamina.vectors SET vector = (SELECT vector FROM lamina.vectors WHERE key = 6) WHERE key = 8",
        "DELETE FROM lamina.edges WHERE key = 3",
    ],
)
def test_a_row_that_differs_is_found(
    tmp_path: Path, postgres_url: str, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    fill(tmp_path / "m.db", 30)
    proved = moving._proved

    def damaged(*both: Any) -> Any:
        with psycopg.connect(postgres_url) as connection:
            assert connection.execute(damage.encode()).rowcount == 1
        return proved(*both)

    monkeypatch.setattr(moving, "_proved", damaged)
    with pytest.raises(CorruptStore, match=damage.split()[1 if "UPDATE" in damage else 2].removeprefix("lamina.")):
        move_between(str(tmp_path / "m.db"), postgres_url)
    with pytest.raises(StoreUnavailable, match="migrate-store again"):
        PostgresStore(postgres_url)


def test_a_headers_scope_survives(tmp_path: Path, postgres_url: str) -> None:
    """A file of one tenant: its log is that tenant's, also the rows about what was forgotten."""
    with SqliteStore(tmp_path / "m.db") as store:
        one = replace(cube("x"), header=replace(cube("x").header, scope=Scope("acme", "ann")))
        insert(store, one)
        with store.transaction() as tx:
            tx.forget([one.id])
    move_between(str(tmp_path / "m.db"), postgres_url)
    with PostgresStore(postgres_url, tenant="acme") as store:
        assert [event.action for event in store.events(cube=one.id)] == ["add", "forget"]


def copied(url: str) -> int:
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT count(*) FROM lamina.cubes").fetchone()
        return int(row[0]) if row else 0
