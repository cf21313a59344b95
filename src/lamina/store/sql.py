"""The SQL that SQLite and PostgreSQL share, and what a connection must offer to run it.

Both speak enough of one language that memories, versions and edges are written once. The dialect is SQLite's, of
which PostgreSQL needs three words translated (``lamina.store.postgresql.dialect``): ``?`` for a value, ``IS ?`` for
"equal, or both null", and ``SELECT value FROM json_each(?)`` for the texts of a JSON list.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol


class Cursor(Protocol):
    """What a statement gave."""

    @property
    def rowcount(self) -> int: ...

    def fetchone(self) -> Any: ...

    def fetchmany(self, size: int = ..., /) -> list[Any]: ...

    def fetchall(self) -> list[Any]: ...

    def __iter__(self) -> Iterator[Any]: ...


class Connection(Protocol):
    """A connection of either database, in the shared dialect."""

    def execute(self, sql: str, parameters: Sequence[Any] = ..., /) -> Cursor: ...

    def executemany(self, sql: str, rows: Sequence[Sequence[Any]], /) -> Any: ...
