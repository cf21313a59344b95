"""The journal of what was forgotten is true whatever was restored between, and whatever cut it off."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from contracts.store import ALICE, cube, insert
from lamina.errors import InvalidInput, NotFound
from lamina.kernel.governing import audit
from lamina.store import forgotten
from lamina.store.backup import JOURNAL, create
from lamina.store.restoring import restore
from lamina.store.sqlite import SqliteStore


def test_the_journal_is_true_across_restores(tmp_path: Path) -> None:
    """Ids return (a summary's follows from its owner); a history that ended with a restore stays in the journal."""
    live, folder = tmp_path / "m.db", tmp_path / "backups"
    journal = folder / JOURNAL

    def forget(store: SqliteStore, *ids: str) -> None:
        with store.transaction() as tx:
            tx.forget(ids)

    with SqliteStore(live) as store:
        insert(store, cube("summary 1", id="summary"), cube("a", id="a"), cube("b", id="b"))
        forget(store, "summary")
        insert(store, cube("summary 2", id="summary"))  # made anew before the backup
        first = create(str(live), folder)
        forget(store, "a", "summary")
    assert forgotten.keep(str(live), journal) == 2
    os.utime(journal, (0, 0))
    assert forgotten.keep(str(live), journal) == 0
    assert journal.stat().st_mtime > 0, "its age says when it was last looked"
    live.rename(tmp_path / "lost.db")  # the machine is lost, the log goes on from the backup with other rows
    assert set(restore(first.folder, str(live), forgotten.read(str(journal))).forgotten) == {"a", "summary"}
    with SqliteStore(live) as store:
        insert(store, cube("summary 3", id="summary"))  # made anew after the restore
        second = create(str(live), folder)
        forget(store, "b")
    forgotten.keep(str(live), journal)
    for made, goes, stays in ((second, {"b"}, {"summary"}), (first, {"a", "b", "summary"}, set())):
        target = tmp_path / f"{made.folder.name}.db"
        restored = restore(made.folder, str(target), forgotten.read(str(journal)))
        assert set(restored.forgotten) == goes
        with SqliteStore(target) as store:
            assert {one.id for one in store.query(ALICE).cubes} == stays


def test_a_line_that_a_crash_cut_off_is_written_again(tmp_path: Path) -> None:
    journal = tmp_path / JOURNAL
    with SqliteStore(tmp_path / "m.db") as store:
        for n in range(5):
            insert(store, cube(f"{n}", id=f"id{n}"))
            with store.transaction() as tx:
                tx.forget([f"id{n}"])
    assert forgotten.keep(str(tmp_path / "m.db"), journal) == 5
    whole = journal.read_bytes()
    for cut in (1, 30, 200, len(whole) - 1):
        journal.write_bytes(whole[:-cut])
        forgotten.read(str(journal))
        forgotten.keep(str(tmp_path / "m.db"), journal)
        assert journal.read_bytes() == whole
    journal.write_bytes(b'{"seq": 1}\n')
    with pytest.raises(InvalidInput, match="line 1"):
        forgotten.read(str(journal))


def test_any_newer_log_will_do(tmp_path: Path) -> None:
    with SqliteStore(tmp_path / "m.db") as store:
        insert(store, cube("a", id="a"), cube("b", id="b"))
        with store.transaction() as tx:
            tx.forget(["a"])
        audit.export(store, tmp_path / "audit.jsonl")
        forgotten.keep(str(tmp_path / "m.db"), tmp_path / JOURNAL)
        (expected,) = forgotten.read(str(tmp_path / "m.db"))
    assert expected.cube == "a" and expected.action == "forget"
    assert forgotten.read(str(tmp_path / "audit.jsonl")) == [expected] == forgotten.read(str(tmp_path / JOURNAL))
    with pytest.raises(NotFound):
        forgotten.read(str(tmp_path / "nothing"))
