"""Finding, validating and asking again for JSON."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from lamina.errors import LLMError
from lamina.llm.structured import Reply, ask, instructed, parse


class Note(BaseModel):
    title: str
    tags: list[str] = []


PROSE = st.text(alphabet=st.characters(blacklist_characters="{}`<", blacklist_categories=["Cs"]), max_size=30)


@given(st.builds(Note, title=st.text(), tags=st.lists(st.text())), PROSE, PROSE, st.booleans())
def test_an_object_is_found_whatever_stands_around_it(note, before, after, fenced):
    text = note.model_dump_json()
    wrapped = f"{before}\n```json\n{text}\n```\n{after}" if fenced else f"{before}{text}{after}"
    if "<think>" in text or "```" in text:
        return
    assert parse(wrapped, Note) == note


@given(st.builds(Note, title=st.text(min_size=1), tags=st.lists(st.text())), st.data())
def test_a_truncated_object_is_never_completed(note, data):
    text = note.model_dump_json()
    cut = text[: data.draw(st.integers(0, len(text) - 1))]
    if "{" in cut[1:]:
        return  # a title may itself hold braces
    with pytest.raises(ValueError, match="no complete JSON"):
        parse(cut, Note)


def test_the_first_object_that_validates_wins():
    assert parse('{"x": 1} then {"title": "a"} then {"title": "b"}', Note).title == "a"


def test_the_error_names_the_field_not_the_input():
    with pytest.raises(ValueError, match="title: Field required; tags: Input should be a valid array") as caught:
        parse('{"tags": "private words"}', Note)
    assert "private words" not in str(caught.value)


@pytest.mark.parametrize("hostile", ["{" * 50_000, '{"a":' * 50_000, "[" * 50_000, "```json\n" * 1000])
def test_hostile_replies_end_in_an_error(hostile):
    with pytest.raises(ValueError):
        parse(hostile, Note)


def test_the_schema_joins_the_system_message():
    user = {"role": "user", "content": "Hi"}
    joined = instructed([{"role": "system", "content": "Be brief."}, user], Note)
    assert len(joined) == 2 and joined[0]["content"].startswith("Be brief.\n\n")
    fresh = instructed([user], Note)
    assert [message["role"] for message in fresh] == ["system", "user"]
    for messages in (joined, fresh):
        form = messages[0]["content"].split("JSON Schema:\n")[1]
        assert json.loads(form) == Note.model_json_schema()


def test_three_attempts_then_an_error():
    seen = []

    def complete(messages):
        seen.append(list(messages))
        return Reply("x" * 10_000)

    with pytest.raises(LLMError, match="no valid Note in 3 attempts"):
        ask(complete, [{"role": "user", "content": "Hi"}], Note, name="m")
    assert [len(messages) for messages in seen] == [2, 4, 6]
    assert len(seen[1][2]["content"]) == 4000
