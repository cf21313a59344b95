"""Turns: work that one process at a time does, by PostgreSQL's advisory locks.

A lock is named by a number and belongs to a session: it ends when it is given back, or when the process that took it
dies. All of a process's are taken on one connection of its own, so that who works for minutes keeps none from those
that ask; and as a session is given the same lock twice, the process itself keeps its threads apart. A session is what a
pooler in transaction mode does not keep: between it and the server, two processes may do the same work.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psycopg
from psycopg.rows import TupleRow

from lamina.store.postgresql.connection import mapped

_PAUSE = 0.1
_KEY = "hashtextextended('lamina ' || %s, 0)"


class Turns:
    """The turns of one process at the database of ``url``. Thread-safe."""

    def __init__(self, url: str, place: str) -> None:
        self._url, self._place = url, place
        self._lock = threading.Lock()
        self._mine: set[str] = set()
        self._connection: psycopg.Connection[TupleRow] | None = None

    @contextmanager
    def taken(self, name: str, *, wait: bool) -> Iterator[bool]:
        """Whether the turn of ``name`` is ours until the end of the block; with ``wait`` it is, sooner or later. Raises
        ``StoreUnavailable``."""
        while (session := self._take(name)) is None and wait:
            time.sleep(_PAUSE)
        try:
            yield session is not None
        finally:
            if session is not None:
                self._give_back(name, session)

    def close(self) -> None:
        with self._lock:
            if self._connection is not None:
                self._connection.close()

    def _take(self, name: str) -> psycopg.Connection[TupleRow] | None:
        with self._lock, mapped(self._place):
            if name in self._mine:
                return None
            if self._connection is None or self._connection.closed:
                self._connection = psycopg.connect(self._url, autocommit=True, connect_timeout=10)
            row = self._connection.execute(f"SELECT pg_try_advisory_lock({_KEY})", (name,)).fetchone()
            if row is None or not row[0]:
                return None
            self._mine.add(name)
            return self._connection

    def _give_back(self, name: str, session: psycopg.Connection[TupleRow]) -> None:
        with self._lock:
            self._mine.discard(name)
            with suppress(psycopg.Error):  # the session has ended, and the lock with it
                session.execute(f"SELECT pg_advisory_unlock({_KEY})", (name,))
