"""``lamina bench``: exit codes, the JSON contract, what is kept, and what is refused before anything runs."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from toy_cards import CARDS, failing, good

from lamina.bench import runner
from lamina.bench.card import Card, Measurement, Scale
from lamina.errors import InvalidInput, LaminaError, NotFound

DOCUMENT_KEYS = {"system", "paper", "arxiv", "module", "seed", "scale", "seconds", "date", "machine", "claims"}


def _json(capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capsys.readouterr().out)


def _run(names: list[str] | None, cards: Mapping[str, Card] = CARDS, **options: Any) -> int:
    return runner.run(names, cards=cards, **options)


@pytest.mark.parametrize(
    ("names", "code"),
    [(["toy-counting"], 0), (["toy-slow"], 1), (["toy-forgetful"], 1), (["toy-counting", "toy-slow"], 1), ([], 1)],
)
def test_exit_code_is_zero_only_if_every_claim_holds(names: list[str], code: int) -> None:
    assert _run(names, scale="smoke") == code


def test_json_of_one_system_is_the_contract(capsys: pytest.CaptureFixture[str]) -> None:
    assert _run(["toy-counting"], scale="smoke", seed=3, json=True) == 0
    document = _json(capsys)
    assert set(document) == DOCUMENT_KEYS
    assert (document["system"], document["arxiv"], document["module"]) == ("toy-counting", "2401.00001", "lamina.toy")
    assert (document["seed"], document["scale"]) == (3, "smoke")
    assert document["claims"][0]["baseline"] == 13.0  # 10 + seed: the seed reached the card
    assert document["claims"][0]["ratio"] == pytest.approx(30 / 13, rel=1e-5)


def test_the_scale_reaches_the_card(capsys: pytest.CaptureFixture[str]) -> None:
    _run(["toy-counting"], scale="full", json=True)
    assert _json(capsys)["claims"][0]["ours"] == 3000.0


def test_several_print_a_list_and_none_means_all(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LAMINA_LOCOMO", raising=False)
    monkeypatch.setattr(runner, "HARNESSES", {"locomo": runner.HARNESSES["locomo"]})
    assert _run(None, {"toy-counting": good}, scale="smoke", json=True) == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out)["system"] == "toy-counting"
    assert "locomo: skipped" in shown.err
    assert _run(["toy-counting", "toy-slow"], scale="smoke", json=True) == 1
    assert [document["system"] for document in _json(capsys)] == ["toy-counting", "toy-slow"]


def test_tables_show_verdicts_and_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    _run(["toy-slow"], scale="smoke")
    shown = capsys.readouterr().out
    for text in ("On Counting", "NO", "0.1x", "10 1/s", "8 B", "seed 0"):
        assert text in shown


def test_not_a_number_is_null(capsys: pytest.CaptureFixture[str]) -> None:
    broken = replace(good, run=lambda seed, scale: [claim.measured(float("nan")) for claim in good.claims])
    assert _run(["toy-counting"], {"toy-counting": broken}, json=True) == 1
    assert [claim["ours"] for claim in _json(capsys)["claims"]] == [None, None]


@pytest.mark.parametrize(
    ("names", "options", "message"),
    [
        (["toy-countin"], {}, "did you mean 'toy-counting'"),
        (["throughputs"], {}, "did you mean 'throughput'"),
        (["toy-counting"], {"scale": "huge"}, "scale='huge': choose one of smoke, laptop, full"),
        (["toy-counting", "toy-slow"], {"plot": Path("x.png")}, "name the one system to draw"),
        (["toy-slow"], {"plot": Path("x.png")}, "has nothing to draw"),
        (["throughput"], {"plot": Path("x.png")}, "has nothing to draw"),
    ],
)
def test_wrong_calls_are_refused_before_anything_runs(names: list[str], options: dict[str, Any], message: str) -> None:
    def explode(seed: int, scale: Scale) -> list[Measurement]:
        raise AssertionError("ran")

    cards = {name: replace(card, run=explode) for name, card in CARDS.items()}
    with pytest.raises(InvalidInput) as caught:
        _run(names, cards, **options)
    assert message in str(caught.value)
    assert isinstance(caught.value, NotFound) is ("did you mean" in message)


def test_a_card_that_fails_stops_itself_only(capsys: pytest.CaptureFixture[str]) -> None:
    def fail(seed: int, scale: Scale) -> list[Measurement]:
        raise LaminaError("the peer is not installed")

    cards = {"broken": replace(good, name="broken", run=fail), "toy-counting": good}
    assert _run(["broken", "toy-counting"], cards, scale="smoke", json=True) == 1
    shown = capsys.readouterr()
    assert [document["system"] for document in json.loads(shown.out)] == ["toy-counting"]
    assert "broken: the peer is not installed" in shown.err
    with pytest.raises(LaminaError, match="the peer"):
        _run(["broken"], cards, scale="smoke")


def test_write_keeps_result_and_report(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "lamina"\n')
    _run(["toy-counting", "toy-slow"], scale="smoke", write=True)
    kept = json.loads((tmp_path / "results" / "toy-counting.json").read_text())
    assert set(kept) == DOCUMENT_KEYS
    report = (tmp_path / "docs" / "results.md").read_text()
    assert "## toy-counting" in report
    assert "## toy-slow" in report
    assert "| NO | Twice as fast as counting on fingers |" in report


def test_nothing_is_kept_unasked(tmp_path: Path) -> None:
    _run(["toy-counting"], scale="smoke")
    assert list(tmp_path.iterdir()) == []


def test_plot_draws_the_measurements(tmp_path: Path) -> None:
    file = tmp_path / "toy.txt"
    assert _run(["toy-counting"], scale="smoke", plot=file) == 0
    assert file.read_text() == "3.0\n2.0"


@pytest.mark.parametrize("before", [None, "elsewhere"])
def test_cards_find_the_data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: str | None) -> None:
    monkeypatch.delenv("LAMINA_DATA", raising=False)
    if before is not None:
        monkeypatch.setenv("LAMINA_DATA", before)
    seen = []

    def look(seed: int, scale: Scale) -> list[Measurement]:
        seen.append(os.environ.get("LAMINA_DATA"))
        return list(failing.run(seed, scale))

    _run(["toy-slow"], {"toy-slow": replace(failing, run=look)}, data=tmp_path)
    assert seen == [str(tmp_path)]
    assert os.environ.get("LAMINA_DATA") == before


def test_the_machine_is_named_but_not_whose_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    _run(["toy-counting"], scale="smoke", json=True)
    found = _json(capsys)["machine"]
    assert {"cpu", "cores", "ram_gib", "python", "os"} <= set(found)
    assert found["cores"] >= 1
    written = json.dumps(found)
    assert os.uname().nodename not in written.split('"')
    assert str(Path.home()) not in written
