"""The schema, as numbered steps. A file remembers which ones it has been through; each runs once.

``PRAGMA user_version`` holds the number of the last step, the table ``migrations`` when each one ran.
A file that exists already is copied beside itself before it is changed; one that a newer Lamina wrote is
refused, because an old program cannot know what the new columns promise.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from lamina.errors import StoreUnavailable
from lamina.store import edges
from lamina.store.connection import APPLICATION_ID

Migration = Callable[[sqlite3.Connection], None]

# One row per version of a memory. Whatever is filtered, joined or ordered by has a column (times are
# microseconds since 1970 in UTC); ``header`` holds the whole header as it was first written. Closing a
# version changes columns only: superseded, superseded_by and valid_to win over the header's JSON, while
# ``ends`` keeps valid_to as it was known before, for questions about the past.
_CUBES = """
CREATE TABLE cubes (
    key INTEGER PRIMARY KEY,
    change INTEGER NOT NULL,
    id TEXT NOT NULL,
    version INTEGER NOT NULL,
    kind TEXT NOT NULL,
    semantic_type TEXT NOT NULL,
    tenant TEXT NOT NULL,
    user_id TEXT,
    agent_id TEXT,
    run_id TEXT,
    state TEXT NOT NULL,
    trust TEXT NOT NULL,
    importance REAL NOT NULL,
    speaker TEXT,
    role TEXT,
    session TEXT,
    ordinal INTEGER,
    created INTEGER NOT NULL,
    recorded INTEGER NOT NULL,
    superseded INTEGER,
    superseded_by TEXT,
    valid_from INTEGER,
    valid_to INTEGER,
    ends INTEGER,
    expires INTEGER,
    subject TEXT,
    slot TEXT,
    text_hash TEXT NOT NULL,
    nbytes INTEGER NOT NULL,
    blob TEXT,
    text TEXT,
    header TEXT NOT NULL,
    UNIQUE (id, version)
)
"""

_REST = (
    "CREATE INDEX cubes_change ON cubes (change)",
    "CREATE INDEX cubes_scope_change ON cubes (tenant, user_id, change)",
    "CREATE INDEX cubes_recorded ON cubes (tenant, user_id, recorded)",
    "CREATE INDEX cubes_subject ON cubes (tenant, user_id, subject, slot, recorded) WHERE subject IS NOT NULL",
    # Which memory was made from which: by lineage, or as a quote of its source.
    """CREATE TABLE parents (
        parent TEXT NOT NULL,
        key INTEGER NOT NULL REFERENCES cubes (key) ON DELETE CASCADE,
        lineage INTEGER NOT NULL,
        PRIMARY KEY (parent, key, lineage)
    ) WITHOUT ROWID""",
    "CREATE INDEX parents_key ON parents (key)",
    "CREATE TABLE vectors (key INTEGER PRIMARY KEY REFERENCES cubes (key) ON DELETE CASCADE, vector BLOB NOT NULL)",
    # Versions that were forgotten: only what an index needs to drop them.
    """CREATE TABLE gone (
        key INTEGER PRIMARY KEY,
        change INTEGER NOT NULL,
        tenant TEXT NOT NULL,
        user_id TEXT,
        agent_id TEXT,
        run_id TEXT
    )""",
    "CREATE INDEX gone_change ON gone (change)",
    "CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
    """CREATE TABLE log (
        seq INTEGER PRIMARY KEY,
        at INTEGER NOT NULL,
        actor TEXT NOT NULL,
        action TEXT NOT NULL,
        cube TEXT NOT NULL,
        version INTEGER NOT NULL,
        reason TEXT NOT NULL,
        details TEXT NOT NULL,
        hash TEXT NOT NULL
    )""",
    "CREATE INDEX log_cube ON log (cube, seq)",
    "CREATE TRIGGER log_no_update BEFORE UPDATE ON log BEGIN SELECT RAISE(ABORT, 'the log is append-only'); END",
    "CREATE TRIGGER log_no_delete BEFORE DELETE ON log BEGIN SELECT RAISE(ABORT, 'the log is append-only'); END",
    """CREATE VIRTUAL TABLE texts USING fts5 (
        text, content = 'cubes', content_rowid = 'key', tokenize = 'porter unicode61 remove_diacritics 2'
    )""",
)


def m001_initial(connection: sqlite3.Connection) -> None:
    """Cubes, vectors, full text, tombstones and the log."""
    connection.execute(_CUBES)
    for statement in _REST:
        connection.execute(statement)


def m002_edges(connection: sqlite3.Connection) -> None:
    """Connections between memories."""
    for statement in edges.SCHEMA:
        connection.execute(statement)


MIGRATIONS: tuple[Migration, ...] = (m001_initial, m002_edges)


def migrate(connection: sqlite3.Connection, path: Path, migrations: Sequence[Migration] = MIGRATIONS) -> None:
    """Bring the file to the newest schema; each step commits by itself, so a crash repeats only its own.

    Raises ``StoreUnavailable`` when the file is newer than this program.
    """
    found = _version(connection)
    if found > len(migrations):
        raise StoreUnavailable(
            f"{path} has schema {found}, but this Lamina knows schemas up to {len(migrations)}: upgrade Lamina"
        )
    if 0 < found < len(migrations):
        back_up(connection, path, found)
    for number in range(found + 1, len(migrations) + 1):
        _step(connection, number, migrations[number - 1])


def backups(path: Path) -> list[Path]:
    """Copies that ``migrate`` left beside ``path``. ``forget`` removes them: they hold what is forgotten."""
    return sorted(path.parent.glob(f"{path.name}.schema*.backup"))


def back_up(connection: sqlite3.Connection, path: Path, version: int) -> Path:
    """A consistent copy of the database at ``PATH.schemaN.backup``; a copy that is there already is kept."""
    target = path.with_name(f"{path.name}.schema{version}.backup")
    if not target.exists():
        unfinished = path.with_name(f"{target.name}.tmp")
        unfinished.unlink(missing_ok=True)
        unfinished.touch(mode=0o600)
        copy = sqlite3.connect(unfinished)
        try:
            connection.backup(copy)
        finally:
            copy.close()
        unfinished.rename(target)
    return target


def _version(connection: sqlite3.Connection) -> int:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return int(version)


def _step(connection: sqlite3.Connection, number: int, migration: Migration) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        if _version(connection) < number:  # another process may have been faster
            connection.execute(
                "CREATE TABLE IF NOT EXISTS migrations (number INTEGER PRIMARY KEY, name TEXT, applied INTEGER)"
            )
            migration(connection)
            name = migration.__name__
            connection.execute("INSERT INTO migrations VALUES (?, ?, ?)", (number, name, time.time_ns() // 1000))
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {number}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
