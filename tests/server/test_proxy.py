"""A conversation on its way, without HTTP."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lamina import Memory
from lamina.kernel.memos import MemOS
from lamina.server.proxy import Listener, begin
from lamina.settings import Settings


@given(st.lists(st.text(max_size=8), max_size=6), st.data())
@settings(max_examples=60, deadline=None)
def test_a_listener_hears_the_same_however_it_is_cut(words: list[str], data: st.DataObject) -> None:
    def event(delta: dict[str, str], reason: str | None) -> bytes:
        return f"data: {json.dumps({'choices': [{'delta': delta, 'finish_reason': reason}]})}\r\n\r\n".encode()

    end = event({}, "stop")
    told = b": comment\n" + b"".join(event({"content": word}, None) for word in words) + end + b"data: [DONE]\n\n"
    cuts = sorted(data.draw(st.lists(st.integers(0, len(told)), max_size=8)))
    heard = Listener()
    passed = [heard.feed(told[start:stop]) for start, stop in zip([0, *cuts], [*cuts, len(told)], strict=True)]
    assert heard.answer == "".join(words)
    assert b"".join(passed) + heard.rest == told and all(piece.endswith(b"\n") for piece in passed if piece)
    half = Listener()
    half.feed(told[: told.index(end)])
    assert half.answer is None


@pytest.mark.model
def test_the_same_words_on_another_day_are_news() -> None:
    body = {"messages": [{"role": "user", "content": "I ran five miles today."}]}
    today = datetime(2026, 3, 1, 12, tzinfo=UTC)
    with Memory(":memory:", settings=Settings()) as memory:
        system = MemOS(memory)
        for at in (today, today + timedelta(hours=2), today + timedelta(days=1)):
            begin(system, system.principal, body, user="rosa", at=at)
        kept = memory.get_all(filters={"user_id": "rosa", "semantic_type": "turn"})["results"]
    assert len(kept) == 2


@pytest.mark.model
@pytest.mark.parametrize("messages", [None, "x", [], [{"role": "system", "content": "x"}], [{"role": "user"}], [7]])
def test_where_no_user_speaks_nothing_changes(messages: object) -> None:
    body = {"messages": messages, "model": "m"}
    with Memory(":memory:", settings=Settings()) as memory:
        system = MemOS(memory)
        exchange = begin(system, system.principal, body, user="rosa")
        exchange.finish("An answer.")
        assert exchange.body is body and exchange.system is None
        assert memory.get_all(filters={"user_id": "rosa"})["results"] == []
