"""Schema steps: each runs once, all or nothing, on a copied file; newer files are refused."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

import pytest

from contracts.store import ALICE, cube, insert
from lamina.errors import StoreUnavailable
from lamina.store.connection import connect_writer
from lamina.store.migrations import MIGRATIONS, backups, m001_initial, migrate
from lamina.store.sqlite import SqliteStore


def later_colour(connection: sqlite3.Connection) -> None:
    connection.execute("ALTER TABLE cubes ADD COLUMN colour TEXT")
    connection.execute("UPDATE cubes SET colour = 'grey'")


def later_fails(connection: sqlite3.Connection) -> None:
    connection.execute("CREATE TABLE half (x)")
    connection.execute("this is not SQL")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file with two memories."""
    with SqliteStore(tmp_path / "m.db") as store:
        insert(store, cube("one"), cube("two"))
    return tmp_path / "m.db"


def test_a_new_file_gets_every_step_and_no_backup(tmp_path: Path) -> None:
    with SqliteStore(tmp_path / "m.db") as store:
        assert store.stats()["schema"] == len(MIGRATIONS)
    rows = (
        sqlite3.connect(tmp_path / "m.db").execute("SELECT number, name, applied > 1.6e15 FROM migrations").fetchall()
    )
    assert rows == [(n, step.__name__, 1) for n, step in enumerate(MIGRATIONS, 1)]
    assert backups(tmp_path / "m.db") == []


def test_an_older_file_is_copied_and_brought_forward(path: Path) -> None:
    connection = connect_writer(path, durable=True)
    migrate(connection, path, (*MIGRATIONS, later_colour))
    assert connection.execute("SELECT DISTINCT colour FROM cubes").fetchall() == [("grey",)]
    assert connection.execute("SELECT number, name FROM migrations").fetchall() == [
        *enumerate((step.__name__ for step in MIGRATIONS), 1),
        (len(MIGRATIONS) + 1, "later_colour"),
    ]
    connection.close()
    (copy,) = backups(path)
    assert copy.stat().st_mode & 0o077 == 0
    with SqliteStore(copy) as old:
        assert {one.text for one in old.query(ALICE).cubes} == {"one", "two"}
        assert old.verify() == []


def test_a_file_of_the_first_schema_learns_edges(tmp_path: Path) -> None:
    path = tmp_path / "old.db"
    connection = connect_writer(path, durable=True)
    migrate(connection, path, (m001_initial,))
    connection.close()
    with SqliteStore(path) as store:
        assert store.edges(ALICE) == []
        assert store.verify() == []
    assert len(backups(path)) == 1


def test_a_step_runs_once(path: Path) -> None:
    connection = connect_writer(path, durable=True)
    for _ in range(2):
        migrate(connection, path, (*MIGRATIONS, later_colour))
    assert connection.execute("SELECT count(*) FROM migrations").fetchone() == (len(MIGRATIONS) + 1,)
    connection.close()


def test_a_step_that_fails_leaves_nothing_behind(path: Path) -> None:
    connection = connect_writer(path, durable=True)
    with pytest.raises(sqlite3.OperationalError, match="syntax"):
        migrate(connection, path, (*MIGRATIONS, later_colour, later_fails))
    assert connection.execute("SELECT name FROM sqlite_master WHERE name = 'half'").fetchall() == []
    assert connection.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS) + 1,)  # the step before it stays
    connection.close()


def test_a_newer_file_is_refused_and_untouched(path: Path) -> None:
    raw = sqlite3.connect(path, isolation_level=None)
    newer = len(MIGRATIONS) + 1
    raw.execute(f"PRAGMA user_version = {newer}")
    raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    before = path.read_bytes()
    with pytest.raises(
        StoreUnavailable, match=rf"m\.db has schema {newer}, but this Lamina knows schemas up to {newer - 1}: up"
    ):
        SqliteStore(path)
    assert path.read_bytes() == before
    raw.close()


def test_many_open_a_new_file_at_once(tmp_path: Path) -> None:
    failed: list[BaseException] = []
    start = threading.Barrier(8)

    def work(number: int) -> None:
        try:
            start.wait()
            with SqliteStore(tmp_path / "m.db") as store:
                insert(store, cube(str(number)))
        except BaseException as error:  # noqa: BLE001 - reported below
            failed.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    with SqliteStore(tmp_path / "m.db") as store:
        assert len(store.query(ALICE).cubes) == 8
        assert store.verify() == []
