"""A restored store has everything but what was forgotten since; it is there whole or not at all."""

from __future__ import annotations

import json
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from copies import await_one, noted, tensors
from test_erasure import canary, traces
from test_moving import everything, fill

from contracts.postgres import PostgresServer
from contracts.store import ALICE, T0, cube, insert, unit
from lamina.cube.cube import Header, Lineage, MemCube, Scope, now
from lamina.errors import CorruptStore, InvalidInput
from lamina.server.keys import KeyRing
from lamina.store import backup as backups
from lamina.store import forgotten
from lamina.store.backup import create
from lamina.store.base import Edge, Write
from lamina.store.opening import open_store
from lamina.store.postgres import PostgresStore
from lamina.store.restoring import restore
from lamina.store.sqlite import SqliteStore


@pytest.mark.parametrize("into", ["file", "server"])
def test_everything_comes_back(place: str, into: str, tmp_path: Path, postgres: PostgresServer) -> None:
    fill(source := tmp_path / "source.db", 60)
    if place.startswith("postgresql"):
        from lamina.store.moving import move_between

        move_between(str(source), place)
    else:
        restore(create(str(source), tmp_path / "first").folder, place, [])
    with open_store(place) as store:
        expected = everything(store)
        mine = [event.action for event in store.as_tenant("acme").events()]
    done = create(place, tmp_path / "backups")
    target = postgres.empty_store() if into == "server" else str(tmp_path / "restored.db")
    restored = restore(done.folder, target, noted(done))
    assert restored.forgotten == () and restored.revoked == ()
    with open_store(target, embedder="unit") as store:
        assert everything(store) == expected
        assert store.verify() == []
        *_, last = store.events()
        assert f"{last.seq}:{last.hash}" == done.log_head
        if into == "server" and place.startswith("postgresql"):
            assert [event.action for event in store.as_tenant("acme").events()] == mine
        insert(store, a := cube("goes on", recorded=T0), b := cube("and on", recorded=T0))
        with store.transaction() as tx:
            tx.connect([Edge(source=a.id, target=b.id, relation="next", recorded=now())])
        assert store.verify() == []


def test_the_log_of_a_tenant_stays_its_own(postgres_url: str, postgres: PostgresServer, tmp_path: Path) -> None:
    """Also rows about what is forgotten, of which a file does not know whose it was."""
    ids = {}
    with PostgresStore(postgres_url) as store:
        for tenant in ("acme", "umbra"):
            insert(store, one := cube(f"of {tenant}", scope=Scope(tenant, "u")))
            with store.transaction() as tx:
                tx.forget([one.id])
            ids[tenant] = one.id
    done = create(postgres_url, tmp_path / "backups")
    restore(done.folder, postgres.empty_store(), [])
    rows = postgres.run("SELECT tenant, cube, action FROM lamina.log ORDER BY seq", database="test1")
    assert rows == [(tenant, id, action) for tenant, id in ids.items() for action in ("add", "forget")]


def test_what_was_forgotten_since_is_nowhere_in_the_bytes(place: str, tmp_path: Path) -> None:
    rng = random.Random(5)
    words, stays = [canary(rng) for _ in range(4)], canary(rng)
    vector, payload = unit(3), tensors(3)
    raw = payload.tensors["k"].numpy().tobytes()[:64]
    with open_store(place) as store:
        insert(store, *[cube(f"bystander {n} {stays}") for n in range(40)])
        secret = cube(f"said {words[0]}", metadata={words[1]: [words[2]]}, tags=(words[3],))
        cache = MemCube(Header(scope=ALICE, kind="activation", lineage=Lineage(((secret.id, 1),))), payload)
        with store.transaction() as tx:
            tx.insert([Write(secret, vector), Write(cache)])
        done = create(place, folder := tmp_path / "backups")
        with store.transaction() as tx:
            assert set(tx.forget([secret.id])) == {secret.id, cache.id}
    assert forgotten.keep(place, folder) == forgotten.Kept(done.journal, done.store, 2) and done.journal
    if not place.startswith("postgresql"):
        shutil.rmtree(Path(place).parent)
    needles = [*words, vector.tobytes(), raw]
    assert len({line.split(": ", 1)[1] for line in traces(done.folder, *needles)}) == 6, (
        "the search finds what is there"
    )
    journal = done.journal.read_text()
    assert secret.id in journal and not any(word in journal for word in words)
    (tmp_path / "new").mkdir()
    restored = restore(done.folder, str(tmp_path / "new" / "m.db"), noted(done))
    assert set(restored.forgotten) == {secret.id, cache.id}
    assert traces(tmp_path / "new", *needles) == []
    assert traces(tmp_path / "new", stays) == [f"m.db: {stays!r}"]
    with SqliteStore(tmp_path / "new" / "m.db") as store:
        assert store.verify() == [] and len(store.query(ALICE).cubes) == 40
        *_, last = store.events(cube=secret.id)
        assert (last.action, last.actor) == ("forget", "restore")


