"""The verbs on a real database: what each stores, finds, changes and prints."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

Run = Callable[..., Result]
Value = Callable[..., Any]


def _ids(rows: list[dict[str, Any]], kind: str | None = None) -> list[str]:
    return [row["id"] for row in rows if kind is None or row["semantic_type"] == kind]


def test_add_keeps_the_words_their_date_and_labels(value: Value) -> None:
    rows = value("add", "I bought a red bicycle.", "--at", "2025-04-01", "--meta", "topic=travel", "--meta", "a=b=c")
    (turn,) = [row for row in rows["results"] if row["semantic_type"] == "turn"]
    shown = value("show", turn["id"])
    assert shown["memory"] == "I bought a red bicycle." and shown["user_id"] == "me"
    assert shown["created_at"].startswith("2025-04-01") and shown["metadata"] == {"topic": "travel", "a": "b=c"}


def test_add_reads_a_pipe_and_names_the_speaker(value: Value) -> None:
    (turn,) = value("add", "-", "--speaker", "Jonas", "--no-infer", input="I am from Ghent.\nIt rains.\n")["results"]
    assert (turn["memory"], turn["actor_id"]) == ("I am from Ghent.\nIt rains.", "Jonas")


@pytest.mark.parametrize(
    "arguments",
    [["x", "--meta", "novalue"], ["x", "--meta", "=v"], ["x", "--at", "soon"], ["  "], ["x", "--user", "a b"]],
)
def test_add_refuses_bad_input_and_stores_nothing(lamina: Run, value: Value, arguments: list[str]) -> None:
    result = lamina("add", *arguments)
    assert result.exit_code == 1 and result.stderr.startswith("Error: ")
    assert value("list")["results"] == []


def test_search_finds_the_memory_and_explains(value: Value, lamina: Run) -> None:
    for text in ("I am allergic to walnuts.", "The train leaves at nine.", "My sister paints boats."):
        value("add", text)
    found = value("search", "Which food is dangerous for me?", "-k", "1", "--explain")["results"]
    assert len(found) == 1 and "walnuts" in found[0]["memory"] and found[0]["score_details"]
    shown = lamina("search", "Which food is dangerous for me?", "-k", "1").stdout
    assert "walnuts" in shown and found[0]["id"] in shown


def test_search_of_nothing_says_so(lamina: Run) -> None:
    lamina("add", "I live in Porto.", "--user", "jonas")
    assert lamina("search", "anything").stdout == "Nothing found.\n"


@pytest.mark.parametrize("verb", [["list"], ["search", "x"], ["show", "x"], ["forget", "x", "--yes"], ["export", "-"]])
def test_a_mistyped_database_is_an_error_and_is_not_made(lamina: Run, tmp_path: Path, verb: list[str]) -> None:
    wrong = tmp_path / "mistyped.db"
    result = lamina(*verb, db=str(wrong))
    assert result.exit_code == 1 and "mistyped.db" in result.stderr and not wrong.exists()


def test_owners_are_kept_apart(value: Value) -> None:
    value("add", "I live in Porto.", "--user", "mira")
    assert value("list", "--user", "jonas")["results"] == []
    assert value("search", "Porto", "--user", "jonas")["results"] == []
    assert value("list", "--user", "mira", "--tenant", "other")["results"] == []
    assert value("list", "--user", "mira")["results"] != []


def test_list_filters_by_type_label_and_number(value: Value, lamina: Run) -> None:
    for n in range(4):
        value("add", f"Note {n}.", "--no-infer", "--meta", f"n={n}")
    assert len(value("list", "-n", "2")["results"]) == 2
    assert "raise -n" in lamina("list", "-n", "2").stderr
    assert [row["memory"] for row in value("list", "--where", '{"n": "3"}')["results"]] == ["Note 3."]
    assert value("list", "--type", "fact")["results"] == []


@pytest.mark.parametrize("where", ["{", "[1]", '{"a": {"near": 1}}'])
def test_a_bad_filter_is_refused(lamina: Run, where: str) -> None:
    for verb in (["search", "x"], ["list"]):
        assert lamina(*verb, "--where", where).exit_code == 1


def test_a_fact_that_changes_is_followed(value: Value, lamina: Run) -> None:
    value("add", "I live in Lisbon.", "--at", "2025-01-10")
    rows = value("add", "I moved to Porto.", "--at", "2025-03-29")["results"]
    (update,) = [row for row in rows if row["event"] == "UPDATE"]
    assert "Lisbon" in update["previous_memory"]
    (old,) = [r for r in value("list", "--as-of", "2025-02-01")["results"] if r["semantic_type"] != "turn"]
    assert "Lisbon" in old["memory"]
    assert "Lisbon" in value("search", "Where do I live?", "--as-of", "2025-02-01", "-k", "1")["results"][0]["memory"]
    assert "Porto" in value("search", "Where do I live?", "-k", "1")["results"][0]["memory"]
    history = value("history", old["id"])["results"]
    assert [row["event"] for row in history] == ["ADD", "DELETE"] and history[1]["reason"]
    assert history[1]["reason"] in " ".join(lamina("history", old["id"]).stdout.split())


def test_update_and_delete_keep_the_history(value: Value) -> None:
    (id,) = _ids(value("add", "The meeting is on Monday.", "--no-infer")["results"])
    assert value("update", id, "The meeting is on Tuesday.")["version"] == 2
    assert value("show", id)["memory"] == "The meeting is on Tuesday."
    value("delete", id)
    assert value("list")["results"] == []
    events = [(row["event"], row["new_memory"]) for row in value("history", id)["results"]]
    assert events == [
        ("ADD", "The meeting is on Monday."),
        ("UPDATE", "The meeting is on Tuesday."),
        ("DELETE", None),
    ]


SECRET = "The door code is heron-7719."


def test_forget_asks_and_no_means_no(lamina: Run, value: Value) -> None:
    (id,) = _ids(value("add", SECRET, "--no-infer")["results"])
    result = lamina("forget", id, input="n\n")
    assert result.exit_code == 1 and "heron-7719" in result.stderr
    assert lamina("forget", id, "--json").exit_code == 1  # nobody to ask
    assert lamina("forget", id, input="").exit_code == 1  # nobody answers
    assert value("show", id)["memory"] == SECRET


def test_forget_erases_the_bytes(lamina: Run, value: Value, db: str) -> None:
    from pathlib import Path

    def places() -> int:
        return sum(b"heron-7719" in file.read_bytes() for file in Path(db).parent.glob("cli.db*") if file.is_file())

    value("add", "I like boats.")
    value("add", SECRET)
    assert places() > 0
    result = lamina("forget", "--about", "door code", input="y\n")
    assert result.exit_code == 0 and "heron-7719" in result.stderr and "heron" not in result.stdout
    assert places() == 0
    assert [row["memory"] for row in value("search", "boats", "-k", "1")["results"]] != []


def test_forget_with_yes_takes_the_best_match_only(value: Value) -> None:
    for text in (SECRET, "The garden gate code is 1234.", "I like boats."):
        value("add", text, "--no-infer")
    gone = value("forget", "--about", "heron door code", "--yes")["forgotten"]
    assert len(gone) == 1
    assert {row["memory"] for row in value("list")["results"]} == {"The garden gate code is 1234.", "I like boats."}


@pytest.mark.parametrize("arguments", [[], ["some-id", "--about", "x"]])
def test_forget_wants_one_way_to_choose(lamina: Run, arguments: list[str]) -> None:
    assert lamina("forget", *arguments).exit_code == 2


@pytest.mark.parametrize("verb", [["show"], ["history"], ["delete"], ["update"], ["forget"]])
def test_an_unknown_id_is_named(lamina: Run, verb: list[str]) -> None:
    lamina("add", "I live in Porto.")
    extra = {"update": ["text"], "forget": ["--yes"]}.get(verb[0], [])
    result = lamina(*verb, "no-such-id", *extra, "--json")
    assert result.exit_code == 1
    error = json.loads(result.stdout)["error"]
    assert error["code"] == "NOT_FOUND" and "no-such-id" in error["message"]


def test_terminal_controls_in_a_memory_are_not_printed(lamina: Run, value: Value) -> None:
    value("add", "red \x1b[31malert\x1b[0m \x1b]0;title\x07 [bold]x[/bold]", "--no-infer")
    shown = lamina("list").stdout
    assert "\x1b" not in shown and "\x07" not in shown and "[bold]x[/bold]" in shown
