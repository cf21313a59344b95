"""The LoCoMo loader on a file made here, and every metric against values worked out by hand."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamina.bench.conversations.dataset import load_locomo, parse_time, repair_evidence
from lamina.bench.conversations.metrics import Score, by_category, interval, mean, score
from lamina.errors import InvalidInput


def sample() -> dict[str, Any]:
    def said(session: int, n: int, text: str, **more: str) -> dict[str, str]:
        return {"speaker": "Ann" if n % 2 else "Bob", "dia_id": f"D{session}:{n}", "text": text, **more}

    return {
        "sample_id": "conv-1",
        "conversation": {
            "speaker_a": "Ann",
            "speaker_b": "Bob",
            "session_10": [said(10, 1, "Ten"), said(10, 2, "Eleven")],
            "session_10_date_time": "12:05 am on 3 March, 2024",
            "session_2": [said(2, 1, "Look!", blip_caption="a red boat", query="hidden"), said(2, 2, "Nice")],
            "session_2_date_time": "1:56 pm on 8 May, 2023",
            "session_3": [],
            "session_11_date_time": "1:56 pm on 9 May, 2023",
        },
        "qa": [
            {"question": "When?", "answer": 2022, "evidence": ["D2:1"], "category": 2},
            {"question": "What?", "answer": "x", "category": 1,
             "evidence": ["D2:2; D10:1", "D:10:2", "D2:02", "D", "D9:9"]},
            {"question": "Why?", "answer": "y", "evidence": ["D10:19"], "category": 4},
            {"question": "Who?", "evidence": ["D2:1"], "category": 5},
        ],
    }  # fmt: skip


def written(tmp_path: Path, data: Any) -> Path:
    path = tmp_path / "locomo.json"
    path.write_text(data if isinstance(data, str) else json.dumps(data))
    return path


def test_turns_in_order_of_sessions(tmp_path: Path) -> None:
    (talk,) = load_locomo(written(tmp_path, [sample()]))
    assert talk.name == "conv-1" and talk.speakers == ("Ann", "Bob")
    assert [turn.dia_id for turn in talk.turns] == ["D2:1", "D2:2", "D10:1", "D10:2"]
    first, last = talk.turns[0], talk.turns[-1]
    assert first.text == "Look! [shares an image: a red boat]"
    assert (first.speaker, first.session, first.ordinal) == ("Ann", "session_2", 0)
    assert first.at == datetime(2023, 5, 8, 13, 56, tzinfo=UTC)
    assert last.at == datetime(2024, 3, 3, 0, 5, tzinfo=UTC) and last.ordinal == 1


def test_questions_and_their_repaired_evidence(tmp_path: Path) -> None:
    (talk,) = load_locomo(written(tmp_path, [sample()]))
    assert [q.evidence for q in talk.questions] == [("D2:1",), ("D2:2", "D10:1", "D10:2"), (), ("D2:1",)]
    assert talk.questions[1].cited == ("D2:2; D10:1", "D:10:2", "D2:02", "D", "D9:9")  # as published
    assert [q.answer for q in talk.questions] == ["2022", "x", "y", None]
    assert talk.repaired == 6
    assert [q.text for q in talk.answerable()] == ["When?", "What?"]
    assert [q.text for q in talk.answerable([5])] == ["Who?"]


@pytest.mark.parametrize(
    ("entries", "evidence", "repaired"),
    [
        (["D8:6; D9:17"], ("D8:6", "D9:17"), 1),
        (["D9:17 D8:6 D30:5"], ("D9:17", "D8:6", "D30:5"), 1),
        (["D30:05"], ("D30:5",), 1),
        (["D:8:6"], ("D8:6",), 1),
        (["D", "D10:19", ""], (), 3),
        (["D8:6", "D8:6"], ("D8:6",), 0),
    ],
)
def test_repairs(entries: list[str], evidence: tuple[str, ...], repaired: int) -> None:
    assert repair_evidence(entries, {"D8:6": 0, "D9:17": 0, "D30:5": 0}) == (evidence, repaired)


def broken(change: Callable[[dict[str, Any]], Any]) -> list[dict[str, Any]]:
    data = sample()
    change(data)
    return [data]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("{", "not JSON"),
        ([], "non-empty list"),
        ({"a": 1}, "non-empty list"),
        (broken(lambda d: d.pop("sample_id")), r"\[0\]\.sample_id"),
        (broken(lambda d: d["conversation"]["session_2"][1].pop("text")), r"session_2\[1\]\.text"),
        (broken(lambda d: d["conversation"].pop("session_2_date_time")), "session_2_date_time"),
        (broken(lambda d: d["conversation"].update(session_2_date_time="May 8")), "1:56 pm on 8 May, 2023"),
        (broken(lambda d: d["qa"][0].update(category=9)), r"qa\[0\]\.category is 9"),
        (broken(lambda d: d["qa"][1].update(evidence="D2:1")), r"qa\[1\]\.evidence"),
        (broken(lambda d: d.update(conversation={"speaker_a": "A", "speaker_b": "B"})), "no session"),
        ([1], r"\[0\]\.conversation"),
    ],
)
def test_malformed_files_are_refused_with_the_place(tmp_path: Path, data: Any, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        load_locomo(written(tmp_path, data))


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="cannot be read"):
        load_locomo(tmp_path / "nowhere.json")


def test_midnight_and_noon() -> None:
    assert parse_time("12:00 am on 1 January, 2023").hour == 0
    assert parse_time(" 12:00 pm on 1 January, 2023").hour == 12


# -- metrics -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ranking", "evidence", "k", "expected"),
    [
        ("abc", {"a"}, 1, Score(1, 1, 1, 1)),
        ("abc", {"c"}, 2, Score(0, 0, 0, 0)),
        # hits at ranks 2 and 3: (1/log2 3 + 1/log2 4) / (1 + 1/log2 3) = 1.13093 / 1.63093
        ("abc", {"b", "c"}, 3, Score(1, 1, 1, 0.693426)),
        # two of four at ranks 1 and 3; ideal within 3: 1 + 0.63093 + 0.5 = 2.13093
        ("abc", {"a", "c", "x", "y"}, 3, Score(0.5, 1, 0, 1.5 / 2.1309298)),
        # a short ranking
        ("a", {"a", "b"}, 10, Score(0.5, 1, 0, 1 / 1.6309298)),
        ("", {"a"}, 5, Score(0, 0, 0, 0)),
    ],
)
def test_score_by_hand(ranking: str, evidence: set[str], k: int, expected: Score) -> None:
    found = score(list(ranking), evidence, k)
    for name in ("recall", "recall_any", "recall_all", "ndcg"):
        assert getattr(found, name) == pytest.approx(getattr(expected, name), abs=1e-6)


@given(st.permutations(range(12)), st.sets(st.integers(0, 11), min_size=1), st.integers(1, 12))
def test_bounds_and_monotony(ranking: list[int], evidence: set[int], k: int) -> None:
    found = score(ranking, evidence, k)
    assert 0 <= found.recall_all <= found.recall <= found.recall_any <= 1
    assert 0 <= found.ndcg <= 1 + 1e-12
    assert score(ranking, evidence, 12).recall == 1
    assert score(sorted(ranking, key=lambda n: n not in evidence), evidence, k).ndcg == pytest.approx(1)


@pytest.mark.parametrize(("ranking", "evidence", "k"), [("ab", set(), 1), ("ab", {"a"}, 0), ("aa", {"a"}, 2)])
def test_meaningless_questions_are_refused(ranking: str, evidence: set[str], k: int) -> None:
    with pytest.raises(InvalidInput):
        score(list(ranking), evidence, k)


def test_means() -> None:
    scores = [Score(1, 1, 1, 1), Score(0, 0, 0, 0), Score(0.5, 1, 0, 0.25)]
    assert mean(scores) == Score(0.5, 2 / 3, 1 / 3, 1.25 / 3)
    assert by_category(scores, [4, 1, 4]) == {1: scores[1], 4: Score(0.75, 1, 0.5, 0.625)}
    with pytest.raises(InvalidInput):
        mean([])


def test_interval_resamples_conversations() -> None:
    assert interval({"a": [0.5] * 9, "b": [0.5]}) == (0.5, 0.5)
    # two conversations: a resample is (a, a), (a, b) or (b, b), so the extremes are their own means
    assert interval({"a": [0.0, 0.0, 0.0], "b": [1.0]}) == (0.0, 1.0)
    # weighted by questions: the middle resample has mean 1/4
    assert interval({"a": [0.0, 0.0, 0.0], "b": [1.0]}, level=0.001) == pytest.approx((0.25, 0.25))
    # one conversation alone says nothing about others
    assert interval({"a": [0.0, 1.0], "empty": []}) == (0.5, 0.5)
    with pytest.raises(InvalidInput):
        interval({})
    with pytest.raises(InvalidInput):
        interval({"a": [1.0]}, level=1.0)


def test_interval_covers_the_truth() -> None:
    """Over many draws of ten conversations, the 90 % interval holds the true mean most of the time."""
    import numpy as np

    rng = np.random.default_rng(1)
    covered = 0
    for seed in range(100):
        level = rng.normal(0.6, 0.1, 10)
        values = {str(n): rng.normal(level[n], 0.3, 40).tolist() for n in range(10)}
        low, high = interval(values, level=0.9, rounds=400, seed=seed)
        covered += low <= 0.6 <= high
    assert 75 <= covered <= 98
