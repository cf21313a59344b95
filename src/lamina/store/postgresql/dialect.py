"""A psycopg connection that understands the SQL both databases share (``lamina.store.sql``)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

import psycopg
from psycopg.pq import TransactionStatus
from psycopg.rows import TupleRow

_TEXTS = "SELECT jsonb_array_elements_text(?::jsonb)"
# C: texts compare by code point, as in SQLite, whatever the database's language.
_WORDS = (
    ("SELECT value FROM json_each(?)", f'{_TEXTS} COLLATE "C"'),
    ("SELECT CAST(value AS BIGINT) FROM json_each(?)", f"{_TEXTS}::bigint"),
    (" IS ?", " IS NOT DISTINCT FROM ?"),
)


@lru_cache(maxsize=4096)
def translate(sql: str) -> bytes:
    """The shared dialect as psycopg takes it; no statement here holds a question mark that is no placeholder."""
    for ours, theirs in _WORDS:
        sql = sql.replace(ours, theirs)
    return sql.replace("%", "%%").replace("?", "%s").encode()


class PgConnection:
    """Runs shared SQL; results come in binary."""

    def __init__(self, connection: psycopg.Connection[TupleRow]) -> None:
        self.raw = connection

    @property
    def in_transaction(self) -> bool:
        """Between BEGIN and its end, also when it has failed."""
        return not self.raw.closed and self.raw.info.transaction_status != TransactionStatus.IDLE

    def execute(self, sql: str, parameters: Sequence[Any] = (), /) -> psycopg.Cursor[TupleRow]:
        # Not prepared: a plan made for any scope and any change would read whole tables for the newest two rows.
        return self.raw.execute(translate(sql), parameters, binary=True, prepare=False)

    def executemany(self, sql: str, rows: Sequence[Sequence[Any]], /) -> None:
        if not rows:
            return
        with self.raw.cursor() as cursor:
            cursor.executemany(translate(sql), rows)

    def stream(self, sql: str) -> Iterator[Any]:
        """Rows one by one, however many: nothing else runs on the connection meanwhile."""
        with self.raw.cursor(binary=True) as cursor:
            yield from cursor.stream(translate(sql))
