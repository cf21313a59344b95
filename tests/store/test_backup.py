"""Backups are of one moment, whole or absent, of files and of servers, while others write."""

from __future__ import annotations

import fcntl
import json
import os
import random
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from copies import await_one, noted, tensors
from test_erasure import traces
from test_moving import SCOPES
from typer.testing import CliRunner

from contracts.store import ALICE, cube, insert, unit
from lamina.cli import app
from lamina.cube.cube import Header, Lineage, MemCube
from lamina.cube.payload import TensorPayload
from lamina.errors import CorruptStore, InvalidInput, NotFound, StoreUnavailable
from lamina.store import backup as backups
from lamina.store import copying, forgotten
from lamina.store.backup import create, verify
from lamina.store.base import Store, Write
from lamina.store.opening import open_store
from lamina.store.restoring import restore
from lamina.store.sqlite import SqliteStore

_WRITER = """
import sys
sys.path[:0] = sys.argv[2:]
from test_backup import pair, pairs
from lamina.store.opening import open_store
with open_store(sys.argv[1]) as store:
    n = 0
    while True:
        pair(store, n)
        print(n, flush=True)
        n += 1
"""


def pair(store: Store, n: int) -> None:
    """Two memories and a tensor made of them, in one transaction; every third pair is forgotten in the next."""
    ids = [f"{n}-{side}" for side in "ab"]
    cache = MemCube(Header(id=f"{n}-k", scope=ALICE, kind="activation", lineage=Lineage(((ids[0], 1),))), tensors(n))
    with store.transaction() as tx:
        tx.insert([*(Write(cube(f"pair {id}", id=id), unit(n)) for id in ids), Write(cache)])
    if n % 3 == 2:
        with store.transaction() as tx:
            tx.forget(ids)


def pairs(store: Store) -> dict[int, set[str]]:
    found: dict[int, set[str]] = {}
    for one in store.query(ALICE, limit=100_000).cubes:
        number, _, side = one.id.partition("-")
        found.setdefault(int(number), set()).add(side)
    return found


