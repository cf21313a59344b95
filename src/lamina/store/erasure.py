"""Erasing for good: after ``forget`` no byte of the erased memories is left in any file of the store.

Deleting rows is not enough. Three kinds of traces stay behind and go in this order:

1. The full-text index keeps deleted terms in old segments until they are merged: ``optimize``, in the
   same transaction as the deletion.
2. ``PRAGMA secure_delete`` zeroes deleted cells, but when b-tree pages split or merge, SQLite leaves
   stale copies of moved cells in unallocated space, where a later deletion does not reach them (about
   one row in a thousand, measured). ``VACUUM`` rebuilds every page from live rows only. Its cost grows
   with the file, not with what is forgotten: forget many memories in one transaction.
3. The write-ahead log holds old pages: a TRUNCATE checkpoint empties it. It has to wait while any
   connection, of this or another process, still reads an older state.

What is still to do is written in the file (``meta.erasing``) in the transaction that deletes, so a crash
or a long reader only postpones it: every later transaction, opening and closing continues. Until then
``verify`` says so. Copies that migrations made, saved indexes, and blobs no row names, go as well.
"""

from __future__ import annotations

import logging
import shutil
import sqlite3
from pathlib import Path

from lamina.store.blobs import BlobStore
from lamina.store.connection import BUSY_MS
from lamina.store.migrations import backups
from lamina.store.snapshot import index_folder

_NAME = "erasing"
_REBUILD, _CHECKPOINT = "rebuild", "checkpoint"
_CHECKPOINT_MS = 1_000  # how long to wait for readers of an older state

logger = logging.getLogger("lamina.store")


def begin(connection: sqlite3.Connection) -> None:
    """Inside the deleting transaction: merge the full-text index and note that traces are to be removed."""
    connection.execute("INSERT INTO texts (texts) VALUES ('optimize')")
    _note(connection, _REBUILD)


def pending(connection: sqlite3.Connection) -> str | None:
    """The step that is still to do, or ``None``."""
    row = connection.execute("SELECT value FROM meta WHERE name = ?", (_NAME,)).fetchone()
    return None if row is None else row[0]


def finish(connection: sqlite3.Connection, path: Path, blobs: BlobStore) -> bool:
    """Do what is pending, outside any transaction; whether all traces are gone.

    A full disk or a lock leaves the rest for later: the memories themselves are deleted already.
    """
    try:
        step = pending(connection)
        if step == _REBUILD:
            connection.execute("VACUUM")
            _remove_files(connection, path, blobs)
            _note(connection, _CHECKPOINT)
        done = step is None or _truncate(connection)
        if step is not None and done:
            connection.execute("DELETE FROM meta WHERE name = ?", (_NAME,))
    except (sqlite3.OperationalError, OSError) as error:
        logger.warning("%s: traces of forgotten memories remain and will be removed later: %s", path, error)
        return False
    if not done:
        logger.warning("%s: the log still holds forgotten memories while another connection reads", path)
    return done


def _note(connection: sqlite3.Connection, step: str) -> None:
    connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (_NAME, step))


def _remove_files(connection: sqlite3.Connection, path: Path, blobs: BlobStore) -> None:
    """Under the write lock, so that no blob of a transaction about to commit is taken for garbage."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        blobs.collect({row[0] for row in connection.execute("SELECT blob FROM cubes WHERE blob IS NOT NULL")}, grace=0)
        for copy in backups(path):
            copy.unlink(missing_ok=True)
        saved = index_folder(path)
        if saved.is_symlink() or saved.is_file():
            saved.unlink()
        shutil.rmtree(saved, ignore_errors=True)
    finally:
        connection.execute("ROLLBACK")


def _truncate(connection: sqlite3.Connection) -> bool:
    connection.execute(f"PRAGMA busy_timeout = {_CHECKPOINT_MS}")
    try:
        busy, _, _ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    finally:
        connection.execute(f"PRAGMA busy_timeout = {BUSY_MS}")
    return not busy
