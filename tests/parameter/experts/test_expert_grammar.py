"""The grammar accepts what json.dumps writes of a form, every prefix of it, and nothing else."""

from __future__ import annotations

import json
from datetime import date
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from lamina.errors import InvalidInput
from lamina.parameter.experts.grammar import Grammar
from lamina.parameter.experts.operations import Exchange, Inquiry, Revision
from lamina.parameter.experts.prompts import Changes, Facts, read, schema

CHANGES, FACTS = Grammar(Changes), Grammar(Facts)
TEXT = st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters="\ufffd"), max_size=12)
ROW = st.tuples(
    st.sampled_from(["ADD", "UPDATE", "DELETE", "NONE"]), st.none() | st.integers(-3, 120), st.none() | TEXT
).map(lambda row: dict(zip(("event", "id", "text"), row, strict=True)))


def _reads(grammar: Grammar, text: str) -> bool:
    return grammar.is_complete(grammar.advance(grammar.start, text))


@given(st.lists(ROW, max_size=3))
def test_every_value_is_accepted_and_every_prefix_is_viable_but_not_whole(rows: list[dict[str, object]]) -> None:
    written = json.dumps(rows, ensure_ascii=False)
    states = CHANGES.start
    for character in written:
        assert not CHANGES.is_complete(states)
        states = CHANGES.advance(states, character)
        assert states
    assert CHANGES.is_complete(states)
    assert not CHANGES.advance(states, " ")


@given(st.lists(TEXT, max_size=3))
def test_facts_round_trip(facts: list[str]) -> None:
    assert _reads(FACTS, json.dumps({"facts": facts}, ensure_ascii=False))


@given(st.text(alphabet='{}[]":, factsADNOEUP0123nul', max_size=24))
def test_what_is_accepted_parses_and_validates(text: str) -> None:
    if _reads(FACTS, text):
        Facts.model_validate_json(text)
    if _reads(CHANGES, text):
        Changes.model_validate_json(text)


@pytest.mark.parametrize(
    "text",
    [
        '{"facts": ["a",]}', '{"facts":["a"]}', '{"fact": []}', '{"facts": [1]}', '{"facts": ["a\nb"]}',
        '{"facts": ["a\ufffd"]}', '{"facts": []} ', '{"facts": ["\\x"]}',
    ],
)  # fmt: skip
def test_other_layouts_and_forms_are_refused(text: str) -> None:
    assert not _reads(FACTS, text)


@pytest.mark.parametrize("id", ["01", "-", "1.5", "1e3", "--1", "nul"])
def test_a_number_is_a_whole_number(id: str) -> None:
    assert not _reads(CHANGES, f'[{{"event": "NONE", "id": {id}, "text": null}}]')


def test_a_form_without_a_layout_is_refused_when_built() -> None:
    class Free(BaseModel):
        anything: dict[str, float]

    with pytest.raises(InvalidInput, match="plainer form"):
        Grammar(Free)


def test_constants_and_booleans() -> None:
    class Flag(BaseModel):
        on: bool
        kind: Literal["x", "xy"]

    assert _reads(Grammar(Flag), '{"on": true, "kind": "xy"}')
    assert _reads(Grammar(Flag), '{"on": false, "kind": "x"}')
    assert not _reads(Grammar(Flag), '{"on": maybe, "kind": "x"}')


@given(
    st.lists(TEXT.filter(str.strip), min_size=1, max_size=2),
    st.lists(TEXT, max_size=3),
    st.lists(ROW, min_size=1, max_size=2),
)
def test_a_request_allows_just_what_can_be_executed(
    facts: list[str], memories: list[str], rows: list[dict[str, object]]
) -> None:
    request = Revision(tuple(facts), tuple(memories))
    grammar, text = Grammar(schema(request)), json.dumps(rows, ensure_ascii=False)
    shape = {"ADD": (False, True), "UPDATE": (True, True), "DELETE": (True, False)}
    fits = len(rows) == len(facts)
    for row in rows:
        id, said = row["id"], row["text"]
        wanted = shape.get(str(row["event"]), (id is not None, False))
        fits &= wanted == (id is not None, said is not None)
        fits &= id is None or (isinstance(id, int) and 0 <= id < len(memories))
        fits &= said is None or (isinstance(said, str) and said[:1] > " " and said[0] not in '"\\')
    assert _reads(grammar, text) == fits
    if fits:
        assert read(request, text)


def test_an_exchange_allows_facts_and_an_inquiry_plain_words() -> None:
    assert schema(Exchange((("Ada", "Hello!"),))) == Facts.model_json_schema()
    assert schema(Inquiry("Who?", (), date(2024, 1, 1))) == {}
