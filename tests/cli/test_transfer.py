"""``import`` and ``export`` on real files: nothing lost, nothing twice, nothing by halves."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

Run = Callable[..., Result]
Value = Callable[..., Any]

CHAT = [
    {"role": "user", "name": "Mira", "content": "I live in Lisbon.", "timestamp": "2025-01-12T17:40:00Z"},
    {"role": "assistant", "content": "Nice.", "timestamp": "2025-01-12T17:41:00Z"},
    {"role": "user", "name": "Mira", "content": "I moved to Porto.", "timestamp": "2025-03-29T10:00:00Z"},
]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "chat.json"
    path.write_text(json.dumps(CHAT))
    return path


def _state(value: Value, **options: Any) -> list[Any]:
    rows = value("list", "-n", "1000", **options)["results"]
    return sorted(map(json.dumps, rows))


def test_a_chat_log_is_remembered_in_its_own_time(value: Value, log: Path) -> None:
    assert value("import", str(log)) == {"format": "chat", "stored": 3, "skipped": 0}
    turns = value("list", "--type", "turn")["results"]
    assert [turn["memory"] for turn in turns] == ["I moved to Porto.", "Nice.", "I live in Lisbon."]
    assert (
        "Lisbon" in value("search", "Where does Mira live?", "--as-of", "2025-02-01", "-k", "1")["results"][0]["memory"]
    )


def test_a_second_import_adds_only_what_is_new(value: Value, log: Path) -> None:
    value("import", str(log))
    before = _state(value)
    assert value("import", str(log)) == {"format": "chat", "stored": 0, "skipped": 3}
    assert _state(value) == before
    log.write_text(json.dumps([*CHAT, {"role": "user", "content": "Good night.", "timestamp": "2025-03-29T22:00:00Z"}]))
    assert value("import", str(log)) == {"format": "chat", "stored": 1, "skipped": 3}


def test_a_bad_message_stores_nothing_and_is_named(lamina: Run, value: Value, log: Path) -> None:
    log.write_text(json.dumps([*CHAT, {"role": "user", "content": 7}]))
    result = lamina("import", str(log))
    assert result.exit_code == 1 and "message 4" in result.stderr
    assert value("list")["results"] == []


@pytest.mark.parametrize("history", [[], ["--history"]])
def test_an_export_restores_another_database(value: Value, log: Path, tmp_path: Path, history: list[str]) -> None:
    value("import", str(log))
    out, copy = tmp_path / "out.jsonl", str(tmp_path / "copy.db")
    exported = value("export", str(out), *history)["exported"]
    assert exported == len(out.read_text().splitlines()) > 3
    assert value("import", str(out), db=copy) == {"format": "jsonl", "stored": exported, "skipped": 0}
    assert _state(value, db=copy) == _state(value)
    assert value("import", str(out), db=copy)["stored"] == 0
    again = tmp_path / "again.jsonl"
    value("export", str(again), *history, db=copy)
    assert sorted(again.read_text().splitlines()) == sorted(out.read_text().splitlines())


def test_only_an_export_with_history_knows_the_past(value: Value, log: Path, tmp_path: Path) -> None:
    value("import", str(log))
    for name, options in (("now", []), ("all", ["--history"])):
        value("export", str(tmp_path / name), *options)
        value("import", str(tmp_path / name), db=str(tmp_path / f"{name}.db"))
    asked = ("list", "--as-of", "2025-02-01", "--type", "fact")
    assert value(*asked, db=str(tmp_path / "now.db"))["results"] == []
    assert "Lisbon" in value(*asked, db=str(tmp_path / "all.db"))["results"][0]["memory"]


def test_pipes_go_both_ways(lamina: Run, value: Value, log: Path, tmp_path: Path) -> None:
    value("import", "-", input=log.read_text())
    lines = lamina("export", "-").stdout
    assert all(json.loads(line)["lamina"] == 1 for line in lines.splitlines())
    copy = str(tmp_path / "copy.db")
    assert value("import", "-", input=lines, db=copy)["stored"] == len(lines.splitlines())
    assert _state(value, db=copy) == _state(value)


def test_a_bad_line_keeps_whole_chunks_and_the_import_can_go_on(
    lamina: Run, value: Value, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lamina.cli.transfer.CHUNK", 2)
    for n in range(5):
        value("add", f"Note {n}.", "--no-infer")
    lines = lamina("export", "-").stdout.splitlines()
    file, copy = tmp_path / "broken.jsonl", str(tmp_path / "copy.db")
    file.write_text("\n".join([*lines[:3], "{broken", *lines[3:]]))
    result = lamina("import", str(file), "--format", "jsonl", db=copy)
    assert result.exit_code == 1 and "line 4" in result.stderr and "Stored before it: 2" in result.stderr
    assert len(value("list", db=copy)["results"]) == 2
    file.write_text("\n".join(lines))
    assert value("import", str(file), db=copy) == {"format": "jsonl", "stored": 3, "skipped": 2}


def test_mem0_memories_come_with_their_ids(value: Value, tmp_path: Path) -> None:
    file = tmp_path / "mem0.json"
    row = {"id": "abc-1", "memory": "Loves tiles", "user_id": "mira", "created_at": "2025-01-01T00:00:00Z"}
    file.write_text(json.dumps({"results": [row]}))
    assert value("import", str(file)) == {"format": "mem0", "stored": 1, "skipped": 0}
    assert value("search", "tiles", "--user", "mira")["results"][0]["id"] == "abc-1"
    value("import", str(file), "--user", "jonas", db=str(tmp_path / "b.db"))
    assert value("list", "--user", "jonas", db=str(tmp_path / "b.db"))["results"][0]["id"] == "abc-1"


def test_an_export_of_every_user(value: Value, tmp_path: Path) -> None:
    for user in ("mira", "jonas"):
        value("add", "Hello there.", "--no-infer", "--user", user)
    assert value("export", str(tmp_path / "out"), "--user", "*")["exported"] == 2


def test_a_failed_export_leaves_the_old_file(lamina: Run, value: Value, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    assert lamina("export", str(tmp_path / "out")).exit_code == 2
    assert lamina("export", str(tmp_path / "no" / "out")).exit_code == 1
    assert list(tmp_path.rglob("*.part")) == []


@pytest.mark.parametrize("content", [b"", b"hello", b"\xff\xfe\x00", b"[]", b'{"a": 1}'])
def test_other_files_are_refused(lamina: Run, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "f").write_bytes(content)
    result = lamina("import", str(tmp_path / "f"))
    assert result.exit_code == 1 and result.stderr.startswith("Error: ")


def test_a_missing_file_is_wrong_usage(lamina: Run) -> None:
    assert lamina("import", "no-such-file").exit_code == 2
