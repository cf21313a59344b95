"""The language model's path: what is grounded is used, what is not is dropped and counted, and failure means rules."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from lamina.bench.synthetic import WordVectors
from lamina.cube.cube import Scope
from lamina.errors import LLMError
from lamina.llm.base import Message
from lamina.llm.structured import parse
from lamina.store.sqlite import SqliteStore
from lamina.text.notes.book import NoteBook

ME = Scope(user="me")
T0 = datetime(2024, 5, 1, 9, tzinfo=UTC)


class Scripted:
    """Answers in order; ``None`` is a server that cannot be reached."""

    name = "scripted"

    def __init__(self, *answers: dict[str, Any] | None) -> None:
        self.left = list(answers)
        self.asked: list[str] = []

    def chat(self, messages: Sequence[Message], *, schema: Any = None, max_tokens: int = 256) -> Any:
        self.asked.append(messages[-1]["content"])
        answer = self.left.pop(0) if self.left else None
        if answer is None:
            raise LLMError("connection refused")
        try:
            return parse(json.dumps(answer), schema)
        except ValueError as error:
            raise LLMError(str(error)) from error

    def stream(self, messages: Sequence[Message], *, max_tokens: int = 256) -> Iterator[str]:
        raise NotImplementedError

    def count_tokens(self, text: str) -> int:
        return len(text.split())


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    with SqliteStore(tmp_path / "n.db", durable=False) as store:
        yield store


def book(store: SqliteStore, *answers: dict[str, Any] | None) -> tuple[NoteBook, Scripted]:
    model = Scripted(*answers)
    return NoteBook(store, WordVectors(), model), model


def note(context: str, *keywords: str, tags: Sequence[str] = ("travel", "plan", "statement")) -> dict[str, Any]:
    return {"keywords": list(keywords), "tags": list(tags), "context": context}


PLAN, NEWS = "Lena booked a week in Lisbon.", "The Lisbon week fell through."
OF_PLAN = note("Lena booked a week in Lisbon", "Lisbon", "week", "booked")
OF_NEWS = note("The week in Lisbon fell through", "Lisbon", "week", "fell through")
NOTHING: dict[str, Any] = {"links": [], "evolutions": []}


def add(notes: NoteBook, text: str, hours: int = 0) -> Any:
    return notes.add(text, scope=ME, time=T0 + timedelta(hours=hours))


def test_the_model_writes_links_and_evolves(store: SqliteStore) -> None:
    changed = {
        "id": 0,
        "context": "Lena booked a week in Lisbon, it fell through",
        "keywords": ["Lisbon", "fell through"],
    }
    answer = {
        "links": [{"to": 0, "type": "contrasts", "why": "the plan did not hold"}],
        "evolutions": [{**changed, "tags": ["travel", "cancelled"]}],
    }
    notes, model = book(store, OF_PLAN, OF_NEWS, answer)
    plan, news = add(notes, PLAN), add(notes, NEWS, 2)
    assert plan.context == "Lena booked a week in Lisbon"
    assert "[0]" in model.asked[2] and PLAN in model.asked[2]
    (edge,) = notes.links(news.id)
    assert (edge.relation, edge.target, edge.reason) == ("contrasts", plan.id, "by a model; both mention lisbon, week")
    now = notes.get(plan.id)
    assert now.version == 2 and now.content == PLAN and "cancelled" in now.tags and news.id in now.because
    assert notes.connector.counts == {"unknown_ids": 0, "ungrounded": 0}


def test_labels_that_were_not_given_are_dropped_and_counted(store: SqliteStore) -> None:
    answer = {
        "links": [{"to": 7, "type": "cause", "why": "x"}, {"to": -1, "type": "cause", "why": "x"}],
        "evolutions": [{"id": 99, "context": "Lisbon week", "keywords": ["Lisbon"], "tags": ["a"]}],
    }
    notes, _ = book(store, OF_PLAN, OF_NEWS, answer)
    plan, news = add(notes, PLAN), add(notes, NEWS, 2)
    assert notes.links(news.id) == [] and notes.get(plan.id).version == 1
    assert notes.connector.counts["unknown_ids"] == 3


@pytest.mark.parametrize(
    "invented", ["Lena met Bob in Lisbon", "Lena paid 900 for a week in Lisbon", "All is quiet now"]
)
def test_a_context_about_something_else_is_refused(store: SqliteStore, invented: str) -> None:
    notes, _ = book(store, note(invented, "Lisbon", "week", "booked"))
    plan = add(notes, PLAN)
    assert plan.context != invented and "about" in plan.context
    assert notes.connector.counts["ungrounded"] == 1


def test_an_evolution_may_not_bring_in_words(store: SqliteStore) -> None:
    drift = {"id": 0, "context": "Lena booked a week in Lisbon with Bob", "keywords": ["Lisbon"], "tags": ["travel"]}
    notes, _ = book(store, OF_PLAN, OF_NEWS, {"links": [], "evolutions": [drift]})
    plan, _ = add(notes, PLAN), add(notes, NEWS, 2)
    assert notes.get(plan.id).version == 1
    assert notes.connector.counts["ungrounded"] == 1


def test_keywords_the_turn_does_not_hold_are_dropped(store: SqliteStore) -> None:
    notes, _ = book(store, note("Lena booked a week in Lisbon", "Lisbon", "Madrid", "week"))
    assert add(notes, PLAN).keywords == ("Lisbon", "week")


@pytest.mark.parametrize(
    "answers",
    [
        (None, None, None),
        (OF_PLAN, None, None),
        ({"keywords": ["one"]}, OF_NEWS, {"links": "none"}),
        (note("word " * 60, "Lisbon", "week", "booked"), OF_NEWS, None),
    ],
)
def test_failure_means_rules_for_that_note(store: SqliteStore, answers: tuple[dict[str, Any] | None, ...]) -> None:
    notes, _ = book(store, *answers)
    plan, news = add(notes, PLAN), add(notes, NEWS, 2)
    assert notes.connector.counts["fallbacks"] >= 1
    assert [edge.target for edge in notes.links(news.id)] == [plan.id]
    assert "fell through" in " ".join(notes.get(plan.id).keywords)
    assert len(notes.notes(ME)) == 2


def test_at_most_three_evolutions_a_note(store: SqliteStore) -> None:
    texts = [f"Lisbon plan number {n} is on" for n in range(5)]
    drafts = [d for text in texts for d in (note(text, "Lisbon", "plan", "number"), NOTHING)]
    del drafts[1]  # the first note has no candidates
    change = {"context": "Lisbon plan fell through", "keywords": ["Lisbon"], "tags": ["travel"]}
    answer = {"links": [], "evolutions": [{"id": n, **change} for n in range(5)]}
    notes, _ = book(store, *drafts, note("The Lisbon plan fell through", "Lisbon", "plan", "fell through"), answer)
    for hour, text in enumerate([*texts, "The Lisbon plan fell through"]):
        add(notes, text, hour)
    assert sum(each.version > 1 for each in notes.notes(ME)) == 3


def test_tags_snap_to_those_in_use(store: SqliteStore) -> None:
    first = note(
        "Lena booked a week in Lisbon", "Lisbon", "week", "booked", tags=("summer travel plan", "trip", "talk")
    )
    second = note(
        "The week in Lisbon fell through", "Lisbon", "week", "fell", tags=("summer travel plans", "trip", "talk")
    )
    notes, _ = book(store, first, second, NOTHING)

    class Same(WordVectors):
        def _direction(self, word: str) -> Any:
            return super()._direction(word.removesuffix("s"))

    notes.connector._model._embedder = Same()  # type: ignore[union-attr]
    add(notes, PLAN)
    assert "summer travel plan" in add(notes, NEWS, 2).tags
