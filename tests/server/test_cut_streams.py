"""A model's server that stops in the midst of its answer: what passes, what a client is told, and what is kept."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from live_server import serving
from openai_standin import StandIn, standing_in, streamed

from lamina import Memory
from lamina.server.app import create_app
from lamina.server.proxy import Listener
from lamina.server.service import Service
from lamina.settings import Settings

pytestmark = pytest.mark.model
WHOLE = streamed("The sea is green today.")  # a role, five words, a reason to stop, [DONE]
REFUSED = b'data: {"error": {"message": "overloaded", "type": "server_error", "code": "busy"}}\n\n'


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, StandIn, Memory]]:
    with (
        standing_in() as far,
        Memory(
            Path(tmp_path_factory.mktemp("cut")) / "m.db", settings=Settings(llm_base_url=far.url, durable=False)
        ) as memory,
        serving(create_app(Service(memory))) as url,
    ):
        yield url, far, memory


def ask(url: str, user: str) -> httpx.Response:
    body = {"model": "m", "stream": True, "user": user, "messages": [{"role": "user", "content": "What of the sea?"}]}
    return httpx.post(f"{url}/v1/chat/completions", json=body, timeout=60)


def kept(memory: Memory, user: str) -> list[str]:
    rows = memory.get_all(filters={"user_id": user, "semantic_type": "turn"})["results"]
    return [row["memory"] for row in rows if row["role"] == "assistant"]


CUT = {
    "before a word": WHOLE[:1],
    "in the midst": WHOLE[:4],
    "before it says why it stops": WHOLE[:-2],
    "in a line": [*WHOLE[:3], WHOLE[3][:20]],
    "at the end of a line": [*WHOLE[:3], WHOLE[3][:-1]],
    "in a comment": [*WHOLE[:3], b": keep-alive"],
}


@pytest.mark.parametrize("name", CUT)
def test_a_cut_answer_ends_in_an_error_and_is_not_kept(
    door: tuple[str, StandIn, Memory], name: str, caplog: pytest.LogCaptureFixture
) -> None:
    url, far, memory = door
    far.events, user = CUT[name], name.replace(" ", "-")
    with caplog.at_level(logging.WARNING, "lamina.server"):
        answer = ask(url, user)
    assert answer.status_code == 200
    *before, last = [event for event in answer.text.split("\n\n") if event.strip()]
    error = json.loads(last.strip().removeprefix("data: "))["error"]
    assert error["code"] == "LLM_UNAVAILABLE" and error["type"] == "server_error" and "broke off" in error["message"]
    assert all(json.loads(event.removeprefix("data: "))["choices"] for event in before)  # all that passed is whole
    assert any("broke off: LLM_UNAVAILABLE" in record.getMessage() for record in caplog.records)
    assert kept(memory, user) == []


ENDED = {
    "whole": (WHOLE, True),
    "no DONE": (WHOLE[:-1], True),
    "no line end": ([*WHOLE[:-1], b"data: [DONE]"], True),
    "carriage returns": ([event.replace(b"\n", b"\r\n") for event in WHOLE], True),
    "no space": ([event.replace(b"data: ", b"data:") for event in WHOLE], True),
    "only DONE": ([*WHOLE[:-2], WHOLE[-1]], False),  # it does not say that the answer is complete
    "too long": ([event.replace(b'"stop"', b'"length"') for event in WHOLE], False),
    "its own error": ([*WHOLE[:3], REFUSED], False),
}


@pytest.mark.parametrize("name", ENDED)
def test_what_ends_by_itself_passes_byte_by_byte(door: tuple[str, StandIn, Memory], name: str) -> None:
    url, far, memory = door
    far.events, whole = ENDED[name]
    user = name.replace(" ", "-")
    assert ask(url, user).content == b"".join(far.events)
    assert kept(memory, user) == (["The sea is green today."] if whole else [])


def test_the_openai_package_raises(door: tuple[str, StandIn, Memory]) -> None:
    url, far, memory = door
    far.events, said = WHOLE[:4], []
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=60) as client:
        stream = client.chat.completions.create(
            model="m", messages=[{"role": "user", "content": "What of the sea?"}], user="zo", stream=True
        )
        with pytest.raises(openai.APIError) as broken:
            said += [chunk.choices[0].delta.content for chunk in stream]
    assert "broke off in the midst of its answer" in broken.value.message
    error: Any = broken.value.body
    assert error["code"] == broken.value.code == "LLM_UNAVAILABLE" and broken.value.type == "server_error"
    assert kept(memory, "zo") == []


def test_a_listener_takes_no_other_lines_for_an_end() -> None:
    heard = Listener()
    heard.feed(b': [DONE]\nevent: done\ndata: "[DONE]"\ndata: [1]\ndata: {"choices": []}\ndata: {"error": null}\n\n')
    assert not heard.ended
    heard.feed(b"data: [DONE]\r\n")
    assert heard.ended and heard.answer is None
