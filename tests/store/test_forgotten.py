"""The journal of what was forgotten is true whatever was restored between, and whatever cut it off."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from copies import noted

from contracts.store import ALICE, cube, insert
from lamina.errors import InvalidInput, NotFound, StoreUnavailable
from lamina.kernel.governing import audit
from lamina.store import forgotten
from lamina.store.backup import create
from lamina.store.opening import open_store
from lamina.store.restoring import restore
from lamina.store.sqlite import SqliteStore


def test_the_journal_is_true_across_restores(tmp_path: Path) -> None:
    """Ids return (a summary's follows from its owner); a history that ended with a restore stays in the journal."""
    live, folder = tmp_path / "m.db", tmp_path / "backups"

    def forget(store: SqliteStore, *ids: str) -> None:
        with store.transaction() as tx:
            tx.forget(ids)

    with SqliteStore(live) as store:
        insert(store, cube("summary 1", id="summary"), cube("a", id="a"), cube("b", id="b"))
        forget(store, "summary")
        insert(store, cube("summary 2", id="summary"))  # made anew before the backup
        first = create(str(live), folder)
        forget(store, "a", "summary")
    journal = first.journal
    assert journal and forgotten.keep(str(live), folder) == forgotten.Kept(journal, first.store, 2)
    os.utime(journal, (0, 0))
    assert forgotten.keep(str(live), folder).new == 0
    assert journal.stat().st_mtime > 0, "its age says when it was last looked"
    live.rename(tmp_path / "lost.db")  # the machine is lost, the log goes on from the backup with other rows
    assert set(restore(first.folder, str(live), noted(first)).forgotten) == {"a", "summary"}
    with SqliteStore(live) as store:
        insert(store, cube("summary 3", id="summary"))  # made anew after the restore
        second = create(str(live), folder)
        forget(store, "b")
    assert forgotten.keep(str(live), folder) == forgotten.Kept(journal, first.store, 1), (
        "a restored store is the same store"
    )
    for made, goes, stays in ((second, {"b"}, {"summary"}), (first, {"a", "b", "summary"}, set())):
        target = tmp_path / f"{made.folder.name}.db"
        restored = restore(made.folder, str(target), noted(made))
        assert set(restored.forgotten) == goes
        with SqliteStore(target) as store:
            assert {one.id for one in store.query(ALICE).cubes} == stays


def fill(place: str, number: int = 5) -> str:
    """A store of which everything was forgotten, one by one; its name."""
    with open_store(place) as store:
        for n in range(number):
            insert(store, cube(f"{n}", id=f"id{n}"))
            with store.transaction() as tx:
                tx.forget([f"id{n}"])
        return next(iter(store.events(limit=1))).hash


def test_a_journal_that_was_cut_is_refused_until_it_is_mended(tmp_path: Path) -> None:
    """Anywhere: in a line, at the end of any line, also where an earlier run ended."""
    live, name = str(tmp_path / "m.db"), fill(str(tmp_path / "m.db"))
    kept = forgotten.keep(live, tmp_path)
    assert kept == forgotten.Kept(forgotten.journal_of(tmp_path, name), name, 5) and kept.journal
    with SqliteStore(live) as store:
        insert(store, cube("late", id="late"))
        with store.transaction() as tx:
            tx.forget(["late"])
        *_, end = store.events()
    assert forgotten.keep(live, tmp_path).new == 1
    whole = kept.journal.read_bytes()
    header, *lines, last = whole.splitlines(keepends=True)
    assert json.loads(header) == {"lamina.forgotten": 1, "store": name} and len(lines) == 6
    assert json.loads(last) == {"read_to": {"seq": end.seq, "hash": end.hash}, "requests": 6}
    expected = forgotten.read(live, name)
    assert forgotten.read(str(kept.journal), name) == expected
    for left in range(len(header), len(whole)):
        kept.journal.write_bytes(whole[:left])
        with pytest.raises(InvalidInput, match=r"end of this journal is missing.* lamina backup journal"):
            forgotten.read(str(kept.journal), name)
        there = whole[:left].count(b"\n") - 1
        assert forgotten.read(str(kept.journal), name, cut=True) == expected[:there]
        if left % 9 == 0 or whole[:left].endswith(b"\n"):
            assert forgotten.keep(live, tmp_path).new == 6 - there
            assert kept.journal.read_bytes() == whole
    lost = [header, *lines[:3], *lines[4:], last]
    for wrong in (lost, [header, *lines, last, lines[0]], [header, *lines, last, b"{"], [header, last]):
        kept.journal.write_bytes(b"".join(wrong))
        with pytest.raises(InvalidInput, match="end of this journal is missing"):
            forgotten.read(str(kept.journal), name)
        forgotten.keep(live, tmp_path)
        assert set(forgotten.read(str(kept.journal), name)) == set(expected)
    for word in ('{"seq": 1}', "[]", "{}", "nothing", '{"action": "forget", "cube": 1}', '{"lamina.audit": 1}',
                 '{"read_to": 7, "requests": 0}'):  # fmt: skip
        kept.journal.write_bytes(header + word.encode() + b"\n" + last)
        with pytest.raises(InvalidInput, match="line 2"):
            forgotten.read(str(kept.journal), name)


_KEEPER = """
import resource, signal, sys
from pathlib import Path
from lamina.store import forgotten
signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # it dies in the middle of a write, at this byte
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]),) * 2)
print(1, flush=True)
forgotten.keep(sys.argv[1], Path(sys.argv[2]))
"""


def test_killed_while_it_is_written_the_journal_is_the_one_before(tmp_path: Path) -> None:
    """Absent, or that of the run before, whole or cut as that was; the next run has everything."""
    live, folder = str(tmp_path / "m.db"), tmp_path / "backups"
    name = fill(live, 100)
    journal = forgotten.journal_of(folder, name)
    command = [sys.executable, "-c", _KEEPER, live, str(folder)]
    forgotten.keep(live, folder)
    early = journal.read_bytes()
    fill(live, 200)
    expected = forgotten.read(live, name)
    forgotten.keep(live, folder)
    whole = journal.read_bytes()
    assert len(expected) == 300 and len(whole) > 42_000
    with SqliteStore(live):  # its shared memory is there, and is not what grows too large
        for number, old in enumerate((b"", early, whole[: len(whole) // 3]) * 2):
            journal.write_bytes(old) if old else journal.unlink(missing_ok=True)
            at = 16_000 + 4_999 * number
            child = subprocess.run([*command, str(at)], capture_output=True)
            assert child.returncode == -signal.SIGXFSZ, child.stderr
            assert (journal.read_bytes() if journal.exists() else b"") == old
            if old == early:
                assert forgotten.read(str(journal), name) == expected[:100]
            forgotten.keep(live, folder)
            assert journal.read_bytes() == whole
        for delay in (0, 0.002, 0.004, 0.008):
            for old in (b"", early):
                journal.write_bytes(old) if old else journal.unlink()
                killed = subprocess.Popen([*command, "-1"], stdout=subprocess.PIPE)
                assert killed.stdout is not None
                killed.stdout.readline()
                time.sleep(delay)
                killed.kill()
                killed.wait()
                assert (journal.read_bytes() if journal.exists() else b"") in (old, whole)
                forgotten.keep(live, folder)
                assert journal.read_bytes() == whole
    assert {path.name for path in folder.iterdir()} == {journal.name}


def test_a_full_disk_leaves_the_journal_of_the_run_before(tmp_path: Path) -> None:
    live, folder = str(tmp_path / "m.db"), tmp_path / "backups"
    name = fill(live)
    journal = forgotten.journal_of(folder, name)
    forgotten.keep(live, folder)
    before = journal.read_bytes()
    fill(live, 200)
    code = _KEEPER.replace("SIG_DFL", "SIG_IGN")
    with SqliteStore(live):
        child = subprocess.run([sys.executable, "-c", code, live, str(folder), "9000"], capture_output=True, text=True)
    assert "StoreUnavailable" in child.stderr and journal.read_bytes() == before
    assert {path.name for path in folder.iterdir()} == {journal.name}


def test_several_may_begin_the_journal_at_once(tmp_path: Path) -> None:
    live, folder = str(tmp_path / "m.db"), tmp_path / "backups"
    name = fill(live, 50)
    with ThreadPoolExecutor(8) as threads:
        kept = list(threads.map(lambda _: forgotten.keep(live, folder), range(8)))
    assert sorted(one.new for one in kept) == [0] * 7 + [50]
    assert forgotten.read(str(kept[0].journal), name) == forgotten.read(live, name)
    assert {path.name for path in folder.iterdir()} == {forgotten.journal_of(folder, name).name}


def test_several_may_renew_the_journal_while_it_grows(tmp_path: Path) -> None:
    live, folder = str(tmp_path / "m.db"), tmp_path / "backups"
    name = fill(live)
    with ThreadPoolExecutor(4) as threads:
        kept = [threads.submit(forgotten.keep, live, folder) for _ in range(30) if fill(live, 2)]
    assert sum(one.result().new for one in kept) == 65
    forgotten.keep(live, folder)
    found = forgotten.read(str(forgotten.journal_of(folder, name)), name)
    assert sorted(found, key=lambda one: one.seq) == forgotten.read(live, name)
    assert {path.name for path in folder.iterdir()} == {forgotten.journal_of(folder, name).name}


def test_any_newer_log_of_the_store_will_do(tmp_path: Path) -> None:
    with SqliteStore(tmp_path / "m.db") as store:
        insert(store, cube("a", id="a"), cube("b", id="b"))
        with store.transaction() as tx:
            tx.forget(["a"])
        audit.export(store, tmp_path / "audit.jsonl")
        name = next(iter(store.events(limit=1))).hash
    kept = forgotten.keep(str(tmp_path / "m.db"), tmp_path)
    (expected,) = forgotten.read(str(tmp_path / "m.db"), name)
    assert expected.cube == "a" and expected.action == "forget"
    assert forgotten.read(str(tmp_path / "audit.jsonl"), name) == [expected] == forgotten.read(str(kept.journal), name)
    with pytest.raises(NotFound):
        forgotten.read(str(tmp_path / "nothing"), name)
    whole = (tmp_path / "audit.jsonl").read_text().splitlines(keepends=True)
    for cut in (whole[:-1], whole[:-2], [*whole[:-1], whole[-1][:-1]]):
        (tmp_path / "audit.jsonl").write_text("".join(cut))
        with pytest.raises(InvalidInput, match="end of this export is missing"):
            forgotten.read(str(tmp_path / "audit.jsonl"), name)


def test_what_is_not_of_this_store_is_no_newer_log(place: str, tmp_path: Path) -> None:
    name, other = fill(place), fill(str(tmp_path / "other.db"))
    assert name != other
    foreign = forgotten.keep(str(tmp_path / "other.db"), tmp_path).journal
    mine = forgotten.keep(place, tmp_path).journal
    assert foreign and mine and foreign != mine and len(forgotten.read(str(mine), name)) == 5
    with SqliteStore(tmp_path / "other.db") as store:
        audit.export(store, tmp_path / "audit.jsonl")
    for wrong in (foreign, tmp_path / "other.db", tmp_path / "audit.jsonl"):
        with pytest.raises(InvalidInput, match="is of another store") as refused:
            forgotten.read(str(wrong), name)
        assert "Move it away" not in str(refused.value), "it is another's, and in its place"
    with pytest.raises(InvalidInput, match="is of another store"):
        forgotten.read(place, other)
    with SqliteStore(tmp_path / "empty.db") as store:
        audit.export(store, tmp_path / "none.jsonl")
    (tmp_path / "nothing").touch()
    (tmp_path / "headless").write_bytes(b"".join(mine.read_bytes().splitlines(keepends=True)[1:]))
    (tmp_path / "cut").write_bytes(mine.read_bytes()[:40])
    for silent in ("empty.db", "none.jsonl", "nothing", "headless", "cut"):
        with pytest.raises(InvalidInput, match=r"does not say of which store.* lamina backup journal"):
            forgotten.read(str(tmp_path / silent), name)
    mine.write_bytes(foreign.read_bytes())  # one that was renamed is not written to, nor an empty one
    with pytest.raises(InvalidInput, match=r"is of another store.* Move it away"):
        forgotten.keep(place, tmp_path)
    assert mine.read_bytes() == foreign.read_bytes()
    mine.write_bytes(b"")
    with pytest.raises(InvalidInput, match="does not say"):
        forgotten.keep(place, tmp_path)
    assert mine.read_bytes() == b""


def test_what_is_no_store_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "other.db").touch()
    with closing(sqlite3.connect(tmp_path / "foreign.db")) as connection:
        connection.execute("CREATE TABLE log (seq, hash)")
    for name, error in (("notyet.db", NotFound), ("other.db", InvalidInput), ("foreign.db", InvalidInput)):
        with pytest.raises(error):
            forgotten.keep(str(tmp_path / name), tmp_path / "backups")
    with SqliteStore(tmp_path / "empty.db"):
        assert forgotten.keep(str(tmp_path / "empty.db"), tmp_path / "backups") == forgotten.Kept(None, None, 0)
    assert not (tmp_path / "backups").exists()
    fill(str(tmp_path / "m.db"))
    (tmp_path / "backups").touch()
    with pytest.raises(StoreUnavailable):
        forgotten.keep(str(tmp_path / "m.db"), tmp_path / "backups")
