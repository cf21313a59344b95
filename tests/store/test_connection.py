"""Whatever is wrong with the file, one Lamina error says so, names the path and the remedy, and nothing is lost."""

from __future__ import annotations

import os
import resource
import sqlite3
import subprocess
import sys
import tempfile
import textwrap
import threading
from pathlib import Path

import pytest

from contracts.store import ALICE, cube, insert, unit
from lamina.errors import CorruptStore, InvalidInput, LaminaError, StoreUnavailable
from lamina.store import connection
from lamina.store.base import Write
from lamina.store.sqlite import SqliteStore


def filled(path: Path, count: int = 200) -> None:
    with SqliteStore(path) as store, store.transaction() as tx:
        tx.insert([Write(cube(f"memory {n} " + "text " * 40), unit(n)) for n in range(count)])


# -- paths --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["", "a\0b", None, 7])
def test_a_path_that_is_none(path: object) -> None:
    with pytest.raises(InvalidInput, match="path="):
        SqliteStore(path)  # type: ignore[arg-type]


def test_a_directory(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"is a directory.*lamina\.db"):
        SqliteStore(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_missing_directories_are_made(tmp_path: Path) -> None:
    with SqliteStore(tmp_path / "a" / "b" / "m.db") as store:
        insert(store, cube())
    assert (tmp_path / "a" / "b" / "m.db").stat().st_size


@pytest.mark.parametrize("path", ["/proc/lamina/m.db", "/proc/m.db", "/dev/null/m.db"])
def test_a_place_where_nothing_can_be_made(path: str) -> None:
    with pytest.raises(StoreUnavailable, match=r"(?s)/m\.db.*Choose a directory"):
        SqliteStore(path)


def test_memory_is_a_file_that_goes_with_the_store() -> None:
    with SqliteStore(":memory:") as store:
        insert(store, one := cube())
        path = store.path
        threads_saw: list[object] = []
        thread = threading.Thread(target=lambda: threads_saw.append(store.get(one.id)))
        thread.start()
        thread.join()
        assert threads_saw == [one]
        with SqliteStore(":memory:") as other:
            assert other.get(one.id) is None
    assert not path.parent.exists()


def test_only_the_owner_can_read_the_files(tmp_path: Path) -> None:
    with SqliteStore(tmp_path / "m.db") as store:
        insert(store, cube())
        assert {path.stat().st_mode & 0o077 for path in tmp_path.iterdir()} == {0}


@pytest.mark.parametrize(("durable", "synchronous"), [(True, 2), (False, 1)])
def test_the_promises_of_the_connection(tmp_path: Path, durable: bool, synchronous: int) -> None:
    with SqliteStore(tmp_path / "m.db", durable=durable) as store:
        expected = {
            "journal_mode": "wal", "synchronous": synchronous, "secure_delete": 1, "foreign_keys": 1,
            "busy_timeout": 30_000,
        }  # fmt: skip
        assert {name: store._writer.execute(f"PRAGMA {name}").fetchone()[0] for name in expected} == expected
        with store._readers.lend() as reader, pytest.raises(sqlite3.OperationalError, match="readonly"):
            reader.execute("DELETE FROM cubes")


# -- what is in the file ------------------------------------------------------------------------------


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("my notes, which must survive\n" * 500)
    before = path.read_bytes()
    with pytest.raises(CorruptStore, match=r"notes\.txt: it is not an SQLite database.*Restore a backup.*\.recover"):
        SqliteStore(path)
    assert path.read_bytes() == before
    assert [one.name for one in tmp_path.iterdir()] == ["notes.txt"]


def test_another_programs_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "browser.db"
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE history (url)")
    other.commit()
    other.close()
    before = path.read_bytes()
    with pytest.raises(InvalidInput, match="database of another program"):
        SqliteStore(path)
    assert path.read_bytes() == before


def test_an_empty_file_becomes_a_store(tmp_path: Path) -> None:
    (tmp_path / "m.db").touch()
    with SqliteStore(tmp_path / "m.db") as store:
        assert store.verify() == []


@pytest.mark.parametrize("damage", ["header", "schema", "middle", "truncated"])
def test_a_damaged_database_is_reported_and_never_overwritten(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "m.db"
    filled(path)
    data = bytearray(path.read_bytes())
    size = len(data)
    assert size > 20 * connection.PAGE_BYTES
    if damage == "header":
        data[:16] = b"X" * 16
    elif damage == "schema":
        data[100:4000] = os.urandom(3900)
    elif damage == "middle":
        data[size // 4 : size // 4 * 3] = b"\xa5" * (size // 4 * 3 - size // 4)
    else:
        del data[size // 2 :]
    path.write_bytes(data)
    with pytest.raises(CorruptStore, match=r"Nothing was overwritten.*\.recover") as caught, SqliteStore(path) as store:
        assert store.verify(), "verify sees what reading may not"
        store.query(ALICE, limit=1000)
        list(store.changes(ALICE))
        insert(store, cube())
    assert str(path) in str(caught.value)
    assert path.read_bytes() == data


def test_verify_finds_a_text_that_was_changed_behind_the_stores_back(tmp_path: Path) -> None:
    filled(tmp_path / "m.db", 3)
    raw = sqlite3.connect(tmp_path / "m.db", isolation_level=None)
    raw.execute("UPDATE cubes SET text = 'lies' WHERE key = 2")
    with SqliteStore(tmp_path / "m.db") as store:
        problems = store.verify()
    assert any("text of row 2 was altered" in problem for problem in problems)
    assert any(problem.startswith("full text:") for problem in problems)
    raw.close()


@pytest.mark.parametrize(
    ("statement", "found"),
    [
        ("DELETE FROM cubes WHERE key = 2", "database: vectors row 2 points nowhere"),
        ("UPDATE vectors SET vector = x'00' WHERE key = 1", "vectors: row 1 has a wrong length"),
        ("UPDATE cubes SET version = 5 WHERE key = 3", None),
        ("UPDATE cubes SET id = (SELECT id FROM cubes WHERE key = 1), version = 9 WHERE key = 2", "2 open versions"),
        ("UPDATE cubes SET id = (SELECT id FROM cubes WHERE key = 1), version = 9 WHERE key = 2", "lacks versions"),
        ("INSERT INTO texts (texts, rowid, text) VALUES ('delete', 1, 'memory')", "full text:"),
    ],
)
def test_verify_finds(tmp_path: Path, statement: str, found: str | None) -> None:
    filled(tmp_path / "m.db", 3)
    raw = sqlite3.connect(tmp_path / "m.db", isolation_level=None)
    raw.execute(statement)
    raw.close()
    with SqliteStore(tmp_path / "m.db") as store:
        problems = store.verify()
    assert (found is None and problems == []) or any(found and found in problem for problem in problems), problems


# -- locks, rights, space -----------------------------------------------------------------------------


def test_a_locked_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with SqliteStore(tmp_path / "m.db") as first:
        insert(first, one := cube())
        monkeypatch.setattr(connection, "BUSY_MS", 20)
        with SqliteStore(tmp_path / "m.db") as second:
            with first.transaction():
                with pytest.raises(StoreUnavailable, match=r"m\.db: another process kept it locked.*Try again"):
                    insert(second, cube())
                assert second.get(one.id) == one  # reading goes on
            insert(second, cube())
        assert len(first.query(ALICE).cubes) == 2


def test_a_full_database_keeps_what_it_has_and_goes_on_when_there_is_room(tmp_path: Path) -> None:
    with SqliteStore(tmp_path / "m.db") as store:
        insert(store, kept := cube("kept"))
        pages = store._writer.execute("PRAGMA page_count").fetchone()[0]
        store._writer.execute(f"PRAGMA max_page_count = {pages + 3}")
        with pytest.raises(StoreUnavailable, match=r"m\.db: the disk or quota is full. Free space"):
            insert(store, *[cube("x" * 5000) for _ in range(50)])
        assert store.query(ALICE).cubes == [kept]
        assert store.verify() == []
        store._writer.execute("PRAGMA max_page_count = 1000000")
        insert(store, cube("there is room again"))
        assert len(store.query(ALICE).cubes) == 2
        assert store.verify() == []


def test_after_a_failed_write_the_transaction_stores_nothing_more(tmp_path: Path) -> None:
    """SQLite may roll back by itself on a full disk: later writes of the block must not commit alone."""
    with SqliteStore(tmp_path / "m.db") as store:
        insert(store, kept := cube("kept"))
        pages = store._writer.execute("PRAGMA page_count").fetchone()[0]
        store._writer.execute(f"PRAGMA max_page_count = {pages + 3}")
        with pytest.raises(StoreUnavailable, match="nothing was stored"), store.transaction() as tx:
            tx.insert([Write(cube("before"))])
            with pytest.raises(StoreUnavailable, match="full"):
                tx.insert([Write(cube("x" * 5000)) for _ in range(50)])
            with pytest.raises(InvalidInput, match="has ended"):
                tx.insert([Write(cube("after"))])
        assert store.query(ALICE).cubes == [kept]
        assert store.verify() == []


CHILD = textwrap.dedent(
    """
    import sys
    sys.path[:0] = {paths!r}
    from contracts.store import ALICE, cube, insert
    from lamina.errors import LaminaError
    from lamina.store.sqlite import SqliteStore
    import os, resource, signal
    {body}
    """
)


def child(body: str, *arguments: object) -> list[str]:
    """Lines printed by a fresh interpreter that may give up rights or space for good."""
    program = CHILD.format(paths=[str(Path(__file__).parents[1])], body=body)
    run = subprocess.run([sys.executable, "-c", program, *map(str, arguments)], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return run.stdout.splitlines()


def test_a_process_at_its_file_size_limit(tmp_path: Path) -> None:
    path = tmp_path / "m.db"
    with SqliteStore(path) as store:
        insert(store, cube("kept"))
        size = path.stat().st_size
    lines = child(
        """
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
store = SqliteStore(sys.argv[1])
done = 0
try:
    while True:
        insert(store, cube(f"written {done} " + "x" * 3000)); done += 1
except LaminaError as error:
    print(error.code)
    print(done)
    print(len(store.query(ALICE, limit=1000).cubes))
    print(store.verify())
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
insert(store, cube("room again"))
store.close()
""",
        path,
        size + 1_000_000,
    )
    code, done, seen, problems = lines
    assert code == "STORE_UNAVAILABLE"
    assert int(seen) == int(done) + 1 > 5
    assert problems == "[]"
    with SqliteStore(path) as store:
        assert len(store.query(ALICE, limit=1000).cubes) == int(done) + 2
        assert store.verify() == []
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[1] == resource.RLIM_INFINITY


def test_a_store_that_may_only_be_read() -> None:
    """A process without rights (root gives its own up) cannot open it, and changes nothing."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = folder / "m.db"
        filled(path, 3)
        before = path.read_bytes()
        path.chmod(0o444)
        folder.chmod(0o555)
        lines = child(
            """
if os.geteuid() == 0:
    os.setgid(65534); os.setuid(65534)
for path in sys.argv[1:]:
    try:
        store = SqliteStore(path)
        insert(store, cube())
        print("written")
    except LaminaError as error:
        print(error.code, error)
""",
            path,
            folder / "new.db",
        )
        folder.chmod(0o755)
        assert len(lines) == 2
        for line, name in zip(lines, ("m.db", "new.db"), strict=True):
            assert line.startswith("STORE_UNAVAILABLE")
            assert f"{folder / name}: Permission denied. Choose a directory" in line
        assert path.read_bytes() == before


@pytest.mark.parametrize("code", [name for name in dir(sqlite3) if name.startswith("SQLITE_IOERR")] + ["SQLITE_PERM"])
def test_every_error_of_the_disk_has_a_meaning(code: str) -> None:
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = getattr(sqlite3, code)
    translated = connection.translate(error, "/data/m.db")
    assert isinstance(translated, StoreUnavailable)
    assert "/data/m.db" in str(translated)


def test_an_unknown_error_is_still_ours() -> None:
    error = sqlite3.OperationalError("a new kind of trouble")
    error.sqlite_errorcode = 200
    assert isinstance(connection.translate(error, "m.db"), LaminaError)
    assert "a new kind of trouble" in str(connection.translate(error, "m.db"))
