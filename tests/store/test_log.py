"""The log cannot be changed unnoticed."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from pathlib import Path

import pytest

from contracts.store import cube, insert
from lamina.errors import InvalidInput
from lamina.store import log
from lamina.store.sqlite import SqliteStore


@pytest.fixture
def raw(tmp_path: Path) -> sqlite3.Connection:
    with SqliteStore(tmp_path / "m.db") as store:
        for n in range(5):
            insert(store, cube(str(n)))
    return sqlite3.connect(tmp_path / "m.db", isolation_level=None)


@pytest.mark.parametrize(
    "statement", ["UPDATE log SET reason = 'x' WHERE seq = 2", "DELETE FROM log", "REPLACE INTO log SELECT * FROM log"]
)
def test_the_database_refuses_changes(raw: sqlite3.Connection, statement: str) -> None:
    before = raw.execute("SELECT * FROM log").fetchall()
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        raw.execute("PRAGMA recursive_triggers = ON")
        raw.execute(statement)
    assert raw.execute("SELECT * FROM log").fetchall() == before


@pytest.mark.parametrize(
    ("statement", "problem"),
    [
        ("UPDATE log SET reason = 'forged' WHERE seq = 3", "row 3 was altered"),
        ("UPDATE log SET at = at + 1 WHERE seq = 5", "row 5 was altered"),
        ("UPDATE log SET actor = action, action = actor WHERE seq = 2", "row 2 was altered"),
        ("UPDATE log SET hash = (SELECT hash FROM log WHERE seq = 1) WHERE seq = 2", "row 2 was altered"),
        ("UPDATE log SET reason = x'00ff' WHERE seq = 3", "row 3 was altered"),
        ("DELETE FROM log WHERE seq = 4", "row 4 is missing"),
        ("DELETE FROM log WHERE seq = 1", "row 1 is missing"),
        (
            "INSERT INTO log SELECT 6, at, actor, action, cube, version, reason, details, hash FROM log WHERE seq = 5",
            "row 6",
        ),
    ],
)
def test_verify_finds_what_was_changed_in_spite_of_that(
    raw: sqlite3.Connection, tmp_path: Path, statement: str, problem: str
) -> None:
    raw.execute("DROP TRIGGER log_no_update")
    raw.execute("DROP TRIGGER log_no_delete")
    with SqliteStore(tmp_path / "m.db") as store:
        assert store.verify() == []
        raw.execute(statement)
        (found,) = store.verify()
    assert problem in found


def test_the_seal_is_what_the_module_says(raw: sqlite3.Connection) -> None:
    previous = "0" * 64
    for row in raw.execute("SELECT * FROM log ORDER BY seq"):
        previous = hashlib.sha256((previous + json.dumps(row[:-1], separators=(",", ":"))).encode()).hexdigest()
        assert row[-1] == previous


def test_details_are_canonical_json() -> None:
    assert log.details_json({"b": 1, "a": [True, None, "ü"]}) == '{"a":[true,null,"\\u00fc"],"b":1}'
    for bad in ({"x": object()}, {"x": float("nan")}, {(1, 2): 3}):
        with pytest.raises(InvalidInput, match="details="):
            log.details_json(bad)  # type: ignore[arg-type]
