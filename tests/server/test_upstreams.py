"""What stands behind the OpenAI-compatible door: the model in this process, as the ``openai`` client sees it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from live_server import serving

from lamina import Memory
from lamina.errors import LLMUnavailable
from lamina.llm.causal import CausalLM
from lamina.server.app import create_app
from lamina.server.service import Service
from lamina.server.upstreams.remote import Remote
from lamina.settings import Settings

pytestmark = pytest.mark.model


@pytest.fixture(scope="module")
def near(tmp_path_factory: pytest.TempPathFactory) -> Iterator[openai.OpenAI]:
    path = Path(tmp_path_factory.mktemp("near")) / "m.db"
    with (
        Memory(path, settings=Settings(durable=False)) as own,
        serving(create_app(Service(own))) as url,
        openai.OpenAI(base_url=f"{url}/v1", api_key="sk-any", max_retries=0, timeout=60) as client,
    ):
        yield client


def test_the_model_in_this_process_answers_alike(near: openai.OpenAI) -> None:
    _ask(near, "My dog is called Biscuit.", "quin", max_tokens=1)
    whole = _ask(near, "What is my dog called?", "quin", max_tokens=6, temperature=0)
    assert whole.model_extra["lamina"]["memories"] and whole.usage.completion_tokens <= 6
    assert whole.usage.prompt_tokens > 40 and whole.object == "chat.completion"
    assert whole.choices[0].finish_reason in ("stop", "length") and whole.choices[0].message.content
    plain: Any = {"max_tokens": 6, "temperature": 0}
    said = _ask(near, "Say hello.", **plain)
    chunks = list(_ask(near, "Say hello.", stream=True, stream_options={"include_usage": True}, **plain))
    assert chunks[-1].usage == said.usage and chunks[-2].choices[0].finish_reason == said.choices[0].finish_reason
    streamed = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert streamed.strip() == said.choices[0].message.content
    stop = said.choices[0].message.content[2:4]
    stopped = _ask(near, "Say hello.", stop=[stop], **plain)
    assert stopped.choices[0].message.content == said.choices[0].message.content[:2].strip()
    assert stopped.choices[0].finish_reason == "stop"
    assert [model.id for model in near.models.list()] == ["local:smollm2"]


def test_a_client_that_leaves_ends_the_decoding(near: openai.OpenAI, monkeypatch: pytest.MonkeyPatch) -> None:
    ended, decoded = threading.Event(), [0]

    def slow(lm: CausalLM, *_: object, **__: object) -> Iterator[int]:
        try:
            while decoded[0] < 100_000:
                decoded[0] += 1
                time.sleep(0.02)
                yield 100
        finally:
            ended.set()

    monkeypatch.setattr(CausalLM, "steps", slow)
    with pytest.raises(openai.APITimeoutError):
        _ask(near.with_options(timeout=2.0), "Count the sand.", max_tokens=4000)
    assert ended.wait(30) and 0 < decoded[0] < 100_000


@pytest.mark.parametrize(
    "wrong",
    [
        {"tools": [{"type": "function", "function": {"name": "f"}}]},
        {"n": 2},
        {"response_format": {"type": "json_object"}},
        {"max_tokens": 10**6},
        {"messages": []},
        {"messages": [{"role": "tool", "content": "x", "tool_call_id": "c"}]},
    ],
)
def test_what_the_model_in_this_process_cannot_do_is_refused(near: openai.OpenAI, wrong: dict[str, Any]) -> None:
    body: Any = {"model": "m", "messages": [{"role": "user", "content": "Hello."}], **wrong}
    with pytest.raises(openai.BadRequestError) as refused:
        near.chat.completions.create(**body)
    assert refused.value.type == "invalid_request_error" and refused.value.code


def _ask(client: openai.OpenAI, text: str, user: str | None = None, **options: Any) -> Any:
    named = {} if user is None else {"user": user}
    completions: Any = client.chat.completions  # its overloads do not take a computed dict of options
    return completions.create(model="m", messages=[{"role": "user", "content": text}], **named, **options)


def test_a_server_that_is_not_there() -> None:
    async def ask() -> None:
        gone = Remote("http://127.0.0.1:9/v1", "sk-secret", seconds=5)
        try:
            await gone.complete({})
        finally:
            await gone.close()

    with pytest.raises(LLMUnavailable, match="cannot be reached") as error:
        asyncio.run(ask())
    assert "sk-secret" not in str(error.value)
