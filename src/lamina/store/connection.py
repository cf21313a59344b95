"""Opening the database file: pragmas, the pool of readers, and SQLite's errors as Lamina's.

One writer and any number of readers. In write-ahead-log mode (https://sqlite.org/wal.html) a reader sees
the last commit and is never blocked by the writer. Readers are lent for one statement at a time, so that
none keeps an old snapshot alive: a snapshot would hold back the checkpoint that ``forget`` waits for.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lamina.errors import CorruptStore, InvalidInput, LaminaError, StoreUnavailable

APPLICATION_ID = 0x4C414D41  # "LAMA", in the file header: this database is ours
BUSY_MS = 30_000
PAGE_BYTES = 8192  # five vectors of 384 floats a page; at 4096 a quarter of each page would stay empty
_MAGIC = b"SQLite format 3\0"

_RECOVER = (
    "Nothing was overwritten. Restore a backup, or salvage what is readable into a new file: "
    "sqlite3 {path} .recover | sqlite3 recovered.db"
)
# Primary result codes (https://sqlite.org/rescode.html) to the error raised and what to do about it.
_MEANING: dict[int, tuple[type[LaminaError], str]] = {
    sqlite3.SQLITE_FULL: (StoreUnavailable, "the disk or quota is full. Free space and try again; nothing was written"),
    sqlite3.SQLITE_READONLY: (StoreUnavailable, "it is read-only. Grant write access to the file and its directory"),
    sqlite3.SQLITE_PERM: (StoreUnavailable, "access is denied. Grant access to the file and its directory"),
    sqlite3.SQLITE_AUTH: (StoreUnavailable, "access is denied. Grant access to the file and its directory"),
    sqlite3.SQLITE_BUSY: (StoreUnavailable, "another process kept it locked for too long. Try again, or end it"),
    sqlite3.SQLITE_LOCKED: (StoreUnavailable, "another connection kept it locked. Try again"),
    sqlite3.SQLITE_PROTOCOL: (StoreUnavailable, "its lock files misbehave. Keep it on a local disk, not a network one"),
    sqlite3.SQLITE_CANTOPEN: (StoreUnavailable, "it cannot be opened. Check that the path exists and may be written"),
    sqlite3.SQLITE_IOERR: (StoreUnavailable, "the disk refused to read or write. Check the disk, quota and limits"),
    sqlite3.SQLITE_NOMEM: (StoreUnavailable, "there is not enough memory. Write smaller batches"),
    sqlite3.SQLITE_TOOBIG: (InvalidInput, "a value is larger than SQLite stores (1 GB). Split it"),
    sqlite3.SQLITE_CONSTRAINT: (InvalidInput, "a value breaks a rule of the schema. Nothing was written"),
    sqlite3.SQLITE_NOTADB: (CorruptStore, "it is not an SQLite database, or its header is damaged. " + _RECOVER),
    sqlite3.SQLITE_CORRUPT: (CorruptStore, "the database is damaged. " + _RECOVER),
}


def translate(error: sqlite3.Error, path: str | Path) -> LaminaError:
    """The Lamina error that says what ``error`` means for the file at ``path``, and the remedy."""
    code = getattr(error, "sqlite_errorcode", None)
    if code is None and "closed" in str(error):
        return StoreUnavailable(f"{path}: the store was closed; open it again")
    if code is None:  # raised by the Python module itself
        return InvalidInput(f"{path}: a value has a type that cannot be stored ({error})")
    cls, meaning = _MEANING.get(code & 0xFF, (StoreUnavailable, "SQLite refused"))
    return cls(f"{path}: {meaning.format(path=path)} (SQLite says: {error})")


@contextmanager
def mapped(path: str | Path) -> Iterator[None]:
    """Errors of SQLite inside the block leave it as Lamina's."""
    try:
        yield
    except sqlite3.Error as error:
        raise translate(error, path) from error
    except OverflowError as error:
        raise InvalidInput(f"a number is too large to be stored ({error}); integers have 64 bits") from error
    except UnicodeEncodeError as error:
        raise InvalidInput(
            f"{error.object[error.start]!r} is a lone surrogate, which is not valid Unicode; "
            "decode the text with errors='replace'"
        ) from error


