"""Chat logs: every accepted shape gives the same messages, in order, dated; a second import finds nothing new."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from lamina.cube.cube import Header, MemCube, Scope, Utterance
from lamina.cube.payload import TextPayload
from lamina.errors import InvalidInput
from lamina.llm.base import Embedder
from lamina.store.base import Write
from lamina.store.sqlite import SqliteStore
from lamina.text.chat_logs import Said, known_turns, read_chat, sessions

FILE_DATE = datetime(2025, 3, 1, tzinfo=UTC)
PLAIN = [
    {"role": "system", "content": "You are helpful."},
    {"role": "user", "content": "I live in Porto."},
    {"role": "assistant", "content": "Lovely city."},
    {"role": "user", "content": [{"type": "text", "text": "It rains."}]},
    {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]},
    {"role": "tool", "content": "12 mm"},
]
CHATGPT = {
    "title": "Rain",
    "current_node": "d",
    "mapping": {
        "a": {"message": None, "parent": None, "children": ["b"]},
        "b": {
            "message": {
                "author": {"role": "user"},
                "create_time": 1_700_000_000.0,
                "content": {"content_type": "text", "parts": ["I live in Porto."]},
            },
            "parent": "a",
        },
        "c": {"message": {"author": {"role": "assistant"}, "content": {"parts": ["An answer redone."]}}, "parent": "b"},
        "d": {
            "message": {
                "author": {"role": "assistant"},
                "create_time": 1_700_000_060.0,
                "content": {"content_type": "text", "parts": ["Lovely city."]},
            },
            "parent": "b",
        },
    },
}


def _texts(said: list[Said]) -> list[str]:
    return [item.turn.text for item in said]


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(PLAIN),
        json.dumps({"messages": PLAIN}),
        json.dumps([{"messages": PLAIN}]),
        "\n".join(map(json.dumps, PLAIN)),
    ],
)
def test_every_shape_gives_the_same_messages(text: str) -> None:
    said = read_chat(text, default=FILE_DATE, user="mira", agent="bot")
    assert _texts(said) == ["I live in Porto.", "Lovely city.", "It rains."]
    assert [item.turn.speaker for item in said] == ["Mira", "Bot", "Mira"]


def test_chatgpt_follows_the_branch_that_was_seen() -> None:
    said = read_chat(json.dumps([CHATGPT]), default=FILE_DATE)
    assert _texts(said) == ["I live in Porto.", "Lovely city."]
    assert said[0].turn.at == datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)


def test_a_loop_in_the_tree_ends() -> None:
    loop = {"mapping": {"a": {"parent": "b"}, "b": {"parent": "a"}}, "current_node": "a"}
    assert read_chat(json.dumps([loop]), default=FILE_DATE) == []


def test_times_come_from_the_message_the_one_before_or_the_file() -> None:
    log = [
        {"role": "user", "content": "one"},
        {"role": "user", "content": "two", "timestamp": "2025-04-01T10:00:00+02:00"},
        {"role": "user", "content": "three"},
    ]
    at = [item.turn.at for item in read_chat(json.dumps(log), default=FILE_DATE)]
    assert at == [FILE_DATE, datetime(2025, 4, 1, 8, tzinfo=UTC), datetime(2025, 4, 1, 8, tzinfo=UTC)]


@pytest.mark.parametrize(
    "bad",
    [7, {"role": "boss", "content": "x"}, {"role": "user", "content": {"a": 1}}, {"role": "user", "content": "a\0"}],
)
def test_a_bad_message_is_named(bad: Any) -> None:
    with pytest.raises(InvalidInput, match="message 2"):
        read_chat(json.dumps([{"role": "user", "content": "fine"}, bad]), default=FILE_DATE)


@pytest.mark.parametrize("message", [{"author": "user", "content": "x"}, {"content": 7}, "x"])
def test_a_malformed_chatgpt_message_is_refused(message: Any) -> None:
    log = [{"current_node": "a", "mapping": {"a": {"message": message, "parent": None}}}]
    with pytest.raises(InvalidInput, match="message"):
        read_chat(json.dumps(log), default=FILE_DATE)


def _said(*minutes: int, conversation: int = 0) -> list[Said]:
    log = [
        {"role": "user", "content": f"at {m}", "timestamp": (FILE_DATE + timedelta(minutes=m)).isoformat()}
        for m in minutes
    ]
    return [Said(item.turn, conversation) for item in read_chat(json.dumps(log), default=FILE_DATE)]


def test_sessions_end_at_a_pause_at_a_conversation_and_when_full() -> None:
    said = _said(0, 60, 121, 122) + _said(123, conversation=1)
    groups = [_texts(group) for group in sessions(said, longest=10)]
    assert groups == [["at 0", "at 60"], ["at 121", "at 122"], ["at 123"]]
    assert [len(group) for group in sessions(_said(*range(7)), longest=3)] == [3, 3, 1]


def test_stored_turns_are_recognised_and_others_are_not(tmp_path: Path, minilm: Embedder) -> None:
    first, second = _said(0, 1)
    turn = first.turn
    header = Header(
        semantic_type="turn",
        scope=Scope(user="mira"),
        recorded=turn.at,
        utterance=Utterance("s", 0, turn.speaker, "user"),
    )
    cube = MemCube(header, TextPayload(turn.text))
    with SqliteStore(tmp_path / "m.db", embedder=minilm.name) as store:
        with store.transaction() as tx:
            tx.insert([Write(cube, minilm.encode([cube.text])[0])])
            tx.close(cube.id, at=turn.at + timedelta(days=1))  # a deleted turn must not come back either
        known = known_turns(store, Scope(user="mira"))
        assert known_turns(store, Scope(user="other")) == set()
    assert first.fingerprint in known and second.fingerprint not in known


def test_a_message_goes_back_as_it_came() -> None:
    named = {"role": "user", "content": "x", "name": "Jonas", "timestamp": "2025-04-01T10:00:00+02:00"}
    (item,) = read_chat(json.dumps([named]), default=FILE_DATE, user="mira")
    assert item.message() == named
    (item,) = read_chat(json.dumps([{"role": "user", "content": "x"}]), default=FILE_DATE, user="mira")
    assert "name" not in item.message()
