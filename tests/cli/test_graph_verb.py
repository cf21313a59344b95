"""``lamina graph``: what it prints, writes and refuses."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from lamina.cli.graph import graph
from lamina.cube.cube import Scope
from text.graph_desk import Desk


@pytest.fixture
def db(tmp_path: Path) -> Path:
    desk = Desk(tmp_path / "graph.db")
    ana = Scope(user="ana")
    desk.tell("My mentor is Bob Reed.", "Bob Reed works at Acme.", "I speak Welsh.", scope=ana, speaker="Ana")
    desk.store.close()
    return tmp_path / "graph.db"


def run(db: Path, *arguments: str, user: str = "ana") -> Result:
    app = typer.Typer()
    app.command("graph")(graph)
    return CliRunner().invoke(app, [*arguments, "--db", str(db), "--user", user, "--tenant", "default"])


@pytest.fixture(autouse=True)
def _any_embedder(monkeypatch: pytest.MonkeyPatch) -> None:
    from lamina.bench.synthetic import WordVectors

    monkeypatch.setattr("lamina.llm.embedder", lambda *_, **__: WordVectors())


def test_all_of_it_for_people(db: Path) -> None:
    result = run(db)
    assert result.exit_code == 0, result.output
    assert "Bob Reed works_at Acme" in result.stdout
    assert "4 entities, 3 relations" in result.stdout


def test_a_neighbourhood_as_json(db: Path) -> None:
    near, far = (json.loads(run(db, "Acme", "--hops", hops, "--json").stdout) for hops in ("1", "2"))
    assert {row["name"] for row in near["entities"]} == {"Acme", "Bob Reed"}
    assert {row["name"] for row in far["entities"]} == {"Acme", "Bob Reed", "Ana"}
    assert [(row["source"], row["relation"]) for row in near["relations"]] == [("Bob Reed", "works_at")]


@pytest.mark.parametrize("suffix", ["graphml", "json"])
def test_export_writes_a_file_others_read(db: Path, tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"out.{suffix}"
    result = run(db, "--export", str(file), "--json")
    assert json.loads(result.stdout)["exported"] == str(file)
    if suffix == "json":
        assert len(json.loads(file.read_text())["relations"]) == 3
    else:
        assert len(list(ET.parse(file).getroot().iter("{http://graphml.graphdrawing.org/xmlns}edge"))) == 3


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("Nobody",), "no such entity"),
        (("--export", "out.png"), ".graphml or .json"),
        (("--export", "missing/out.json"), "No such file"),
    ],
)
def test_errors_are_one_line_and_exit_1(db: Path, arguments: tuple[str, ...], words: str) -> None:
    result = run(db, *arguments)
    assert result.exit_code == 1
    assert words in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_nobody_elses_graph_is_shown(db: Path) -> None:
    result = run(db, user="evan")
    assert result.exit_code == 0
    assert "No entities yet" in result.stdout
    assert "Acme" not in result.stdout
