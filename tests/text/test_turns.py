"""Messages of every accepted shape become turns; everything else is refused by name."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamina.errors import InvalidInput
from lamina.text.turns import MAX_CHARS, parse_messages

AT = datetime(2023, 5, 8, 13, 56, tzinfo=UTC)


def test_a_string_is_one_user_message() -> None:
    (turn,) = parse_messages("hello there", at=AT, user="ann")
    assert (turn.text, turn.speaker, turn.role, turn.at, turn.ordinal, turn.named) == (
        "hello there", "Ann", "user", AT, 0, False,
    )  # fmt: skip


def test_speakers_by_role_and_name() -> None:
    messages = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b"},
        {"role": "assistant", "content": "c", "name": "Melanie"},
        {"role": "system", "content": "d"},
        {"role": "tool", "content": "e"},
        {"content": "f"},
    ]
    turns = parse_messages(messages, at=AT)
    assert [t.speaker for t in turns] == ["User", "Assistant", "Melanie", "System", "Tool", "User"]
    assert [t.named for t in turns] == [False, False, True, False, False, False]
    assert [t.ordinal for t in turns] == list(range(6))
    assert [t.speaker for t in parse_messages(messages, at=AT, user="alice", agent="bot")][:3] == [
        "Alice",
        "Bot",
        "Melanie",
    ]
    assert [t.speaker for t in parse_messages(messages, at=AT, user="u1", agent="a-2")][:2] == ["User", "Assistant"]


def test_parts_and_images() -> None:
    parts = [{"type": "text", "text": "look"}, {"type": "image_url", "image_url": {"url": "x"}}, {"type": "image"}]
    (turn,) = parse_messages({"role": "user", "content": parts}, at=AT)
    assert turn.text == "look\n[image]\n[image]"


def test_a_tool_call_without_text_is_left_out() -> None:
    messages = [{"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}, {"role": "user", "content": "hi"}]
    turns = parse_messages(messages, at=AT, first=5)
    assert [(t.text, t.ordinal) for t in turns] == [("hi", 5)]


@pytest.mark.parametrize(
    ("stamp", "expected"),
    [
        ("2023-05-08T01:30:00+09:00", datetime(2023, 5, 7, 16, 30, tzinfo=UTC)),
        ("2023-05-08", datetime(2023, 5, 8, tzinfo=UTC)),
        (0, datetime(1970, 1, 1, tzinfo=UTC)),
        (1683554160.0, AT),
        (datetime(2023, 5, 8, 13, 56), AT),
        (datetime(2023, 5, 8, 15, 56, tzinfo=timezone(timedelta(hours=2))), AT),
    ],
)
@pytest.mark.parametrize("key", ["timestamp", "created_at"])
def test_message_time_wins_and_is_utc(stamp: object, expected: datetime, key: str) -> None:
    (turn,) = parse_messages({"role": "user", "content": "x", key: stamp}, at=datetime(2001, 1, 1))
    assert turn.at == expected
    assert turn.at.tzinfo is UTC


def test_zone_of_the_stamp_is_kept() -> None:
    (turn,) = parse_messages({"content": "x", "timestamp": "2023-05-08T01:30:00+09:00"})
    assert turn.at.astimezone(turn.zone).isoformat() == "2023-05-08T01:30:00+09:00"


def test_without_any_time_it_is_now() -> None:
    before = datetime.now(UTC)
    (turn,) = parse_messages("x")
    assert before <= turn.at <= datetime.now(UTC)


BAD: list[tuple[Any, str]] = [
    (None, "messages"), (3, "messages"), ([], "messages"), (b"bytes", "messages"), ("", "messages.content"),
    ("  \n", "messages.content"), ("a\0b", "messages.content"), ("a\ud800b", "messages.content"),
    ([{"content": "ok"}, "not a mapping"], "messages[1]"),
    ([{"role": "wizard", "content": "x"}], "messages[0].role"), ([{"role": 3, "content": "x"}], "messages[0].role"),
    ([{"content": None}], "messages[0].content"), ([{"content": 3}], "messages[0].content"),
    ([{"content": []}], "messages[0].content"), ([{"content": [3]}], "messages[0].content[0]"),
    ([{"content": [{"type": "video"}]}], "messages[0].content[0]"),
    ([{"content": [{"type": "text", "text": 3}]}], "messages[0].content[0]"),
    ([{"content": "x", "name": ""}], "messages[0].name"), ([{"content": "x", "name": 3}], "messages[0].name"),
    ([{"content": "x", "name": "n" * 201}], "messages[0].name"), ([{"content": "x", "name": "\0"}], "messages[0].name"),
    ([{"content": "x", "timestamp": "soon"}], "messages[0].timestamp"),
    ([{"content": "x", "timestamp": True}], "messages[0].timestamp"),
    ([{"content": "x", "timestamp": float("nan")}], "messages[0].timestamp"),
    ([{"content": "x", "timestamp": 1e20}], "messages[0].timestamp"),
    ([{"content": "x", "created_at": []}], "messages[0].created_at"),
    ([{"content": "x", "timestamp": datetime(1900, 1, 1)}], "messages[0].timestamp"),
    ([{"content": "x"}, {"content": "y" * (MAX_CHARS + 1)}], "messages[1].content"),
]  # fmt: skip


@pytest.mark.parametrize(("messages", "where"), BAD)
def test_refusals_name_the_message(messages: Any, where: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_messages(messages)
    assert caught.value.code == "VALIDATION_003"
    assert str(caught.value).startswith(f"{where} is ")
    assert len(str(caught.value)) < 300


def test_one_million_characters_fit() -> None:
    assert len(parse_messages("y" * MAX_CHARS)[0].text) == MAX_CHARS


_LEAF = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
_KEYS = st.sampled_from(["role", "content", "name", "timestamp", "type", "text"])


@given(st.recursive(_LEAF, lambda inner: st.lists(inner) | st.dictionaries(_KEYS, inner)))
def test_anything_else_is_an_invalid_input(messages: Any) -> None:
    try:
        turns = parse_messages(messages)
    except InvalidInput as error:
        assert error.code == "VALIDATION_003"
    else:
        assert all(turn.text.strip() and turn.speaker for turn in turns)


@given(st.text().filter(lambda s: s.strip() and "\0" not in s))
def test_text_is_kept_exactly(text: str) -> None:
    assert parse_messages([{"content": text}])[0].text == text