def check_path(path: str | Path) -> Path:
    """A path that a database may live at. Directory and file (for its owner only) are made when missing."""
    if not isinstance(path, str | Path) or not str(path) or "\0" in str(path):
        raise InvalidInput(f"path={path!r}: give the path of the database file, or ':memory:'")
    target = Path(path).expanduser().absolute()
    if target.is_dir():
        raise InvalidInput(f"path={str(path)!r} is a directory: give a file in it, such as {target / 'lamina.db'}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.touch(mode=0o600)
        with target.open("rb") as file:
            start = file.read(len(_MAGIC))
    except OSError as error:
        raise StoreUnavailable(
            f"{target}: {error.strerror or error}. Choose a directory that exists or may be made, with read and "
            "write access"
        ) from error
    if start and start != _MAGIC:
        raise CorruptStore(f"{target}: {_MEANING[sqlite3.SQLITE_NOTADB][1].format(path=target)}")
    return target


def connect(path: Path, *, readonly: bool = False) -> sqlite3.Connection:
    """A connection with the pragmas every connection needs. Statements commit by themselves."""
    connection = sqlite3.connect(path, timeout=BUSY_MS / 1000, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA secure_delete = ON")
    connection.execute(f"PRAGMA cache_size = {-8_000 if readonly else -32_000}")  # KiB
    connection.create_function("casefold", 1, str.casefold, deterministic=True)
    if readonly:
        connection.execute("PRAGMA query_only = ON")
    return connection


def _write_ahead(connection: sqlite3.Connection) -> str:
    """The mode of the journal, which is the write-ahead log from here on. SQLite does not wait for others when it
    changes it, so we do: many may open a new file at once."""
    until = time.monotonic() + BUSY_MS / 1000
    while True:
        try:
            (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
            return str(mode)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                raise
            time.sleep(0.01)


def connect_writer(path: Path, *, durable: bool) -> sqlite3.Connection:
    """The writing connection. A database of another program is refused before anything is changed."""
    connection = connect(path)
    try:
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if application != APPLICATION_ID and tables:
            raise InvalidInput(f"path={str(path)!r} is the database of another program; choose another file")
        if not tables:
            connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
        if _write_ahead(connection) != "wal":
            raise StoreUnavailable(f"{path}: its file system has no shared memory, which SQLite's log needs; move it")
        connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
    except BaseException:
        connection.close()
        raise
    return connection


class Readers:
    """Lends read-only connections; opens as many as threads read at the same moment."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._idle: list[sqlite3.Connection] = []
        self._lock = threading.Lock()
        self._closed = False

    @contextmanager
    def lend(self) -> Iterator[sqlite3.Connection]:
        """A connection for the block. Errors inside it leave as Lamina's."""
        with mapped(self._path):
            connection = self._take()
            try:
                yield connection
            finally:
                self._return(connection)

    @contextmanager
    def snapshot(self) -> Iterator[sqlite3.Connection]:
        """Like ``lend``, with all statements of the block seeing one state."""
        with self.lend() as connection:
            connection.execute("BEGIN")
            try:
                yield connection
            finally:
                connection.execute("ROLLBACK")

    def close(self) -> None:
        with self._lock:
            self._closed = True
            for connection in self._idle:
                connection.close()
            self._idle.clear()

    def _take(self) -> sqlite3.Connection:
        with self._lock:
            if self._closed:
                raise StoreUnavailable(f"{self._path}: the store was closed; open it again")
            if self._idle:
                return self._idle.pop()
        return connect(self._path, readonly=True)

    def _return(self, connection: sqlite3.Connection) -> None:
        with self._lock:
            if not self._closed:
                self._idle.append(connection)
                return
        connection.close()