def test_what_was_forgotten_never_reaches_a_server(tmp_path: Path, postgres: PostgresServer, postgres_url: str) -> None:
    """Not even its write-ahead log: no byte of all the files of the server has it."""
    rng = random.Random(6)
    word, stays = canary(rng), canary(rng)
    with SqliteStore(tmp_path / "m.db") as store:
        insert(store, secret := cube(f"said {word}"), cube(f"bystander {stays}"))
        done = create(str(tmp_path / "m.db"), tmp_path / "backups")
        with store.transaction() as tx:
            tx.forget([secret.id])
    restored = restore(done.folder, postgres_url, forgotten.read(str(tmp_path / "m.db"), str(done.store)))
    assert restored.forgotten == (secret.id,)
    postgres.run("CHECKPOINT")
    assert traces(Path(postgres.folder), stays), "the search finds what is there"
    assert traces(Path(postgres.folder), word) == []


def test_a_revoked_key_stays_revoked(place: str, tmp_path: Path) -> None:
    with open_store(place) as store:
        ring = KeyRing(store)
        (gone, token), (_, other) = ring.create("phone", "acme"), ring.create("laptop", "acme")
        done = create(place, tmp_path / "backups")
        ring.revoke(gone.id)
    forgotten.keep(place, tmp_path / "backups")
    requests = noted(done)
    for target, known in (("with.db", requests), ("without.db", [])):
        restored = restore(done.folder, str(tmp_path / target), known)
        with SqliteStore(tmp_path / target) as store:
            valid = KeyRing(store).verify(token) is not None
            assert KeyRing(store).verify(other) is not None
        assert (valid, len(restored.revoked)) == ((False, 1) if known else (True, 0))


def test_an_erasure_that_was_under_way_is_finished(tmp_path: Path) -> None:
    with SqliteStore(tmp_path / "m.db") as store:
        insert(store, secret := cube("about to go"), cube("stays"))
        note = tmp_path / "m.db.forgetting-1"  # what a crash leaves between the note and the deletion
        note.write_text(json.dumps({"ids": [secret.id], "actor": "ann", "reason": "asked"}))
        done = create(str(tmp_path / "m.db"), tmp_path / "backups")
    restored = restore(done.folder, str(tmp_path / "r.db"), [])
    assert restored.forgotten == (secret.id,) and not list(tmp_path.glob("r.db.forgetting*"))


def test_a_restore_that_was_killed_is_done_again(tmp_path: Path) -> None:
    with SqliteStore(tmp_path / "m.db") as store:
        insert(store, secret := cube("secret"), *[cube(f"{n} " * 500) for n in range(300)])
        done = create(str(tmp_path / "m.db"), tmp_path / "backups")
        with store.transaction() as tx:
            tx.forget([secret.id])
    target, rng, left = tmp_path / "r" / "r.db", random.Random(4), 0
    command = ["backup", "restore", str(done.folder), str(target), "--forgotten", str(tmp_path / "m.db")]
    code = f"import sys; sys.argv[1:] = {command!r}; from lamina.cli import main; main()"
    for _ in range(5):
        target.parent.mkdir()
        child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL)
        await_one(target.parent, ".r.db.restoring")
        time.sleep(rng.uniform(0.0, 0.1))
        child.send_signal(signal.SIGKILL)
        child.wait()
        left += (target.parent / ".r.db.restoring").exists()
        if target.exists():
            with SqliteStore(target) as store:
                assert store.verify() == [] and store.get(secret.id) is None
        shutil.rmtree(target.parent)
    assert left, "some were killed before they were done"
    (target.parent / ".r.db.restoring").mkdir(parents=True)
    (target.parent / ".r.db.restoring" / "r.db").write_text("secret")  # what a killed one left goes
    restore(done.folder, str(target), forgotten.read(str(tmp_path / "m.db"), str(done.store)))
    assert traces(target.parent, "secret") == [] and {path.name for path in target.parent.iterdir()} == {"r.db"}


@pytest.mark.parametrize("name", ["../../m.db", "/etc/passwd", "memory.db.blobs/../../x"])
def test_a_backup_names_no_files_outside(name: str, tmp_path: Path) -> None:
    with SqliteStore(tmp_path / "m.db") as store:
        insert(store, cube("a"))
    done = create(str(tmp_path / "m.db"), tmp_path / "backups")
    said = json.loads((done.folder / backups.MANIFEST).read_text())
    said["files"][name] = [0, "0" * 64]
    (done.folder / backups.MANIFEST).write_text(json.dumps(said))
    with pytest.raises(CorruptStore, match="no backup has"):
        restore(done.folder, str(tmp_path / "r.db"), [])


def test_nothing_is_written_over(tmp_path: Path, postgres_url: str) -> None:
    with SqliteStore(tmp_path / "m.db") as store:
        insert(store, one := cube("here"))
    done = create(str(tmp_path / "m.db"), tmp_path / "backups")
    for name in ("m.db", "r.db", "s.db"):
        for end in {"m.db": [""], "r.db": ["-wal"], "s.db": [".blobs"]}[name]:
            (tmp_path / f"{name}{end}").touch()
        with pytest.raises(InvalidInput, match="exists"):
            restore(done.folder, str(tmp_path / name), [])
    with SqliteStore(tmp_path / "m.db") as store:
        assert store.get(one.id) == one
    with PostgresStore(postgres_url) as server:
        insert(server, other := cube("there"))
        with pytest.raises(InvalidInput, match="holds memories"):
            restore(done.folder, postgres_url, [])
        assert server.query(ALICE).cubes == [other]
    assert not list(tmp_path.glob(".*restoring*"))
