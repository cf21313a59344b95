"""The protocol of MemGAS's table: gold as published, every gold session counts, both discounts."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamina.bench.conversations.session_protocol import SessionScore, gold_sessions, mean_score, score_sessions
from lamina.errors import InvalidInput


@pytest.mark.parametrize(
    ("evidence", "gold"),
    [
        (["D1:3"], {"session_1"}),
        (["D1:3", "D1:9", "D12:1"], {"session_1", "session_12"}),
        (["D8:6; D9:17"], set()),  # joined ids are skipped, not repaired
        (["D9:1 D4:4 D4:6"], set()),
        (["D"], set()),
        (["D:11:26"], {"session_"}),  # the impossible one: the question can never be answered
        (["D30:05"], {"session_30"}),
        (["D8:6; D9:17", "D2:1"], {"session_2"}),
        ([], set()),
    ],
)
def test_gold_is_read_as_the_table_reads_it(evidence: list[str], gold: set[str]) -> None:
    assert gold_sessions(evidence) == gold


def test_worked_example() -> None:
    score = score_sessions(["a", "b", "c", "d"], {"b", "d"}, 3)
    assert score.recall_all == 0.0
    assert score.recall_any == 1.0
    assert score.recall_fraction == 0.5
    assert score.ndcg_memgas == pytest.approx((1 / math.log2(2)) / (1 + 1 / math.log2(2)))
    assert score.ndcg == pytest.approx((1 / math.log2(3)) / (1 + 1 / math.log2(3)))
    assert score_sessions(["b", "d", "a"], {"b", "d"}, 2) == SessionScore(1, 1, 1, 1, 1)
    # Ranks 1 and 2 count alike under MemGAS's discount, not under the standard one.
    second = score_sessions(["a", "b"], {"b"}, 2)
    assert second.ndcg_memgas == 1.0
    assert second.ndcg == pytest.approx(1 / math.log2(3))


def test_no_gold_counts_as_found_and_earns_nothing_and_impossible_gold_is_never_found() -> None:
    assert score_sessions(["a", "b"], set(), 1) == SessionScore(1, 1, 1, 0, 0)
    assert score_sessions(["session_1"], {"session_"}, 10) == SessionScore(0, 0, 0, 0, 0)
    half = score_sessions(["session_1"], {"session_", "session_1"}, 10)
    assert (half.recall_all, half.ndcg_memgas, half.ndcg) == (0, 1, 1)  # the ideal knows the corpus only


def naive(ranking: list[int], gold: set[int], k: int) -> tuple[float, float]:
    def dcg(labels: list[int], standard: bool) -> float:
        total = 0.0
        for at, label in enumerate(labels[:k]):
            total += label / (math.log2(at + 2) if standard else 1.0 if at == 0 else math.log2(at + 1))
        return total

    labels = [int(item in gold) for item in ranking]
    best = sorted(labels)[::-1]
    return tuple(dcg(labels, form) / dcg(best, form) if dcg(best, form) else 0.0 for form in (False, True))  # type: ignore[return-value]


@given(st.permutations(range(12)), st.sets(st.integers(0, 11), min_size=1, max_size=12), st.integers(1, 15))
def test_it_equals_the_definitions_written_out(ranking: list[int], gold: set[int], k: int) -> None:
    names, wanted = [f"s{n}" for n in ranking], {f"s{n}" for n in gold}
    score = score_sessions(names, wanted, k)
    top = set(ranking[:k])
    assert score.recall_all == float(gold <= top)
    assert score.recall_any == float(bool(gold & top))
    assert score.recall_fraction == pytest.approx(len(gold & top) / len(gold))
    assert (score.ndcg_memgas, score.ndcg) == pytest.approx(naive(ranking, gold, k))
    assert score.recall_all <= score.recall_fraction <= score.recall_any
    assert score.ndcg <= score.ndcg_memgas + 1e-12 or k > 1


def test_means_are_over_questions() -> None:
    scores = [SessionScore(1, 1, 1, 1, 1), SessionScore(0, 1, 0.5, 0.5, 0)]
    assert mean_score(scores) == SessionScore(0.5, 1, 0.75, 0.75, 0.5)
    with pytest.raises(InvalidInput):
        mean_score([])


def test_impossible_questions_are_refused() -> None:
    with pytest.raises(InvalidInput, match="k="):
        score_sessions(["a"], {"a"}, 0)
    with pytest.raises(InvalidInput, match="twice"):
        score_sessions(["a", "a"], {"a"}, 1)
