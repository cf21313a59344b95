"""The experiment with a model on bad days, small; and that each of its numbers falls when its guard is switched off."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest

from lamina.bench.experiments.tiers import model_days
from lamina.bench.experiments.tiers.model_days import (
    PIPELINES,
    TROUBLES,
    BadDays,
    Moody,
    PipelineName,
    dialogue,
    measure,
)
from lamina.cube.cube import MemCube
from lamina.text.base import Fact, Operation, Turn
from lamina.text.pending import PendingQueue
from lamina.text.prompted import additive, extraction, grounding, reading, statements
from lamina.text.prompted.update import Decision, PromptedUpdater
from lamina.text.update import RulesUpdater

ONE_OF_EACH = len(TROUBLES)


@pytest.fixture(autouse=True)
def _direct(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def small(pipeline: PipelineName = "mem0", exchanges: int = ONE_OF_EACH) -> BadDays:
    return measure(7, pipeline=pipeline, exchanges=exchanges)


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_all_that_was_said_is_kept_and_nothing_else(pipeline: PipelineName) -> None:
    days = small(pipeline)
    assert (days.facts_kept, days.missing) == (1.0, ())
    assert (days.invented_active, days.orders_active, days.turns_lost, days.duplicates) == (0, 0, 0, 0)
    assert days.waited == 6 and days.retried_completed == 1.0  # three moods away, two turns each
    assert days.quarantined >= len(model_days._INVENTING) - 1  # a swapped verb is mostly taken for a paraphrase


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_without_a_retry_turns_and_facts_are_missing(pipeline: PipelineName, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PendingQueue, "retry", lambda self, tenant: {"extracted": 6, "waiting": 0})
    days = small(pipeline)
    assert days.retried_completed == 0.0
    assert days.turns_lost == days.waited == 6
    assert days.facts_kept < 1.0


@pytest.mark.parametrize("module", [extraction, additive], ids=PIPELINES)
def test_without_the_rules_what_a_model_refuses_is_missing(module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "by_turn", lambda *args, **names: [])
    days = small("mem0" if module is extraction else "mem0-additive")
    assert days.facts_kept < 1.0


def test_without_the_grounding_check_every_invention_becomes_a_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def trusting(text: str, turns: Sequence[Turn], names: object = ()) -> str | None:
        return None

    monkeypatch.setattr(statements, "why_ungrounded", trusting)
    days = small("mem0-additive")
    assert days.invented_active == len(model_days._INVENTING) - 1
    assert days.swapped_active == 1
    assert days.quarantined <= len(model_days._TOOL)


def test_without_the_share_of_words_invented_words_become_a_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grounding, "SHARE", 0.0)
    assert small("mem0-additive").invented_active > 0


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_without_the_look_at_orders_a_tool_gives_them(pipeline: PipelineName, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "why_refused", lambda text, turn: None)
    assert small(pipeline).orders_active > 0


@pytest.mark.parametrize("event", ["NOOP", "DELETE"])
def test_a_model_that_is_believed_loses_what_is_true(event: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = {"NOOP": "noop", "DELETE": "supersede"}

    def believing(self: PromptedUpdater, decision: Decision, asked: Any) -> Operation:
        fact: Fact = asked.facts[decision.fact][0]
        if decision.event != event or decision.id is None or decision.id >= len(asked.memories):
            return Operation("add", fact, "added")
        target: MemCube = asked.memories[decision.id]
        return Operation(kinds[event], fact, "as told", target)  # type: ignore[arg-type]

    monkeypatch.setattr(PromptedUpdater, "_operation", believing)
    assert small(exchanges=2 * ONE_OF_EACH).facts_kept < 1.0


def test_without_the_rules_repetitions_become_duplicates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RulesUpdater, "decide", lambda self, fact, *rest: Operation("add", fact, "always"))
    assert small("mem0-additive").duplicates > 0


def test_a_turn_that_is_not_stored_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    from lamina.memory import Memory

    add = Memory.add

    def forgetful(self: Memory, messages: Any, **names: Any) -> dict[str, Any]:
        return add(self, messages[:-1], **names)

    monkeypatch.setattr(Memory, "add", forgetful)
    assert small().turns_lost >= ONE_OF_EACH


def test_every_trouble_comes_equally_often_and_the_tool_speaks_in_its_own() -> None:
    assert len(set(TROUBLES)) == len(TROUBLES)
    (saying,) = dialogue(3, 1)
    for mood in TROUBLES:
        roles = [message["role"] for message in model_days._messages(saying, mood)]
        assert roles == (["tool"] if mood in model_days._TOOL else []) + ["user", "assistant"]


@pytest.mark.parametrize(
    ("verdict", "event", "id"), [("NOOP", "NOOP", 1), ("DELETE", "DELETE", 1), ("right", "NOOP", 0)]
)
def test_wrong_verdicts_are_about_the_least_like_memory(verdict: str, event: str, id: int) -> None:
    model = Moody({}, {}, random.Random(0), iter([verdict]))
    prompt = 'EXISTING memories:\n0: "Ana sold a lamp."\n1: "Bo finds tents dull."\n\nNEW facts:\n0: "Ana sold a lamp."'
    (decision,) = model._decisions(prompt)
    assert (decision["fact"], decision["event"], decision["id"]) == (0, event, id)


def test_the_dialogue_repeats_itself_by_seed() -> None:
    assert dialogue(3, 40) == dialogue(3, 40) != dialogue(4, 40)
    texts = [saying.text for saying in dialogue(3, 40)]
    assert len(set(texts)) < len(texts)
    assert all(saying.fact for saying in dialogue(3, 40))
