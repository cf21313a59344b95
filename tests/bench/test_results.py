"""Where results go, that they are whole, and that the report is a function of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from toy_cards import good

from lamina.bench import report, results
from lamina.errors import InvalidInput, StoreUnavailable

MACHINE = {"cpu": "Toy | CPU", "cores": 2, "torch": None}
SYSTEM = {
    "system": "toy-counting",
    "paper": "On Counting",
    "arxiv": "2401.00001",
    "module": "lamina.toy",
    "seed": 0,
    "scale": "smoke",
    "seconds": 1.5,
    "date": "2026-01-02",
    "machine": MACHINE,
    "claims": [measurement.to_dict() for measurement in good.measure(0, "smoke")],
}
ROW = {"recall@10": 0.5, "recall@10_interval": [0.4, 0.6], "by_category": {"multi-hop": {"recall@10": 0.25}}}
HARNESS = {"bench": "locomo", "definition": "What it means.", "seconds": 2.0, "systems": {"lamina": ROW}}
SIZES = {
    "bench": "throughput",
    "seconds": 3.0,
    "notes": ["A note."],
    "claims": [],
    "sizes": [{"memories": 100, "system": "lamina", "p50_ms": 0.1234}, {"memories": 1000, "system": "lamina"}],
}


def test_in_a_checkout_results_live_at_its_root(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "lamina"\n')
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    assert results.results_folder(deep) == tmp_path / "results"
    assert results.report_file(deep) == tmp_path / "docs" / "results.md"


@pytest.mark.parametrize("project", [None, '[project]\nname = "other"\n', "no toml ["])
def test_elsewhere_they_live_in_the_working_directory(tmp_path: Path, project: str | None) -> None:
    if project is not None:
        (tmp_path / "pyproject.toml").write_text(project)
    assert results.checkout(tmp_path) is None
    assert results.results_folder(tmp_path) == tmp_path / "results"
    assert results.report_file(tmp_path) == tmp_path / "results" / "results.md"


def test_a_result_reads_back_and_leaves_nothing_else(tmp_path: Path) -> None:
    folder = tmp_path / "results"
    results.write("toy-counting", SYSTEM, folder)
    results.write("toy-counting", SYSTEM, folder)
    assert [file.name for file in folder.iterdir()] == ["toy-counting.json"]
    assert results.read("toy-counting", folder) == SYSTEM
    assert results.read("other", folder) is None


def test_a_failed_write_keeps_the_old_result(tmp_path: Path) -> None:
    results.write("toy-counting", SYSTEM, tmp_path)
    with pytest.raises(ValueError, match="not JSON compliant"):
        results.write("toy-counting", SYSTEM | {"seconds": float("nan")}, tmp_path)
    assert results.read("toy-counting", tmp_path) == SYSTEM
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreUnavailable, match="cannot write"):
        results.write("toy-counting", SYSTEM, tmp_path / "file")


@pytest.mark.parametrize("text", ["[]", "{}", '{"claims": []}'])
def test_a_file_that_is_no_result_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(InvalidInput, match="no result of a proof"):
        results.read("x", tmp_path)


def test_only_claims_decide_whether_a_result_holds() -> None:
    assert results.holds(SYSTEM)
    assert results.holds(HARNESS)
    assert not results.holds(SYSTEM | {"claims": [*SYSTEM["claims"], {"holds": False}]})


def test_the_report_is_the_same_for_the_same_files(tmp_path: Path) -> None:
    documents = {"toy-counting": SYSTEM, "locomo": HARNESS, "throughput": SIZES}
    for name, document in documents.items():
        results.write(name, document, tmp_path)
    shuffled = dict(reversed(results.read_all(tmp_path).items()))
    assert report.markdown(documents) == report.markdown(shuffled) == report.markdown(results.read_all(tmp_path))


def test_the_report_says_what_the_files_say() -> None:
    text = report.markdown({"toy-counting": SYSTEM, "locomo": HARNESS, "throughput": SIZES})
    assert [line for line in text.splitlines() if line.startswith("## ")] == [
        "## locomo",
        "## throughput",
        "## toy-counting",
    ]
    for line in (
        "| holds | claim | ours | baseline | ratio | target |",
        "| yes | Twice as fast as counting on fingers | 30 1/s | 10 1/s | 3x | 2 |",
        "| yes | Needs at most 10 bytes | 8 B | 16 B | 2x | 10 |",
        "Baseline: fingers; abacus.",
        "| memories | 100 | 1,000 |",
        "| p50_ms | 0.123 | - |",
        "|  | recall@10 | recall@10_interval | multi-hop |",
        "| lamina | 0.5 | 0.4 to 0.6 | 0.25 |",
        "What it means.",
        "A note.",
    ):
        assert line in text.splitlines()
    assert "Measured 2026-01-02: scale smoke, seed 0, 1.5 s; cpu Toy | CPU, cores 2." in text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (0, "0"),
        (12345, "12,345"),
        (12345.6, "12,346"),
        (0.123456, "0.123"),
        (1e-5, "0.00001"),
        (9.5, "9.5"),
    ],
)
def test_numbers_are_written_for_people(value: float | None, text: str) -> None:
    assert report.number(value) == text


def test_results_are_readable_json(tmp_path: Path) -> None:
    file = results.write("toy-counting", SYSTEM, tmp_path)
    assert json.loads(file.read_text()) == SYSTEM
    assert file.read_text().startswith('{\n  "system": "toy-counting"')
