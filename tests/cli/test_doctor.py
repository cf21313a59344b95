"""``doctor`` tells where each setting comes from, and finds what is wrong."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

Run = Callable[..., Result]
Value = Callable[..., Any]


def _setting(report: dict[str, Any], name: str) -> tuple[str, str]:
    return next((row["value"], row["source"]) for row in report["settings"] if row["name"] == name)


def test_settings_come_with_their_source_and_keys_stay_hidden(
    value: Value, db: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("lamina.toml").write_text('user = "mira"\nllm = "openai:small"\ntenant = "from-file"\n')
    monkeypatch.setenv("LAMINA_TENANT", "acme")
    monkeypatch.setenv("LAMINA_LLM_API_KEY", "sk-very-secret")
    report = value("doctor")
    assert _setting(report, "user") == ("mira", "lamina.toml")
    assert _setting(report, "tenant") == ("acme", "variable LAMINA_TENANT")
    assert _setting(report, "database") == (db, "option")
    assert _setting(report, "durable") == ("True", "default")
    assert "very-secret" not in str(report) and _setting(report, "llm_api_key")[0]


def test_no_database_is_reported_and_none_is_made(value: Value, db: str) -> None:
    report = value("doctor")
    assert report["database"] == {"path": db, "exists": False} and report["problems"] == []
    assert not Path(db).exists()


def test_a_sound_database_is_counted_and_timed(value: Value, lamina: Run) -> None:
    value("add", "I like boats.")
    report = value("doctor")
    assert report["problems"] == [] and report["database"]["bytes"] > 0 and report["database"]["counts"]
    assert report["database"]["timings_ms"]["embed"] > 0 and report["database"]["timings_ms"]["search"] > 0
    assert report["sqlite"] == sqlite3.sqlite_version
    assert all(model["path"] for model in report["models"])
    shown = lamina("doctor")
    assert shown.exit_code == 0 and "Everything is in order." in shown.stdout


def test_a_tampered_log_is_found(value: Value, lamina: Run, db: str) -> None:
    value("add", "I like boats.", "--no-infer")
    with sqlite3.connect(db) as connection:
        triggers = connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall()
        for (name,) in triggers:
            connection.execute(f"DROP TRIGGER {name}")
        connection.execute("UPDATE log SET reason = 'nothing to see here'")
    result = lamina("doctor")
    assert result.exit_code == 1 and "Problem:" in result.stdout
