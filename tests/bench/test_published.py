"""Published numbers: whole rows, in percent, that no rounding or typing error has made impossible."""

from __future__ import annotations

import pytest

from lamina.bench import report
from lamina.bench.conversations.published import LOCOMO, LONGMEMEVAL, Published

ROWS = [*LOCOMO, *LONGMEMEVAL]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.system}, {row.data}")
def test_a_row_states_its_setting_and_recall_grows_with_k(row: Published) -> None:
    assert row.system and row.encoder and row.data and row.definition
    recalls = [(int(name.partition("@")[2]), value) for name, value in row.values if name.startswith("R@")]
    assert recalls == sorted(recalls) and [value for _, value in recalls] == sorted(value for _, value in recalls)
    assert all(0 < value < 100 for _, value in row.values)


def test_rows_are_of_their_benchmark_and_told_apart() -> None:
    assert {row.data for row in LOCOMO} == {"LoCoMo-10"}
    assert all(row.data.startswith("LongMemEval") for row in LONGMEMEVAL)
    assert len({(row.system, row.data) for row in ROWS}) == len(ROWS)


def test_the_report_prints_setting_and_standing() -> None:
    document = {"bench": "locomo", "seconds": 1.0, "published": [row.to_dict() for row in LOCOMO]}
    text = report.markdown({"locomo": document})
    assert "| MemGAS | Contriever + gpt-4o-mini summaries | LoCoMo-10 | session |" in text
    assert "R@3 57.3, R@5 67.32, R@10 81.82, NDCG@3 58.76, NDCG@5 63.62, NDCG@10 68.42 | reported |" in text
    assert "Not measured here." in text
