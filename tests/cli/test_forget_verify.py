"""``lamina forget --verify``: proves a real forgetting, and cannot be fooled by what is left or said twice."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from typer.testing import Result

Run = Callable[..., Result]
Value = Callable[..., Any]


def added(value: Value, text: str, *more: str) -> str:
    return str(value("add", text, *more)["results"][0]["id"])


def test_what_went_is_found_nowhere(lamina: Run, value: Value) -> None:
    id = added(value, "My alarm code is heron seven seven.")
    added(value, "I live in Porto.")
    told = value("forget", id, "--yes", "--verify")
    proof = told["verified"]
    assert proof["found"] == [] and id in told["forgotten"]
    assert proof["texts"] >= 1 and proof["vectors"] >= 1 and proof["said_elsewhere"] == 0
    assert {"database", "rows"} <= proof["searched"].keys() and proof["searched"]["database"] > 4096


def test_for_people_it_says_what_was_searched(lamina: Run, value: Value) -> None:
    id = added(value, "My alarm code is heron seven seven.")
    result = lamina("forget", id, "--yes", "--verify")
    assert result.exit_code == 0 and "database" in result.stdout and "Looked for" in result.stdout
    assert "heron" not in result.stdout
    assert "next call or tick" in " ".join(result.stdout.split()), "and what goes later"


def test_a_copy_in_a_file_beside_is_found_and_exits_1(lamina: Run, value: Value, db: str) -> None:
    id = added(value, "My alarm code is heron seven seven.")
    Path(f"{db}.backup").write_bytes(Path(db).read_bytes() + b"My alarm code is heron seven seven.")
    result = lamina("forget", id, "--yes", "--verify", "--json")
    found = json.loads(result.stdout)["verified"]["found"]
    assert result.exit_code == 1 and found and "heron" not in result.stdout
    assert any(one["where"].endswith(".backup") for one in found)


def test_words_that_another_memory_says_are_no_trace(lamina: Run, value: Value) -> None:
    id = added(value, "The gate opens at seven.")
    added(value, "The gate opens at seven.", "--user", "bob")
    proof = value("forget", id, "--yes", "--verify")["verified"]
    assert proof["found"] == [] and proof["said_elsewhere"] >= 1
    assert value("search", "When does the gate open?", "--user", "bob")["results"]


def test_words_of_another_tenant_are_theirs_and_told_to_nobody(lamina: Run, value: Value, db: str) -> None:
    """The proof reads the same whether or not somebody else holds the same words: else it would tell."""
    text = "My alarm code is heron seven seven."
    alone = added(value, text)
    before = value("forget", alone, "--yes", "--verify")["verified"]
    shared = added(value, text)
    added(value, text, "--tenant", "other")
    proof = value("forget", shared, "--yes", "--verify")["verified"]
    assert proof["found"] == [] and text.encode() in Path(db).read_bytes(), "the other tenant's is there still"
    sizes = ("searched",)
    assert {k: v for k, v in proof.items() if k not in sizes} == {k: v for k, v in before.items() if k not in sizes}
    result = lamina("forget", added(value, text), "--yes", "--verify")
    assert result.exit_code == 0 and "other memories" not in result.stdout
    found = value("search", "What is the alarm code?", "--tenant", "other")["results"]
    assert text in {row["memory"] for row in found}


def test_a_trace_beside_the_words_of_another_tenant_is_found(lamina: Run, value: Value, db: str) -> None:
    text = "My alarm code is heron seven seven."
    added(value, text, "--tenant", "other")
    id = added(value, text)
    Path(f"{db}.backup").write_bytes(Path(db).read_bytes())  # of both
    result = lamina("forget", id, "--yes", "--verify", "--json")
    found = json.loads(result.stdout)["verified"]["found"]
    assert result.exit_code == 1 and {Path(one["where"]).name for one in found} == {f"{Path(db).name}.backup"}


def test_without_verify_nothing_is_searched(value: Value) -> None:
    assert value("forget", added(value, "I live in Porto."), "--yes").keys() == {"forgotten"}
