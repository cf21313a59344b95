"""The card of Mem0: every claim is measured at toy size by the code of the experiment."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lamina.bench.card import Claim, Measurement
from lamina.bench.experiments.text.knowledge_updates import Answer, Updates
from lamina.bench.experiments.tiers import context_cost, model_days
from lamina.bench.experiments.tiers.context_cost import conversation, search_times
from lamina.bench.experiments.tiers.model_days import BadDays
from lamina.bench.synthetic import WordVectors
from lamina.bench.systems import mem0
from lamina.bench.systems.mem0 import CARD
from lamina.llm.base import Message

NEEDS_DATA = {mem0.FOUND, mem0.OVER_COSINE, mem0.OVER_ALL}


@pytest.fixture(scope="module")
def measured() -> list[Measurement]:
    return CARD.measure(0, "smoke")


def test_all_claims_but_those_on_licensed_data_are_measured(measured: list[Measurement]) -> None:
    assert {found.claim for found in measured if found.ours is None} == NEEDS_DATA


def test_what_holds_at_any_size_holds(measured: list[Measurement]) -> None:
    """Times are not looked at; the rest does not depend on the machine."""
    by_claim = {found.claim: found for found in measured}
    for claim in (
        mem0.LOST, mem0.WRONG, mem0.STALE_PLAIN, mem0.ANSWERABLE, mem0.EITHER,
        mem0.KEPT, mem0.INVENTED, mem0.ORDERED, mem0.UNREAD, mem0.RETRIED, mem0.DOUBLED,
    ):  # fmt: skip
        assert by_claim[claim].holds, by_claim[claim]
    tokens = by_claim[mem0.TOKENS]
    assert tokens.ours is not None and tokens.baseline is not None
    assert 100 < tokens.ours < tokens.baseline < 900


def test_targets_are_the_published_plan() -> None:
    targets = {claim.metric: claim.target for claim in CARD.claims}
    assert targets["tokens of the prompt"] == 6.0
    assert targets["stale@1, canonical"] == 0.05
    assert targets["stale@1, canonical and paraphrased"] == 0.25
    assert targets["wrong supersessions of pairs that hold"] == 0.02
    assert targets["LoCoMo recall@10"] in (0.70, 1.5)
    assert targets["recall@10 of the second hop"] == 0.6
    assert mem0.PAST.target == mem0.KEPT.target == mem0.RETRIED.target == mem0.CURRENT_BEST.target == 1.0
    assert mem0.INVENTED.target == mem0.ORDERED.target == mem0.UNREAD.target == mem0.LOST.target == 0.0


def _answer(lamina: str, nearest: str, newest: str, phrasing: str = "canonical") -> Answer:
    said = {"lamina": lamina, "nearest": nearest, "newest of two": newest}
    return Answer(phrasing, said, said)  # type: ignore[arg-type]


def test_current_is_claimed_against_the_better_baseline_whichever_it_is() -> None:
    answers = (
        _answer("new", "old", "new"), _answer("old", "old", "new"), _answer("new", "new", "new"),
        _answer("old", "old", "new", "coexisting"), _answer("old", "old", "old", "coexisting"),
    )  # fmt: skip
    by_claim = {found.claim: found for found in mem0._updates(Updates(answers, 0.0, 0.0, 0, ()))}
    best, standing = by_claim[mem0.CURRENT_BEST], by_claim[mem0.STANDING]
    assert (best.baseline_name, best.baseline, best.holds) == ("newest of the two nearest by cosine", 1.0, False)
    assert best.ratio == pytest.approx(2 / 3)
    assert (standing.baseline_name, standing.baseline, standing.holds) == ("nearest by cosine", 1.0, True)
    assert by_claim[mem0.CURRENT].baseline == pytest.approx(1 / 3)
    assert "implied" in by_claim[mem0.STALE_TALK].baseline_name


GOOD = BadDays(1.0, 0, 0, 0, 0, 0, 1.0, 6, 6, ())


@pytest.mark.parametrize(
    ("claim", "bad"),
    [
        (mem0.KEPT, replace(GOOD, facts_kept=0.99)),
        (mem0.INVENTED, replace(GOOD, invented_active=1)),
        (mem0.SWAPPED, replace(GOOD, swapped_active=1)),
        (mem0.ORDERED, replace(GOOD, orders_active=1)),
        (mem0.UNREAD, replace(GOOD, turns_lost=1)),
        (mem0.RETRIED, replace(GOOD, retried_completed=0.9)),
        (mem0.DOUBLED, replace(GOOD, duplicates=1)),
    ],
)
def test_one_bad_pipeline_fails_its_claim_alone(claim: Claim, bad: BadDays, monkeypatch: pytest.MonkeyPatch) -> None:
    days = {"mem0": GOOD, "mem0-additive": bad}
    monkeypatch.setattr(model_days, "measure", lambda seed, pipeline, exchanges: days[pipeline])
    assert [found.claim for found in mem0._bad_days(0, "smoke") if not found.holds] == [claim]


def test_the_conversation_holds_each_answer_once_and_its_question_in_other_words() -> None:
    lines, planted = conversation(0, lambda text: len(text.split()), 2000, 12)
    assert sum(len(line.split()) + 1 for line in lines) <= 2000
    assert lines != conversation(1, lambda text: len(text.split()), 2000, 12)[0]
    for one in planted:
        assert lines.count(one.line) == 1
        assert one.question not in one.line
    assert len({one.question for one in planted}) == 12


class _Talker:
    """What the experiment needs of a chat model, without one."""

    def count_tokens(self, text: str) -> int:
        return len(text.split())

    def stream(self, messages: Sequence[Message], *, max_tokens: int) -> Iterator[str]:
        yield messages[-1]["content"][:1]


def test_a_question_whose_evidence_is_not_found_is_no_saving(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten wrong lines are as short as ten right ones: they must not count."""
    talker: Any = _Talker()
    right = context_cost.measure(WordVectors(), talker, 0, 1000, 4)
    assert right.answerable > 0.5
    assert len(right.full_ms) == len(right.retrieved_tokens) == round(right.answerable * 4)
    monkeypatch.setattr(context_cost, "_ten", lambda memory, question: "Ada: hello.\n" * 10)
    wrong = context_cost.measure(WordVectors(), talker, 0, 1000, 4)
    assert (wrong.answerable, wrong.full_tokens, wrong.retrieved_ms) == (0.0, (), ())


def test_every_search_is_timed() -> None:
    times = search_times(WordVectors(), 0, 50, 7)
    assert len(times) == 7
    assert all(time > 0 for time in times)


def test_plot(measured: list[Measurement], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    assert CARD.plot is not None
    CARD.plot(measured, tmp_path / "mem0.png")
    assert (tmp_path / "mem0.png").read_bytes().startswith(b"\x89PNG")
