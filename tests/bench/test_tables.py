"""Rows of the comparing tables against values worked out by hand."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import locomo_file
import pytest

from lamina.bench import report
from lamina.bench.conversations import tables
from lamina.bench.conversations.baselines import Build, Found, Ranker, chance
from lamina.bench.conversations.dataset import Conversation, Question, load_locomo
from lamina.bench.conversations.evaluation import DEEP, Asked, Run, deepened, evaluate
from lamina.llm.base import Embedder
from lamina.llm.embed import MiniLM


def asked(ids: str, evidence: str, *, category: int = 1, tokens: Sequence[int] | None = None, talk: str = "c") -> Asked:
    """Results are letters; the session of a letter is itself in upper case."""
    counted = tuple(tokens or [10] * len(ids))
    question = Question(f"{ids}?", "x", tuple(evidence), category)
    sessions = tuple(dict.fromkeys(ids.upper()))
    return Asked(talk, question, tuple(ids), counted, tuple(ids), counted, sessions)


@pytest.mark.parametrize(
    ("budget", "kept"), [(0, ""), (9, ""), (10, "a"), (29.9, "a"), (30, "ab"), (31, "abc"), (1000, "abcd")]
)
def test_results_fill_a_budget_until_one_does_not_fit(budget: float, kept: str) -> None:
    assert "".join(tables.fitting(asked("abcd", "a", tokens=[10, 20, 1, 1]), budget)) == kept


def test_equal_tokens_cost_what_the_first_system_costs() -> None:
    """The first system's ten results cost 20 tokens on average; the second's results are half as long."""
    long = Run([asked("ab", "b", tokens=[10, 10]), asked("cd", "xd", category=2, tokens=[10, 10])], 1.0, 2.0)
    short = Run([asked("xyzb", "b", tokens=[5] * 4), asked("xcdy", "xd", category=2, tokens=[5] * 4)], 0.0, 0.5)
    rows = tables.turn_table({"long": long, "short": short}, lambda _: True, {1: "one", 2: "two"}, 0)
    assert rows["long"]["tokens@10"] == 20 and rows["short"]["tokens@10"] == 20
    assert rows["long"]["equal_tokens"] == {
        "budget": 20,
        "recall": 0.75,
        "turns": 2,
        "by_category": {"one": 1, "two": 0.5},
    }
    assert rows["short"]["equal_tokens"]["by_category"] == {"one": 1, "two": 1}
    assert (rows["long"]["seconds"], rows["long"]["ms_per_question"]) == (3.0, 1000.0)
    shown = report.markdown({"x": {"bench": "x", "seconds": 1.0, "systems": rows}})
    assert "**Recall at equal tokens (20)**" in shown
    assert "| long | 0.75 | 1 | 0.5 | 2 |" in shown


def test_only_questions_that_count_are_counted() -> None:
    run = Run([asked("ab", "a"), asked("ab", "", category=5)])
    row = tables.turn_row(run, lambda one: bool(one.question.evidence), {1: "one", 5: "five"}, 0)
    assert row["recall@10"] == 1.0 and set(row["by_category"]) == {"one"}
    assert row["by_conversation"] == {"c": {"questions": 1, "recall@10": 1.0}}


def gold(one: Asked) -> frozenset[str]:
    return frozenset(letter.upper() for letter in one.question.evidence)


def test_sessions_count_where_they_first_appear() -> None:
    """Gold D stands fourth in the first ranking; the second question's gold A stands first, E nowhere."""
    found = [asked("aabcd", "d"), asked("abc", "ae")]
    row = tables.session_row(found, gold, {"c": list("ABCDE")})
    assert (row["questions"], row["several"]["questions"]) == (2, 1)
    assert (row["recall_all@3"], row["recall_any@3"], row["recall_fraction@3"]) == (0.0, 0.5, 0.25)
    assert (row["recall_all@5"], row["recall_fraction@5"]) == (0.5, 0.75)
    assert row["several"]["recall_all@10"] == 0.0  # E was not returned: a short ranking earns nothing


def test_what_is_not_returned_stands_beyond_every_cut() -> None:
    whole = tables.whole(["B"], ["A", "B", "C"], 4)
    assert whole[0] == "B" and whole[4:] == ["A", "C"] and len(set(whole)) == 6
    assert tables.whole(["A", "B"], ["A", "B"], 2) == ["A", "B"]


class Endless:
    """Ranks 400 turns of 20 sessions, 20 turns a session."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def rank(self, query: str, k: int) -> list[Found]:
        self.asked.append(k)
        return [Found(f"{place // 20}:{place}", "") for place in range(min(k, 400))]


def test_every_system_is_warmed_once_and_then_meets_each_conversation_in_turn(tmp_path: Path, minilm: MiniLM) -> None:
    talks = load_locomo(locomo_file.write(tmp_path))
    met: list[tuple[str, int]] = []

    def builder(name: str) -> Build:
        @contextmanager
        def build(talk: Conversation, embedder: Embedder, folder: Path) -> Iterator[Ranker]:
            met.append((name, len(talk.turns)))
            with chance(talk, embedder, folder) as ranker:
                yield ranker

        return build

    heard: list[str] = []
    runs = evaluate(
        iter(talks),
        {"a": builder("a"), "b": builder("b")},
        minilm,
        listen=lambda name, talk, question, found: heard.append(f"{name} {talk.name} {question.text} {len(found)}"),
    )
    assert met == [("a", 8), ("b", 8), ("a", 24), ("b", 24), ("a", 24), ("b", 24)]
    assert len(runs["a"].asked) == len(runs["b"].asked) == 7 and len(heard) == 14
    assert heard[0] == "a conv-1 Who has seen the walrus? 20"
    one = runs["a"].asked[0]
    assert len(one.turns) == 20 and len(one.deep) == len(one.tokens) == 24
    assert set(one.sessions) == {"session_1", "session_2"}


def test_a_longer_ranking_is_asked_for_until_ten_sessions_are_seen() -> None:
    ranker = Endless()
    session_of = {hit.dia_id: hit.dia_id.split(":")[0] for hit in ranker.rank("", 400)}
    ranker.asked.clear()
    found = deepened(ranker, "?", session_of)
    assert ranker.asked == [DEEP, 2 * DEEP, 4 * DEEP] and len({session_of[hit.dia_id] for hit in found}) == 10
    one_session = dict.fromkeys(session_of, "the only one")
    assert len(deepened(ranker, "?", one_session)) == DEEP
