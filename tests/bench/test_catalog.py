"""Finding cards by paper name, and joining them with what was measured."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from toy_cards import CARDS, SMALLER, good

import lamina
from lamina.bench import results, runner
from lamina.bench.catalog import CARDS as TABLE
from lamina.bench.catalog import Systems, is_stale, overview
from lamina.errors import InvalidInput, NotFound

TOY = Systems({"toy-counting": "toy_cards"})


@pytest.mark.parametrize("name", ["toy-counting", "toy_counting", "Toy Counting", " TOY-counting "])
def test_a_card_is_found_however_its_name_is_written(name: str) -> None:
    assert TOY[name] is good
    assert name in TOY


def test_an_unknown_name_suggests_what_was_meant() -> None:
    with pytest.raises(NotFound, match="did you mean 'toy-counting'"):
        TOY["toy-countng"]
    with pytest.raises(KeyError, match="choose one of toy-counting"):
        TOY["zzz"]
    assert TOY.get("zzz") is None
    assert "zzz" not in TOY
    assert 3 not in TOY


def test_it_is_a_mapping() -> None:
    assert dict(TOY) == {"toy-counting": good}
    assert len(TOY) == 1


def test_every_listed_card_loads_and_has_its_name() -> None:
    assert isinstance(lamina.systems, Systems)
    assert [lamina.systems[name].name for name in TABLE] == list(TABLE)


def test_rows_join_claims_with_the_result(tmp_path: Path) -> None:
    assert [(row["system"], row["claim"], row["holds"], row["date"]) for row in overview(CARDS, tmp_path)] == [
        (name, claim.claim, None, None) for name in sorted(CARDS) for claim in CARDS[name].claims
    ]
    _store(tmp_path)
    rows = [row for row in overview(CARDS, tmp_path) if row["system"] == good.name]
    assert [row["ours"] for row in rows] == [30.0, 8.0]
    assert [row["ratio"] for row in rows] == [3.0, 2.0]
    assert {(row["holds"], row["date"], row["module"], row["stale"]) for row in rows} == {
        (True, "2026-01-02", "lamina.toy", False)
    }


def test_a_result_of_other_claims_is_stale_and_not_shown(tmp_path: Path) -> None:
    _store(tmp_path)
    harder = replace(good, claims=(good.claims[0], replace(SMALLER, target=4.0)))
    rows = overview({harder.name: harder}, tmp_path)
    assert [(row["stale"], row["ours"], row["holds"]) for row in rows] == [(True, None, None)] * 2
    assert not is_stale(good, results.read(good.name, tmp_path) or {})


def test_a_target_of_many_digits_is_not_stale_for_being_kept_in_six(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    third = replace(good, claims=(replace(good.claims[0], target=1 / 1.15), good.claims[1]))
    third = replace(third, run=lambda seed, scale: [claim.measured(8.0, 2.0, "fingers") for claim in third.claims])
    monkeypatch.chdir(tmp_path)
    runner.run([third.name], cards={third.name: third}, scale="smoke", write=True)
    assert [row["stale"] for row in overview({third.name: third})] == [False, False]


def test_no_kept_result_answers_other_claims_than_its_card_makes() -> None:
    stale = {row["system"] for row in overview() if row["stale"]}
    assert not stale, f"run again: lamina bench {' '.join(sorted(stale))} --write"


def test_a_broken_result_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "toy-counting.json").write_text("{")
    with pytest.raises(InvalidInput, match=r"toy-counting\.json is not JSON"):
        overview(CARDS, tmp_path)


def _store(folder: Path) -> None:
    claims = [measurement.to_dict() for measurement in good.measure(0, "smoke")]
    results.write(good.name, {"system": good.name, "date": "2026-01-02", "scale": "smoke", "claims": claims}, folder)
