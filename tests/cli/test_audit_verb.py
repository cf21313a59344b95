"""``lamina audit``: a whole log is proved, a forged one is not, and the export stands by itself."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

from typer.testing import Result

Run = Callable[..., Result]
Value = Callable[..., Any]


def test_a_whole_log_is_proved_and_its_head_grows(lamina: Run, value: Value) -> None:
    value("add", "I live in Porto.")
    first = value("audit", "head")
    value("add", "I work at Acme.")
    second = value("audit", "head")
    assert first["rows"] < second["rows"] and first["head"] != second["head"]
    for kept in (first, second):
        assert value("audit", "verify", "--head", kept["head"]) == {"whole": True, "problems": []}
    assert lamina("audit", "head").stdout.strip() == second["head"]
    assert "The log is whole" in lamina("audit", "verify").stdout


def test_an_altered_log_is_not(lamina: Run, value: Value, db: str) -> None:
    value("add", "I live in Porto.")
    value("add", "I work at Acme.")
    kept = value("audit", "head")["head"]
    with sqlite3.connect(db) as raw:
        (table,) = next(
            iter(raw.execute("SELECT name FROM sqlite_master WHERE type='table' AND name IN ('log', 'events')"))
        )
        for (trigger,) in raw.execute(f"SELECT name FROM sqlite_master WHERE type='trigger' AND tbl_name='{table}'"):
            raw.execute(f"DROP TRIGGER {trigger}")
        raw.execute(f"UPDATE {table} SET reason = 'somebody else' WHERE seq = 2")
    raw.close()
    for more in ((), ("--head", kept)):
        result = lamina("audit", "verify", "--json", *more)
        assert result.exit_code == 1 and json.loads(result.stdout)["problems"]


def test_an_export_is_proved_without_the_database(lamina: Run, value: Value, tmp_path: Path) -> None:
    value("add", "I live in Porto.")
    file = tmp_path / "log.jsonl"
    told = value("audit", "export", str(file))
    assert "Porto" not in file.read_text() and told["head"] == value("audit", "head")["head"]
    assert lamina("audit", "export", str(file)).exit_code == 1, "evidence is not overwritten"
    assert value("audit", "verify", str(file), "--head", told["head"], db=None)["whole"]
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join([*lines[:-2], lines[-1]]))
    result = lamina("audit", "verify", str(file), db=None)
    assert result.exit_code == 1 and "export" in result.stdout
    assert lamina("audit", "verify", "--head", "nonsense").exit_code == 1
