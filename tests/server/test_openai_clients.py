"""Programs made for OpenAI's API, and what they meet at ours: tools, long chats, wrong keys, names in other letters."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from live_server import serving
from openai_standin import StandIn, standing_in

from lamina import Memory
from lamina.server.app import create_app
from lamina.server.service import Service
from lamina.settings import Settings

pytestmark = pytest.mark.model
TOOL: Any = {"type": "function", "function": {"name": "tide", "parameters": {"type": "object", "properties": {}}}}
CALL = {"id": "call_1", "type": "function", "function": {"name": "tide", "arguments": '{"day": "today"}'}}
SHARED = {"id": "chatcmpl-1", "created": 1, "model": "m"}


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, StandIn, Memory]]:
    with (
        standing_in() as far,
        Memory(
            Path(tmp_path_factory.mktemp("clients")) / "m.db", settings=Settings(llm_base_url=far.url, durable=False)
        ) as memory,
        serving(create_app(Service(memory))) as url,
    ):
        yield url, far, memory


def client(url: str, key: str = "none") -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0, timeout=60)


def asked(text: str) -> Any:
    return [{"role": "user", "content": text}]


def kept(memory: Memory, user: str) -> list[str]:
    return [row["memory"] for row in memory.get_all(filters={"user_id": user, "semantic_type": "turn"})["results"]]


@pytest.mark.parametrize(("sent", "status"), [("Zoë".encode(), 200), ("Zoë".encode("latin-1"), 400)])
def test_a_name_in_a_header_is_utf_8(door: tuple[str, StandIn, Memory], sent: bytes, status: int) -> None:
    url, far, memory = door
    far.reset()
    text = f"I sail on day {status}."
    answer = httpx.post(
        f"{url}/v1/chat/completions",
        json={"model": "m", "messages": asked(text)},
        headers=[(b"X-Lamina-User", sent)],
        timeout=60,
    )
    assert answer.status_code == status
    assert kept(memory, "Zoë").count(text) == (status == 200) and kept(memory, "ZoÃ«") == []
    if status == 400:
        assert "X-Lamina-User" in answer.json()["error"]["message"] and far.received == []
    else:
        assert answer.json()["lamina"]["user"] == "Zoë"


def test_calls_of_tools_pass_and_are_no_answers(door: tuple[str, StandIn, Memory]) -> None:
    url, far, memory = door
    message = {"role": "assistant", "content": None, "refusal": None, "tool_calls": [CALL]}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "tool_calls"}
    whole = {**SHARED, "object": "chat.completion", "choices": [choice]}
    deltas: list[tuple[dict[str, Any], str | None]] = [
        ({"role": "assistant", "content": None, "tool_calls": [{"index": 0, **CALL}]}, None),
        ({}, "tool_calls"),
    ]
    chunks = [
        {**SHARED, "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": delta, "finish_reason": why}]}
        for delta, why in deltas
    ]
    far.refusal = (200, {}, json.dumps(whole).encode())
    with client(url) as one:
        got = one.chat.completions.create(model="m", messages=asked("When is high tide?"), user="una", tools=[TOOL])
        assert got.choices[0].finish_reason == "tool_calls" and got.choices[0].message.tool_calls
        assert got.choices[0].message.tool_calls[0].model_dump() == CALL and far.last.body["tools"] == [TOOL]
        far.reset()
        far.events = [f"data: {json.dumps(chunk)}\n\n".encode() for chunk in chunks] + [b"data: [DONE]\n\n"]
        stream = one.chat.completions.create(
            model="m", messages=asked("When is low tide?"), user="una", tools=[TOOL], stream=True
        )
        first, last = list(stream)
        assert first.choices[0].delta.tool_calls and last.choices[0].finish_reason == "tool_calls"
        far.reset()
        rounds: Any = [*asked("When is low tide?"), message, {"role": "tool", "tool_call_id": "call_1", "content": "6"}]
        one.chat.completions.create(model="m", messages=rounds, user="una", tools=[TOOL])
        assert far.last.messages[1:] == rounds[1:]
    assert sorted(kept(memory, "una")) == ["Noted.", "When is high tide?", "When is low tide?"]


def test_a_long_history_passes_whole_and_is_read_once(door: tuple[str, StandIn, Memory]) -> None:
    url, far, memory = door
    far.reset()
    history: Any = [asked(f"Day {n}: I rowed {n} miles.")[0] for n in range(200)]
    talk = [one for said in history for one in (said, {"role": "assistant", "content": "Noted."})]
    with client(url) as one:
        one.chat.completions.create(model="m", messages=[*talk, *asked("How far did I row?")], user="ben")
    assert far.last.messages == [*talk, *asked("How far did I row?")]
    assert sorted(kept(memory, "ben")) == ["How far did I row?", "Noted."]  # history is the client's: not kept again


def test_wrong_keys_and_models_are_the_packages_own_errors(tmp_path: Path) -> None:
    unknown = {"error": {"message": "no such model", "type": "invalid_request_error", "code": "model_not_found"}}
    with (
        standing_in() as far,
        Memory(tmp_path / "m.db", settings=Settings(llm_base_url=far.url)) as memory,
        serving(create_app(service := Service(memory))) as url,
    ):
        key = service.keys.create("test", "acme", ["read", "write"])[1]
        for wrong in ("none", "lk_wrong"):
            with client(url, wrong) as one:
                for stream in (False, True):
                    with pytest.raises(openai.AuthenticationError, match="not valid"):
                        one.chat.completions.create(model="m", messages=asked("Hello."), stream=stream)
                with pytest.raises(openai.AuthenticationError):
                    one.models.list()
        assert far.received == []
        far.refusal = (404, {}, json.dumps(unknown).encode())
        with client(url, key) as one:
            for stream in (False, True):
                with pytest.raises(openai.NotFoundError) as missing:
                    one.chat.completions.create(model="x", messages=asked("Hello."), user="cy", stream=stream)
                assert missing.value.code == "model_not_found" and missing.value.response.json() == unknown


def test_one_model_of_the_list(door: tuple[str, StandIn, Memory]) -> None:
    url, far, _ = door
    far.reset()
    with client(url) as one:
        listed = one.models.list().data[0]
        assert one.models.retrieve(listed.id) == listed
        with pytest.raises(openai.NotFoundError, match="there is no model 'm/none'; there is"):
            one.models.retrieve("m/none")


def test_a_server_that_streams_nothing_answers_in_one_piece(door: tuple[str, StandIn, Memory]) -> None:
    """It was asked for a stream, and its whole answer passes as it is, and is kept."""
    url, far, memory = door
    far.reset()
    message = {"role": "assistant", "content": "At noon.", "refusal": None}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    far.refusal = (200, {}, json.dumps({**SHARED, "object": "chat.completion", "choices": [choice]}).encode())
    body = {"model": "m", "messages": asked("When is lunch?"), "user": "pia", "stream": True}
    got = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=60)
    assert got.status_code == 200 and got.json()["choices"][0]["message"]["content"] == "At noon."
    assert any("At noon." in text for text in kept(memory, "pia"))
