"""What rows of other tenants say, so that their identical words do not count as traces of what one tenant forgot.

A byte in a shared file has no owner; a row has. So the proof counts: a needle may stand in the database as often as the
live rows of others hold it (in columns, in the indexes over them, and, if they hold it at all, in the full-text index),
and once more is a trace. Texts long enough to be cut by a page border stand there *less* often than that.

How many others hold it is told to nobody: whoever could read "also held by others" would only have to remember a guess
and forget it again to learn what another tenant knows. A proof without traces reads the same in both cases.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

_TENANT = "tenant"


def occurrences(data: bytes, forms: Sequence[bytes], *, after: int = 0) -> int:
    """How often any of ``forms`` stands in lower-cased ``data``, overlapping ones too, ending behind byte ``after``."""
    count = 0
    for form in forms:
        place = data.find(form)
        while place >= 0:
            count += place + len(form) > after
            place = data.find(form, place + 1)
    return count


def held_by_others(path: Path, tenant: str, needles: Sequence[Sequence[bytes]]) -> list[int]:
    """For each needle (its lower-cased forms): how often the SQLite file at ``path`` may hold it on behalf of tenants
    other than ``tenant``."""
    counts = [0] * len(needles)
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as db:
        db.text_factory = bytes
        db.execute("BEGIN")  # one state of all tables
        tables = {name.decode(): _columns(db, name.decode()) for name, in db.execute(
            "SELECT name FROM sqlite_schema WHERE type = 'table' AND sql NOT LIKE 'CREATE VIRTUAL%'"
        )}  # fmt: skip
        for table, columns in tables.items():
            if sql := _of_others(table, columns):
                _count(db.execute(sql, (tenant,)), [_copies(db, table)[name] + 1 for name in columns], needles, counts)
        if any(counts):  # the full-text index does not say whose a word is
            for table in (name for name in tables if name.startswith("texts_")):
                held = [forms if counts[n] else () for n, forms in enumerate(needles)]
                _count(db.execute(f'SELECT * FROM "{table}"'), [1] * len(tables[table]), held, counts)
    return counts


def _columns(db: sqlite3.Connection, table: str) -> list[str]:
    return [row[1].decode() for row in db.execute(f'PRAGMA table_info("{table}")')]


def _of_others(table: str, columns: Sequence[str]) -> str | None:
    """The query for what is in ``table`` of other tenants: by its own column, or by the memory that its key names."""
    if _TENANT in columns:
        return f'SELECT * FROM "{table}" WHERE {_TENANT} <> ?'
    if columns[:1] == ["key"]:
        return f'SELECT t.* FROM "{table}" t JOIN cubes c ON c.key = t.key WHERE c.{_TENANT} <> ?'
    return None


def _copies(db: sqlite3.Connection, table: str) -> Counter[str]:
    """In how many indexes each column stands."""
    names = [row[1].decode() for row in db.execute(f'PRAGMA index_list("{table}")')]
    return Counter(row[2].decode() for name in names for row in db.execute(f'PRAGMA index_info("{name}")') if row[2])


def _count(
    rows: Iterator[Sequence[object]], weights: Sequence[int], needles: Sequence[Sequence[bytes]], counts: list[int]
) -> None:
    for row in rows:
        for value, weight in zip(row, weights, strict=True):
            if isinstance(value, bytes):
                data = value.lower()
                for number, forms in enumerate(needles):
                    counts[number] += weight * occurrences(data, forms)
