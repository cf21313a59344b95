"""``lamina bench locomo`` on a file whose right answers are known by construction."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path
from typing import Any

import locomo_file
import numpy as np
import pytest

from lamina.bench import mem0_peer, runner
from lamina.bench.conversations import locomo
from lamina.bench.conversations.baselines import Found, distinct_turns, line
from lamina.bench.conversations.dataset import load_locomo
from lamina.bench.conversations.systems import SYSTEMS
from lamina.bench.conversations.tables import KS
from lamina.errors import InvalidInput, MissingDependency, NotFound
from lamina.llm.embed import MiniLM


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return locomo_file.write(tmp_path_factory.mktemp("locomo"))


@pytest.fixture(scope="module")
def document(file: Path, minilm: MiniLM) -> dict[str, Any]:
    return locomo.run(file, systems=["lamina", "bm25", "dense"], embedder=minilm)


def test_recall_is_what_the_file_was_made_to_give(document: dict[str, Any]) -> None:
    row = document["systems"]["bm25"]
    expected = [scores for of_category in locomo_file.EXPECTED.values() for scores in of_category]
    for place, k in enumerate(KS):
        assert row[f"recall@{k}"] == pytest.approx(np.mean([scores[place] for scores in expected]))
    both = [float(scores[1] == 1) for scores in expected]
    assert row["recall_all@10"] == pytest.approx(np.mean(both))
    assert row["recall_any@10"] == 1.0
    assert row["by_conversation"] == {
        "conv-1": {"questions": 4, "recall@10": pytest.approx((1 + 1 + 0.5 + 1) / 4)},
        "conv-2": {"questions": 1, "recall@10": 1.0},
    }
    names = {1: "multi-hop", 2: "temporal", 4: "single-hop"}
    assert set(row["by_category"]) == set(names.values())
    for category, of_category in locomo_file.EXPECTED.items():
        found = row["by_category"][names[category]]
        assert found["questions"] == len(of_category)
        assert found["recall@5"] == pytest.approx(np.mean([scores[0] for scores in of_category]))
    assert row["by_category"]["temporal"]["ndcg@10"] == pytest.approx(1 / math.log2(7))  # evidence at rank 6


def test_tokens_are_those_of_ten_lines(document: dict[str, Any], file: Path, minilm: MiniLM) -> None:
    turns = load_locomo(file)[0].turns
    each = [minilm.count_tokens(line(turn)) for turn in turns]
    for row in document["systems"].values():
        assert 10 * min(each) <= row["tokens@10"] <= 10 * max(each)


def test_the_document_states_its_data_and_definition(document: dict[str, Any], file: Path) -> None:
    assert document["bench"] == "locomo"
    assert document["data"] == "locomo10.json"
    assert document["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert (document["conversations"], document["turns"], document["questions"]) == (2, 48, 5)
    assert document["repaired"] == 2
    for word in ("turn", "categories 1-4", "recall@k", "all-MiniLM-L6-v2", "bootstrap"):
        assert word in document["definition"]
    for row in document["systems"].values():
        assert {"recall@5", "recall@10", "recall@20", "ndcg@10", "tokens@10", "by_category", "seconds"} <= set(row)
        low, high = row["recall@10_interval"]
        assert 0 <= low <= row["recall@10"] <= high <= 1


def test_the_front_door_finds_the_words(document: dict[str, Any]) -> None:
    assert document["systems"]["lamina"]["by_category"]["single-hop"]["recall@5"] == 1.0


def test_every_system_returns_distinct_turns_of_the_conversation(file: Path, minilm: MiniLM, tmp_path: Path) -> None:
    talk = load_locomo(file)[0]
    known = {turn.dia_id: line(turn) for turn in talk.turns}
    for name in [name for name in SYSTEMS if name != "mem0ai"]:
        folder = tmp_path / name
        folder.mkdir()
        with SYSTEMS[name](talk, minilm, folder) as ranker:
            for k in (1, 10, 20):
                found = ranker.rank("Have you seen the zebra or the salmon?", k)
                ids = [hit.dia_id for hit in found]
                assert len(ids) == len(set(ids)) == k
                assert all(hit.text == known[hit.dia_id] for hit in found)


def test_mem0_ranks_the_same_turns_or_says_how_to_install_it(file: Path, minilm: MiniLM, tmp_path: Path) -> None:
    talk = load_locomo(file)[0]
    if not mem0_peer.installed():
        with pytest.raises(MissingDependency, match="pip install"), SYSTEMS["mem0ai"](talk, minilm, tmp_path):
            pass
        return
    with SYSTEMS["mem0ai"](talk, minilm, tmp_path) as ranker:
        found = ranker.rank("Who has seen the walrus?", 5)
    assert found[0] == Found("D1:2", "Bob: I have seen the walrus.")
    assert len({hit.dia_id for hit in found}) == 5


def test_turns_that_repeat_are_counted_once() -> None:
    asked = []

    def search(n: int) -> list[list[Found]]:
        asked.append(n)
        return [[Found(f"D1:{place // 3}", str(place))] for place in range(min(n, 9))]

    assert [hit.dia_id for hit in distinct_turns(search, 2)] == ["D1:0", "D1:1"]
    assert distinct_turns(search, 2)[1].text == "3"  # the first hit of a turn stands for it
    asked.clear()
    assert len(distinct_turns(search, 5)) == 3  # there are no more
    assert asked == [5, 10]


def test_a_hit_may_stand_for_several_turns_or_none() -> None:
    hits = [[], [Found("D1:1", "a"), Found("D1:2", "b")], [Found("D1:2", "c")], [Found("D1:3", "d")]]
    assert [hit.text for hit in distinct_turns(lambda n: hits[:n], 3)] == ["a", "b", "d"]


def test_the_file_is_found_or_asked_for(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LAMINA_LOCOMO", raising=False)
    assert locomo.data_file(file) == locomo.data_file(file.parent) == file
    assert not locomo.has_data(None)
    with pytest.raises(InvalidInput, match="--data FILE or set LAMINA_LOCOMO"):
        locomo.data_file(None)
    with pytest.raises(InvalidInput, match="no such file"):
        locomo.data_file(tmp_path / "nothing.json")
    monkeypatch.setenv("LAMINA_LOCOMO", str(file))
    assert locomo.data_file(None) == file


def test_it_runs_by_name(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert runner.run(["locomo"], data=file, systems=["bm25"]) == 0
    shown = capsys.readouterr().out
    assert "Recall, overall and by category" in shown
    assert "bm25" in shown
    with pytest.raises(NotFound, match="did you mean 'bm25"):
        runner.run(["locomo"], data=file, systems=["bm26"])
