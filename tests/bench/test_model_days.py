"""The experiment with a model on bad days, small; and that it would notice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import pytest

from lamina.bench import model_days
from lamina.bench.model_days import TROUBLES, dialogue, measure
from lamina.text.base import Turn
from lamina.text.prompted import statements


@pytest.fixture(autouse=True)
def _direct(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.mark.parametrize("pipeline", ["mem0", "mem0-additive"])
def test_nothing_true_is_lost_and_nothing_invented_is_active(pipeline: Literal["mem0", "mem0-additive"]) -> None:
    days = measure(7, pipeline=pipeline, exchanges=len(TROUBLES))
    assert (days.valid_kept, days.ungrounded_active, days.turns_lost, days.duplicates) == (1.0, 0, 0, 0)
    assert days.waited == 6 and days.retried_completed == 1.0  # three moods away, two turns each
    assert days.quarantined == 3  # an example, a number, a name


def test_without_the_grounding_check_inventions_become_memories(monkeypatch: pytest.MonkeyPatch) -> None:
    def trusting(text: str, turns: Sequence[Turn], names: object = ()) -> str | None:
        return None

    monkeypatch.setattr(statements, "why_ungrounded", trusting)
    assert measure(7, exchanges=len(TROUBLES)).ungrounded_active == 3


def test_without_the_rules_repetitions_become_duplicates(monkeypatch: pytest.MonkeyPatch) -> None:
    from lamina.text.base import Operation
    from lamina.text.update import RulesUpdater

    monkeypatch.setattr(RulesUpdater, "decide", lambda self, fact, *rest: Operation("add", fact, "always"))
    assert measure(7, exchanges=16).duplicates > 0


def test_the_dialogue_repeats_itself_by_seed() -> None:
    assert dialogue(3, 40) == dialogue(3, 40) != dialogue(4, 40)
    texts = [saying.text for saying in dialogue(3, 40)]
    assert len(set(texts)) < len(texts)
    assert all(saying.fact for saying in dialogue(3, 40))
    assert model_days.TROUBLES.count("valid") == 1
