"""Rerankers only reorder, whatever a model answers; a failing one leaves the search as it was."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamina import Memory
from lamina.bench.synthetic import WordVectors
from lamina.errors import InvalidInput, LLMError
from lamina.text.reranking import ChatReranker, CrossEncoderReranker, Reranker, reranker


class Orders:
    """A chat model that answers with a given order."""

    name = "orders"

    def __init__(self, order: Sequence[int] | None) -> None:
        self._order = order
        self.asked: list[str] = []

    def chat(self, messages: Any, *, schema: Any = None, max_tokens: int = 256) -> Any:
        self.asked.append(messages[-1]["content"])
        if self._order is None:
            raise LLMError("orders: out of order")
        return schema(order=list(self._order))


@given(st.lists(st.integers(-3, 12), max_size=12), st.integers(1, 10), st.integers(1, 10))
def test_a_model_can_only_reorder(order: list[int], documents: int, k: int) -> None:
    ranked = ChatReranker(Orders(order)).rerank("q", [f"note {n}" for n in range(documents)], k)
    chosen = [place for place, _ in ranked]
    valid = [n for n in dict.fromkeys(order) if 0 <= n < documents]
    assert len(chosen) == min(k, documents)
    assert len(set(chosen)) == len(chosen)
    assert chosen[: len(valid)] == valid[:k]
    assert [score for _, score in ranked] == sorted((score for _, score in ranked), reverse=True)


def talk(path: Path, by: Reranker | None) -> Memory:
    memory = Memory(path, embedder=WordVectors(), reranker=by)
    for day, text in enumerate(("I like tea in Boston.", "Boston is cold.", "I live in Boston."), 1):
        memory.add(text, user_id="ann", timestamp=f"2024-05-0{day}", infer=False)
    return memory


def found(memory: Memory, **how: Any) -> list[str]:
    rows = memory.search("Boston", filters={"user_id": "ann"}, explain=True, **how)["results"]
    return [row["memory"] for row in rows]


def test_search_takes_the_rerankers_order(tmp_path: Path) -> None:
    model = Orders([2, 0])
    with talk(tmp_path / "m.db", ChatReranker(model)) as memory:
        plain = found(memory)
        again = memory.search("Boston", filters={"user_id": "ann"}, rerank=True, top_k=2, explain=True)["results"]
        assert [row["memory"] for row in again] == [plain[2], plain[0]]
        assert again[0]["score_details"]["rerank"] == 1.0
        assert all(text in model.asked[0] for text in plain)  # it saw more than it was to return


def test_a_failing_model_leaves_the_order(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with talk(tmp_path / "m.db", ChatReranker(Orders(None))) as memory:
        assert found(memory, rerank=True) == found(memory)
    assert "out of order" in caplog.text


def test_reranking_without_a_reranker_is_refused(tmp_path: Path) -> None:
    with talk(tmp_path / "m.db", None) as memory, pytest.raises(InvalidInput, match="LAMINA_RERANKER"):
        found(memory, rerank=True)


def test_specs() -> None:
    assert reranker("none", None) is None
    assert isinstance(reranker("cross-encoder:some/model", None), CrossEncoderReranker)
    assert isinstance(reranker("llm", Orders([])), ChatReranker)
    for spec in ("llm", "cross-encoder:", "magic"):
        with pytest.raises(InvalidInput, match="reranker="):
            reranker(spec, None)


def test_a_cross_encoder_sorts_by_its_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    class Lengths:
        def predict(self, pairs: list[tuple[str, str]]) -> list[float]:
            return [float(len(text)) for _, text in pairs]

    by = CrossEncoderReranker("lengths")
    monkeypatch.setattr(by, "_model", Lengths())
    assert by.rerank("q", ["aa", "a", "aaa"], 2) == [(2, 3.0), (0, 2.0)]
