"""A copy of a whole store as one file of SQLite and a folder of tensors, as of one moment, while others go on writing.

Of a file: ``VACUUM INTO`` (https://sqlite.org/lang_vacuum.html#vacuuminto) reads one snapshot and writes live rows
only, so that traces which ``lamina.store.erasure`` has still to remove are not copied either. Tensors are files of
their own; one that goes while they are copied was forgotten after the snapshot, and everything is begun again.

Of a PostgreSQL server: one REPEATABLE READ transaction, from which rows go over as they are (the way back is
``lamina.store.moving``). So a backup of either can be restored into either. Whose a row of the log is, which a file
does not note, goes into the table ``log_tenants``.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lamina.errors import CorruptStore, InvalidInput, NotFound, StoreUnavailable
from lamina.store.blobs import Blobs, BlobStore
from lamina.store.connection import APPLICATION_ID, connect, mapped
from lamina.store.sqlite import SqliteStore

if TYPE_CHECKING:
    from lamina.store.postgres import PostgresStore

_ATTEMPTS = 5
_BATCH = 1000
_BLOBS = "SELECT DISTINCT blob FROM cubes WHERE blob IS NOT NULL"
_META = "SELECT name, value FROM meta WHERE name IN ('embedder', 'dimension')"
_NAMED = "SELECT 1 FROM cubes WHERE blob = ? LIMIT 1"


def tensors_of(path: Path) -> BlobStore:
    """The tensors of the file at ``path``."""
    return BlobStore(path.with_name(f"{path.name}.blobs"))


def copy_file(source: Path, target: Path) -> None:
    """Copy the store at ``source`` to ``target``, a path where nothing is yet; neither is opened for writing memories.

    Raises ``NotFound``, ``InvalidInput`` (another program's), ``CorruptStore``, ``StoreUnavailable`` (full disk; or
    memories were forgotten faster than they could be copied).
    """
    if not source.is_file():
        raise NotFound(f"{source}: there is no such database to copy")
    for _ in range(_ATTEMPTS):
        _snapshot(source, target)
        if _copy_tensors(source, target):
            return
        target.unlink()
    raise StoreUnavailable(f"{source}: tensors went while they were copied, {_ATTEMPTS} times; try again later")


def _snapshot(source: Path, target: Path) -> None:
    with mapped(source), closing(connect(source)) as connection:
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        if application != APPLICATION_ID:
            raise InvalidInput(f"{source} holds no memories of Lamina; give its database")
        target.touch(mode=0o600)
        connection.execute("VACUUM INTO ?", (str(target),))
    with mapped(target), closing(connect(target)) as connection:  # the copy is clean: nothing is left to be erased
        connection.execute("DELETE FROM meta WHERE name = 'erasing'")


def _copy_tensors(source: Path, target: Path) -> bool:
    """False if one was forgotten meanwhile."""
    old, new = tensors_of(source), tensors_of(target)
    with mapped(target), closing(connect(target, readonly=True)) as connection:
        addresses = [row[0] for row in connection.execute(_BLOBS)]
    for address in addresses:
        try:
            new.write(old.read(address))
        except CorruptStore:
            with mapped(source), closing(connect(source, readonly=True)) as connection:
                if connection.execute(_NAMED, (address,)).fetchone():
                    raise
            return False
    return True


def copy_server(source: PostgresStore, target: Path) -> None:
    """Copy everything in ``source`` (opened for all tenants) to the file ``target``, where nothing is yet."""
    from lamina.store.moving import LOG_TENANTS, TABLES
    from lamina.store.postgresql import vectors
    from lamina.store.postgresql.blobs import PgBlobs

    SqliteStore(target).close()
    with source.whole() as db, mapped(target), closing(connect(target)) as to:
        to.execute("BEGIN IMMEDIATE")
        to.execute(f"CREATE TABLE {LOG_TENANTS} (seq INTEGER PRIMARY KEY, tenant TEXT NOT NULL)")
        _fill(to, "meta", "name, value", db.stream(_META))
        for table, (columns, _) in TABLES.items():
            _fill(to, table, columns, db.stream(f"SELECT {columns} FROM {table}"))
        packed = db.stream("SELECT key, vector_send(vector) FROM vectors")
        _fill(to, "vectors", "key, vector", ((key, vectors.repacked(data)) for key, data in packed))
        _fill(to, LOG_TENANTS, "seq, tenant", db.stream("SELECT seq, tenant FROM log"))
        to.execute("INSERT INTO texts (texts) VALUES ('rebuild')")
        _write_tensors([row[0] for row in db.execute(_BLOBS).fetchall()], PgBlobs(db), tensors_of(target))
        to.execute("COMMIT")


def _fill(to: sqlite3.Connection, table: str, columns: str, rows: Iterator[Any]) -> None:
    sql = f"INSERT INTO {table} ({columns}) VALUES ({', '.join('?' for _ in columns.split(','))})"
    while batch := list(islice(rows, _BATCH)):
        to.executemany(sql, batch)


def _write_tensors(addresses: Iterable[str], source: Blobs, target: BlobStore) -> None:
    for address in addresses:
        target.write(source.read(address))
