"""Which store an address means: a file is SQLite's, ``postgresql://...`` a server's."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lamina._optional import require
from lamina.store.address import is_server
from lamina.store.sqlite import SqliteStore

if TYPE_CHECKING:
    from lamina.store.postgres import PostgresStore


def open_store(
    place: str | Path, *, tenant: str | None = None, embedder: str | None = None, durable: bool = True
) -> SqliteStore | PostgresStore:
    """The store at a path, or at the address of a PostgreSQL database, which is then opened as ``tenant``.

    Raises what the stores raise, and ``MissingDependency`` where psycopg is not installed.
    """
    if not is_server(place):
        return SqliteStore(place, durable=durable, embedder=embedder)
    for package in ("psycopg", "psycopg_pool"):
        require(package, "the PostgreSQL store")
    from lamina.store.postgres import PostgresStore

    return PostgresStore(str(place), tenant=tenant, embedder=embedder, durable=durable)