def test_copies_under_writes_are_of_one_moment(place: str, tmp_path: Path) -> None:
    here = [str(Path(__file__).parent), str(Path(__file__).parent.parent)]
    writer = subprocess.Popen([sys.executable, "-c", _WRITER, place, *here], stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    try:
        made = []
        for _ in range(4):
            acknowledged = int(writer.stdout.readline())
            made.append((acknowledged, create(place, tmp_path / "backups")))
            assert writer.poll() is None, "it goes on writing"
    finally:
        writer.kill()
        writer.wait()
    later = 0
    for number, (acknowledged, done) in enumerate(made):
        assert verify(done.folder) == []
        target = tmp_path / f"restored{number}.db"
        restore(done.folder, str(target), [])
        with SqliteStore(target) as store:
            assert store.verify() == []
            found = pairs(store)
            assert all(sides == set("abk") for sides in found.values()), "no half of a transaction"
            last = max(found)
            assert set(range(last)) - set(found) <= set(range(2, last, 3)), "of what was before, all is there"
            assert last >= acknowledged - (acknowledged % 3 == 2), "nothing acknowledged is missing"
            later += last > acknowledged
            for n in found:
                tensor = store.get(f"{n}-k")
                assert tensor is not None and isinstance(tensor.payload, TensorPayload)
                assert np.array_equal(tensor.payload.tensors["k"].numpy(), tensors(n).tensors["k"].numpy())
    assert later, "the writer wrote while it was copied"


def test_a_tensor_forgotten_while_it_is_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The snapshot names a tensor whose file goes before it was copied: begun again, and then without the memory."""
    source = tmp_path / "m.db"
    with SqliteStore(source) as store:
        insert(store, doomed := MemCube(Header(scope=ALICE, kind="activation"), tensors(1)), kept := cube("stays"))
        copy = copying._copy_tensors

        def late(old: Path, new: Path) -> bool:
            if store.get(doomed.id) is not None:
                with store.transaction() as tx:
                    tx.forget([doomed.id])
            return copy(old, new)

        monkeypatch.setattr(copying, "_copy_tensors", late)
        done = create(str(source), tmp_path / "backups")
    restore(done.folder, str(tmp_path / "r.db"), [])
    with SqliteStore(tmp_path / "r.db") as store:
        assert store.get(doomed.id) is None and store.get(kept.id) is not None


def test_a_tensor_that_is_lost_is_no_backup(tmp_path: Path) -> None:
    with SqliteStore(tmp_path / "m.db") as store:
        insert(store, MemCube(Header(scope=ALICE, kind="activation"), tensors(1)))
    shutil.rmtree(tmp_path / "m.db.blobs")
    with pytest.raises(CorruptStore, match="missing"):
        create(str(tmp_path / "m.db"), tmp_path / "backups")
    assert backups.backups(tmp_path / "backups") == []
    assert traces(tmp_path / "backups", "SQLite format 3") == [], "nor a part of one"


def test_killed_at_any_moment_no_half_looks_whole(tmp_path: Path) -> None:
    with SqliteStore(tmp_path / "m.db") as store:
        for n in range(30):
            insert(store, MemCube(Header(scope=ALICE, kind="activation"), tensors(n)))
    folder, rng, left = tmp_path / "backups", random.Random(2), 0
    code = (
        "import sys; from pathlib import Path; from lamina.store.backup import create\n"
        "while True: create(sys.argv[1], Path(sys.argv[2]), keep=2); print(1, flush=True)"
    )
    for number in range(8):
        command = [sys.executable, "-c", code, str(tmp_path / "m.db"), str(folder)]
        child = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert child.stdout is not None
        if number % 2:  # in the second, or while an old one is removed
            child.stdout.readline()
        else:
            await_one(folder, f"{backups._UNFINISHED}*")
        time.sleep(rng.uniform(0.0, 0.02))
        child.send_signal(signal.SIGKILL)
        child.wait()
        left += len(list(folder.glob(f"{backups._UNFINISHED}*")))
        found = backups.backups(folder)
        assert all(verify(one) == [] for one in found) and len(found) >= number % 2
    assert left, "some were killed before they were done"
    done = create(str(tmp_path / "m.db"), folder)
    assert done.journal and {path.name for path in folder.iterdir()} >= {done.folder.name, done.journal.name}
    assert not list(folder.glob(f"{backups._UNFINISHED}*")), "what killed ones left is gone"


def test_a_full_disk_leaves_nothing(tmp_path: Path) -> None:
    with SqliteStore(tmp_path / "m.db") as store:
        insert(store, *[cube(f"{n} " * 500) for n in range(300)])
    code = (
        "import resource, signal, sys; from pathlib import Path; from lamina.store.backup import create\n"
        "from lamina.errors import StoreUnavailable; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        f"try: create({str(tmp_path / 'm.db')!r}, Path({str(tmp_path / 'backups')!r}))\n"
        "except StoreUnavailable: sys.exit(7)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 7
    assert [path.name for path in (tmp_path / "backups").iterdir()] == [".lock"]


def test_every_altered_byte_is_noticed(tmp_path: Path) -> None:
    with SqliteStore(tmp_path / "m.db") as store:
        insert(store, cube("a"), MemCube(Header(scope=ALICE, kind="activation"), tensors(1)))
    done = create(str(tmp_path / "m.db"), tmp_path / "backups")
    rng = random.Random(3)
    files = [path for path in done.folder.rglob("*") if path.is_file()]
    assert len(files) == 3
    for path in files:
        data = path.read_bytes()
        for _ in range(8):
            place = rng.randrange(len(data))
            path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
            if path.name != backups.MANIFEST:
                assert any("altered" in problem for problem in verify(done.folder))
                with pytest.raises(CorruptStore):
                    restore(done.folder, str(tmp_path / "r.db"), [])
        path.write_bytes(data[:-1])
        if path.name == backups.MANIFEST:
            with pytest.raises(CorruptStore, match="cannot be read"):
                verify(done.folder)
        path.unlink()
        if path.name == backups.MANIFEST:
            with pytest.raises(NotFound):
                verify(done.folder)
            assert backups.backups(tmp_path / "backups") == []
        else:
            assert any("missing" in problem for problem in verify(done.folder))
        path.write_bytes(data)
    (done.folder / "more").touch()
    assert verify(done.folder) == ["more is not of this backup"]
    (done.folder / "more").unlink()
    assert verify(done.folder) == [] and not (tmp_path / "r.db").exists()


def test_a_log_that_was_cut_is_noticed_even_with_new_checksums(tmp_path: Path) -> None:
    with SqliteStore(tmp_path / "m.db") as store:
        insert(store, cube("a"), cube("b"))
    done = create(str(tmp_path / "m.db"), tmp_path / "backups")
    database = done.folder / backups.DATABASE
    with sqlite3.connect(database) as connection:
        connection.execute("DROP TRIGGER log_no_delete")
        connection.execute("DELETE FROM log WHERE seq = 2")
    connection.close()
    said = json.loads((done.folder / backups.MANIFEST).read_text())
    said["files"][backups.DATABASE] = backups._measured(database)
    (done.folder / backups.MANIFEST).write_text(json.dumps(said))
    (problem,) = verify(done.folder)
    assert "does not end with" in problem


def test_what_is_no_store_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        create(str(tmp_path / "none.db"), tmp_path / "b")
    with sqlite3.connect(tmp_path / "other.db") as connection:
        connection.execute("CREATE TABLE t (x)")
    connection.close()
    with pytest.raises(InvalidInput, match="holds no memories"):
        create(str(tmp_path / "other.db"), tmp_path / "b")
    assert backups.backups(tmp_path / "b") == []


def test_old_ones_go_and_files_are_private(tmp_path: Path) -> None:
    with SqliteStore(tmp_path / "m.db") as store:
        insert(store, cube("a"), MemCube(Header(scope=ALICE, kind="activation"), tensors(1)))
    folder = tmp_path / "backups"
    made = [create(str(tmp_path / "m.db"), folder, keep=3) for _ in range(5)]
    assert backups.backups(folder) == sorted(done.folder for done in made)[-3:]
    assert [len(done.removed) for done in made] == [0, 0, 0, 1, 1]
    modes = {path.stat().st_mode & 0o077 for path in [folder, *folder.rglob("*")] if path.name != ".lock"}
    assert modes == {0}
    restore(made[-1].folder, str(tmp_path / "r.db"), [])
    restored = [tmp_path / "r.db", *tmp_path.glob("r.db.*"), *(tmp_path / "r.db.blobs").rglob("*")]
    assert {path.stat().st_mode & 0o077 for path in restored} == {0} and len(restored) == 4
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(StoreUnavailable, match="another backup"):
            create(str(tmp_path / "m.db"), folder)


def test_stores_that_share_a_folder_keep_their_own(place: str, tmp_path: Path) -> None:
    """Backups, journals, and what --keep removes; also a store that is still empty, and what cannot be read."""
    folder, other, fresh = tmp_path / "backups", str(tmp_path / "other.db"), str(tmp_path / "fresh.db")
    SqliteStore(fresh).close()
    for path in (place, other):
        with open_store(path) as store:
            insert(store, gone := cube("goes"), cube("stays"))
            with store.transaction() as tx:
                tx.forget([gone.id])
    made = {path: [create(path, folder, keep=1) for _ in range(2)] for path in (place, other, fresh)}
    stay = [*(last.folder for _, last in made.values()), made[fresh][0].folder]
    assert backups.backups(folder) == sorted(stay), "whose that of an empty store is cannot be told"
    assert all(last.removed == (first.folder,) for first, last in [made[place], made[other]])
    mine, theirs, nobodys = (made[path][1] for path in (place, other, fresh))
    assert nobodys.store is None and nobodys.journal is None and backups.manifest(nobodys.folder)["store"] is None
    assert mine.journal != theirs.journal and set(folder.glob("*.jsonl")) == {mine.journal, theirs.journal}
    assert noted(mine) == forgotten.read(place, str(mine.store)) != noted(theirs)
    assert [len(noted(one)) for one in (mine, theirs)] == [1, 1]
    (theirs.folder / backups.MANIFEST).write_text("{}")
    last = create(other, folder, keep=1)
    assert last.removed == () and theirs.folder.exists(), "whose that is cannot be told"


def test_a_backup_says_of_which_store_it_is(tmp_path: Path) -> None:
    for name in ("a", "b"):
        with SqliteStore(tmp_path / f"{name}.db") as store:
            insert(store, cube(name))
    made, other = (create(str(tmp_path / f"{name}.db"), tmp_path / "backups") for name in "ab")
    with SqliteStore(tmp_path / "a.db") as store:
        assert made.store == next(iter(store.events(limit=1))).hash != other.store
    path = made.folder / backups.MANIFEST
    said = json.loads(path.read_text())
    path.write_text(json.dumps(said | {"store": other.store}))
    assert verify(made.folder) == ["log: it is not of the store that backup.json names"]
    path.write_text(json.dumps(said | {"store": None}))
    assert verify(made.folder) == ["log: it is not of the store that backup.json names"]
    for wrong in ("", "../../x", 7):
        path.write_text(json.dumps(said | {"store": wrong}))
        with pytest.raises(CorruptStore, match="of which store"):
            verify(made.folder)
    path.write_text(json.dumps({name: value for name, value in said.items() if name != "store"}))
    with pytest.raises(CorruptStore, match="cannot be read"):
        verify(made.folder)


def run(*arguments: str, code: int = 0) -> Any:
    """``lamina backup ... --json``; what it printed."""
    result = CliRunner().invoke(app, ["backup", *arguments, "--json"])
    assert result.exit_code == code, result.output
    return json.loads(result.stdout)


def test_on_the_command_line(tmp_path: Path) -> None:
    live, folder = tmp_path / "m.db", tmp_path / "backups"
    with SqliteStore(live) as store:
        insert(store, *[cube(f"of {scope.user}", scope=scope) for scope in SCOPES], secret := cube("secret"))
        made = run("create", str(folder), "--db", str(live), "--keep", "2")
        with store.transaction() as tx:
            tx.forget([secret.id])
    assert run("verify", made["backup"])["journal"] == made["journal"]
    assert made["backup"] in run("verify", str(folder), code=1)["error"]["message"], "the folder of all is none"
    moved = tmp_path / "elsewhere" / Path(made["backup"]).name
    shutil.copytree(made["backup"], moved)
    assert run("verify", str(moved))["journal"] is None
    refused = run("restore", str(moved), str(tmp_path / "x.db"), code=1)
    assert "--forgotten" in refused["error"]["message"]
    assert run("restore", str(moved), str(tmp_path / "y.db"), "--as-it-was")["versions"] == 4
    assert run("restore", str(moved), str(tmp_path / "z.db"), "--forgotten", str(live))["versions"] == 3
    assert run("journal", str(folder), "--db", str(live)) == {
        "journal": made["journal"], "store": made["store"], "new": 1}  # fmt: skip
    live.unlink()
    assert run("restore", made["backup"], str(live))["forgotten"] == [secret.id]
    (Path(made["backup"]) / "memory.db").write_bytes(b"")
    assert run("verify", made["backup"], code=1)["problems"]


def test_a_journal_that_is_none_opens_no_way_back(tmp_path: Path) -> None:
    """What a failed run, another store or an accident puts beside a copied backup is not taken for a newer log."""
    live, other, moved = tmp_path / "m.db", tmp_path / "other.db", tmp_path / "moved"
    with SqliteStore(live) as store:
        insert(store, secret := cube("a secret"), cube("stays"))
        made = run("create", str(tmp_path / "backups"), "--db", str(live))
        with store.transaction() as tx:
            tx.forget([secret.id])
    with SqliteStore(other) as store:
        insert(store, cube("of another"))
    backup, beside = moved / Path(made["backup"]).name, moved / Path(made["journal"]).name
    shutil.copytree(made["backup"], backup)
    for verb in ("journal", "create"):
        refused = run(verb, str(moved), "--db", str(tmp_path / "notyet.db"), code=1)
        assert "LAMINA_DATABASE" in refused["error"]["message"]
    assert [path.name for path in moved.iterdir()] == [backup.name]
    run("journal", str(moved), "--db", str(other))
    assert "there is no" in run("restore", str(backup), str(tmp_path / "r.db"), code=1)["error"]["message"]
    foreign = run("create", str(moved), "--db", str(other))["journal"]
    headless = Path(made["journal"]).read_bytes().partition(b"\n")[2]
    for data in (b"", b"\n", headless, Path(foreign).read_bytes(), Path(made["journal"]).read_bytes()[:50]):
        beside.write_bytes(data)
        for more in ([], ["--forgotten", str(live)]):
            refused = run("restore", str(backup), str(tmp_path / "r.db"), *more, code=1)
            assert "Move it away" in refused["error"]["message"] or data == b"\n"
        told = run("verify", str(backup), code=1)
        assert not told["whole"] and str(beside) in told["problems"][0]
    beside.unlink()
    for wrong in (other, Path(foreign)):
        refused = run("restore", str(backup), str(tmp_path / "r.db"), "--forgotten", str(wrong), code=1)
        assert "another store" in refused["error"]["message"] and "Move it away" not in refused["error"]["message"]
    assert traces(tmp_path, "a secret") == [f"memory.db: {'a secret'!r}"] * 2, "in the two backups alone"
    assert run("restore", str(backup), str(tmp_path / "r.db"), "--forgotten", str(live))["forgotten"] == [secret.id]
    assert traces(tmp_path, "a secret") == [f"memory.db: {'a secret'!r}"] * 2


def test_a_store_that_is_empty_is_backed_up_and_restored(tmp_path: Path) -> None:
    """It has no name yet, and nothing that could come back."""
    SqliteStore(tmp_path / "m.db").close()
    made = run("create", str(tmp_path / "backups"), "--db", str(tmp_path / "m.db"), "--keep", "1")
    assert (made["store"], made["journal"]) == (None, None)
    assert run("journal", str(tmp_path / "backups"), "--db", str(tmp_path / "m.db")) == {
        "journal": None, "store": None, "new": 0}  # fmt: skip
    assert run("verify", made["backup"])["whole"] is True
    assert run("restore", made["backup"], str(tmp_path / "r.db"))["versions"] == 0


def test_two_empty_stores_remove_nothing_of_each_other(tmp_path: Path) -> None:
    made = []
    for name in ("a", "b"):
        SqliteStore(tmp_path / f"{name}.db").close()
        made.append(create(str(tmp_path / f"{name}.db"), tmp_path / "backups", keep=1))
    assert [done.removed for done in made] == [(), ()] and all(done.folder.exists() for done in made)


def test_a_journal_that_was_cut_brings_nothing_back(tmp_path: Path) -> None:
    """Also at the end of a line, where all that is left can be read."""
    live, weekly = tmp_path / "m.db", tmp_path / "weekly"
    with SqliteStore(live) as store:
        insert(store, first := cube("goes first"), second := cube("goes second"), cube("stays"))
        made = run("create", str(tmp_path / "backups"), "--db", str(live))
        for number, one in enumerate((first, second)):
            with store.transaction() as tx:
                tx.forget([one.id])
            if not number:
                older = run("journal", str(weekly), "--db", str(live))["journal"]
    journal = Path(run("journal", str(tmp_path / "backups"), "--db", str(live))["journal"])
    whole = journal.read_bytes()
    lines = whole.splitlines(keepends=True)
    restore_to = ["restore", made["backup"], str(tmp_path / "r.db")]
    for left in (b"".join(lines[:1]), b"".join(lines[:2]), b"".join(lines[:3]), whole[:-1], whole[:-200]):
        journal.write_bytes(left)
        told = run("verify", made["backup"], code=1)
        assert not told["whole"] and "end of this journal is missing" in told["problems"][0]
        for more in ([], ["--forgotten", str(journal)]):
            message = run(*restore_to, *more, code=1)["error"]["message"]
            assert "lamina backup journal" in message and "--forgotten" in message
        assert not (tmp_path / "r.db").exists()
    journal.write_bytes(b"".join(lines[:3]))  # what is left of it counts, where another log is named
    assert set(run(*restore_to, "--forgotten", older)["forgotten"]) == {first.id, second.id}
    assert run("journal", str(tmp_path / "backups"), "--db", str(live))["new"] == 0
    assert journal.read_bytes() == whole and run("verify", made["backup"])["whole"] is True


def test_in_a_folder_of_several_stores_the_right_one_is_restored(tmp_path: Path) -> None:
    """What the page about backups says is done as it stands there."""
    folder, made = tmp_path / "backups", []
    for name in ("mine", "mine", "theirs", "empty"):
        with SqliteStore(tmp_path / f"{name}.db") as store:
            if name != "empty":
                insert(store, cube(f"of {name}"))
        made.append(run("create", str(folder), "--db", str(tmp_path / f"{name}.db")))
    mine, theirs, empty = made[1:]
    name = mine["store"]
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "backup.md").read_text()
    _, block = re.findall(r"^```bash\n(.*?)^```", page, re.M | re.S)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "BACKUPS": str(folder), "LAMINA_DATABASE": str(tmp_path / "new.db")}
    refused = subprocess.run(["bash", "-c", block], env=environment, capture_output=True, text=True)
    assert refused.stderr.count("8 or more") == 2 and not (tmp_path / "new.db").exists(), refused.stderr
    noted_down = f"STORE={name[:16]}\n{block.partition(chr(10))[2]}"
    done = subprocess.run(["bash", "-ec", noted_down], env=environment, capture_output=True, text=True)
    assert mine["backup"] in done.stdout, done.stderr
    with SqliteStore(tmp_path / "new.db") as store:
        assert [event.action for event in store.events()] == ["add", "add"]
    target = tmp_path / "r.db"
    for wrong in (theirs, empty):
        for command in (["verify", wrong["backup"]], ["restore", wrong["backup"], str(target), "--as-it-was"]):
            assert f"not of {name[:16]}" in run(*command, "--store", name, code=1)["error"]["message"]
    for bad in ("", name[:7], name[:8] + "*", f"{name}0", "z" * 8):
        assert "8 or more" in run("verify", mine["backup"], "--store", bad, code=1)["error"]["message"]
    assert not target.exists()
    assert run("verify", mine["backup"], "--store", name[:8])["store"] == name
    assert run("restore", mine["backup"], str(target), "--store", name.upper())["versions"] == 2
    live = ["--db", str(tmp_path / "mine.db")]
    for command in (["create", str(folder), *live], ["journal", str(folder), *live], ["verify", mine["backup"]]):
        assert name in CliRunner().invoke(app, ["backup", *command]).stdout
