"""The model's way to triplets: what it says is checked, and when it fails the rules take over."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from lamina.bench.scripted_llm import failed, said, scripted
from lamina.llm import chat_model
from lamina.llm.base import Answer, Message
from lamina.text.graphs.prompted import timeless
from text.graph_desk import DANA, DAY, T0, Desk

NAMES = {"entities": [{"name": "Dana", "type": "person"}, {"name": "Acme", "type": "company"}]}
WORKS = {"relations": [{"source": "Dana", "relation": "Works at 2024", "target": "Acme"}]}


class Script:
    """A chat model that gives each of its answers in turn, and keeps what it was asked."""

    name = "script"

    def __init__(self, *answers: dict[str, Any] | Exception) -> None:
        self.answers, self.asked = list(answers), list[str]()

    def chat(self, messages: Sequence[Message], *, schema: type[Answer], max_tokens: int = 256) -> Answer:
        self.asked.append(messages[-1]["content"])
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return schema.model_validate(answer)


@pytest.fixture
def desk_with(tmp_path: Path) -> Callable[[Any], Desk]:
    return lambda llm: Desk(tmp_path / "prompted.db", llm)


def test_three_calls_become_edges_on_the_fact_that_says_so(desk_with: Callable[[Any], Desk]) -> None:
    script = Script(NAMES, WORKS)
    desk = desk_with(script)
    _, fact = desk.tell("I work at Acme.")
    (relation,) = desk.graph.relations(DANA)
    assert relation.text == "Dana works_at Acme"
    assert relation.target.type == "organisation"
    assert relation.edge.evidence == fact.cube.id
    assert len(script.asked) == 2  # nothing is known yet that could be contradicted


def test_names_the_turn_does_not_hold_are_dropped_with_their_relations(desk_with: Callable[[Any], Desk]) -> None:
    invented = {"entities": [*NAMES["entities"], {"name": "Elon Musk", "type": "person"}]}
    told = {"relations": [*WORKS["relations"], {"source": "Elon Musk", "relation": "owns", "target": "Acme"}]}
    desk = desk_with(Script(invented, told))
    desk.tell("I work at Acme.")
    assert desk.names() == ["Acme", "Dana"]


def test_a_contradicted_edge_is_closed_by_number_and_an_unknown_number_closes_nothing(
    desk_with: Callable[[Any], Desk],
) -> None:
    zentra = json.loads(json.dumps([NAMES, WORKS]).replace("Acme", "Zentra"))
    script = Script(NAMES, WORKS, *zentra, {"contradicted": [7, 0, -1]})
    desk = desk_with(script)
    desk.tell("Here is what I do: Acme.")
    desk.tell("Here is what I do: Zentra.", at=T0 + DAY)
    assert "0. Dana works_at Acme" in script.asked[-1]
    assert desk.said() == {"Dana works_at Zentra"}
    assert desk.said(as_of=T0 + DAY / 2) == {"Dana works_at Acme"}
    (old,) = [each.edge for each in desk.graph.relations(DANA, closed=True) if each.target.name == "Acme"]
    assert old.valid_to == T0 + DAY


def test_a_number_that_was_not_shown_closes_nothing(desk_with: Callable[[Any], Desk]) -> None:
    zentra = json.loads(json.dumps([NAMES, WORKS]).replace("Acme", "Zentra"))
    desk = desk_with(Script(NAMES, WORKS, *zentra, {"contradicted": [-1, 7]}))
    desk.tell("Here is what I do: Acme.")
    desk.tell("Here is what I do: Zentra.", at=T0 + DAY)
    assert desk.said() == {"Dana works_at Acme", "Dana works_at Zentra"}


def test_what_is_told_late_comes_closed(desk_with: Callable[[Any], Desk]) -> None:
    zentra = json.loads(json.dumps([NAMES, WORKS]).replace("Acme", "Zentra"))
    desk = desk_with(Script(NAMES, WORKS, *zentra, {"contradicted": [0]}))
    desk.tell("Here is what I do: Acme.", at=T0 + 10 * DAY)
    desk.tell("Here is what I do: Zentra.", at=T0)
    assert desk.said() == {"Dana works_at Acme"}
    assert desk.said(closed=True) == {"Dana works_at Acme", "Dana works_at Zentra"}


def test_evidence_is_the_turn_where_no_fact_says_it(desk_with: Callable[[Any], Desk]) -> None:
    desk = desk_with(Script(NAMES, WORKS))
    (turn,) = desk.tell("Acme?")
    (relation,) = desk.graph.relations(DANA)
    assert relation.edge.evidence == turn.cube.id
    desk.forget(turn)
    assert desk.names() == []


def test_a_superseded_fact_closes_the_models_edge_too(desk_with: Callable[[Any], Desk]) -> None:
    zentra = json.loads(json.dumps([NAMES, WORKS]).replace("Acme", "Zentra"))
    desk = desk_with(Script(NAMES, WORKS, *zentra, {"contradicted": []}))
    desk.tell("I work at Acme.")
    desk.tell("I work at Zentra.", at=T0 + DAY)
    assert desk.said() == {"Dana works_at Zentra"}


def test_a_server_that_fails_leaves_the_turn_to_the_rules(desk_with: Callable[[Any], Desk]) -> None:
    fenced = f"Sure!\n```json\n{json.dumps(NAMES)}\n```"
    with scripted(said(fenced), said("{}"), said("no"), said("never"), *[failed(400)] * 9) as server:
        model = chat_model("openai:test", base_url=server.url, api_key="key")
        desk = desk_with(model)
        desk.tell("I work at Acme.")
        assert desk.said() == {"Dana works_at Acme"}
        desk.tell("Eva works at Kelvor.", at=T0 + DAY)
    assert desk.said() == {"Dana works_at Acme", "Eva works_at Kelvor"}


@pytest.mark.parametrize(
    ("given", "stored"), [("Works At", "works_at"), ("moved in 2019 to", "moved_in_to"), ("!!", ""), ("né à", "né_à")]
)
def test_relations_are_timeless_names(given: str, stored: str) -> None:
    assert timeless(given) == stored
