"""The model in this process, as if it were a server: chat completions in OpenAI's shapes, streamed or not.

It answers under whatever name a request calls it. What it cannot do at all (tools, forms, several answers) is refused
rather than left out; nuances of drawing tokens other than the temperature have no effect. Each token is decoded in a
thread by itself, so that an answer nobody waits for any more ends with the token that is being decoded.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, Literal

from pydantic import BaseModel, Field, ValidationError

from lamina.errors import InvalidInput
from lamina.llm.base import Message
from lamina.llm.causal import CausalLM
from lamina.server.proxy import words
from lamina.server.upstreams.base import Reply
from lamina.text.arguments import short

TOKENS = 256  # of an answer, if the request names no number
_REFUSED = ("tools", "functions", "logprobs", "audio")
_ROLES: dict[str, Literal["system", "user", "assistant"]] = {
    "developer": "system",
    "system": "system",
    "user": "user",
    "assistant": "assistant",
}


class _Asked(BaseModel):
    """What of a request has an effect."""

    messages: list[dict[str, Any]] = Field(min_length=1)
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    temperature: float | None = Field(None, ge=0, le=2)
    seed: int | None = None
    stop: str | list[str] | None = None
    stream: bool | None = False
    stream_options: dict[str, Any] | None = None
    n: Literal[1] | None = None
    response_format: dict[str, Any] | None = None

    @property
    def stops(self) -> list[str]:
        return [stop for stop in ([self.stop] if isinstance(self.stop, str) else self.stop or []) if stop]


class Local:
    """``model`` loads it, at the first request."""

    def __init__(self, model: Callable[[], CausalLM]) -> None:
        self._model = model

    async def complete(self, body: Mapping[str, Any]) -> Reply:
        """Raises ``InvalidInput`` for what it cannot do, ``LLMError`` if the template refuses the messages."""
        asked = _parsed(body)
        lm = await asyncio.to_thread(self._model)
        prompt = await asyncio.to_thread(lm.prompt, _messages(asked.messages))
        wanted = asked.max_completion_tokens or asked.max_tokens
        limit = wanted or max(1, min(TOKENS, lm.limit - len(prompt)))
        if len(prompt) + limit > lm.limit:
            told = f"the messages take {len(prompt)} tokens and the answer {limit}, over the {lm.limit} of this model"
            raise InvalidInput(f"{told}: shorten them, or lower max_tokens", code="CONTEXT_LENGTH_EXCEEDED")
        answer = _Answer(lm, prompt, limit, asked)
        kind = "text/event-stream" if asked.stream else "application/json"
        return Reply(200, {"content-type": kind}, answer.events() if asked.stream else answer.whole())

    async def models(self) -> Reply:
        lm = await asyncio.to_thread(self._model)
        model = {"id": lm.name, "object": "model", "created": 0, "owned_by": "lamina"}
        return Reply(200, {"content-type": "application/json"}, _once({"object": "list", "data": [model]}))

    async def close(self) -> None:
        """The model belongs to the service."""


class _Answer:
    """One answer, decoded while it is read."""

    def __init__(self, lm: CausalLM, prompt: Sequence[int], limit: int, asked: _Asked) -> None:
        self._lm, self._prompt, self._limit, self._asked = lm, prompt, limit, asked
        self._shared = {"id": f"chatcmpl-{secrets.token_hex(12)}", "created": int(time.time()), "model": lm.name}
        self._count = 0
        self._reason = "stop"

    async def whole(self) -> AsyncIterator[bytes]:
        said = "".join([text async for text in self._texts()]).strip()
        message = {"role": "assistant", "content": said, "refusal": None}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": self._reason}
        yield _json(self._shared | {"object": "chat.completion", "choices": [choice], "usage": self._usage()})

    async def events(self) -> AsyncIterator[bytes]:
        yield self._event({"role": "assistant", "content": ""})
        async for text in self._texts():
            yield self._event({"content": text})
        yield self._event({}, self._reason)
        if (self._asked.stream_options or {}).get("include_usage"):
            yield _line(self._shared | {"object": "chat.completion.chunk", "choices": [], "usage": self._usage()})
        yield b"data: [DONE]\n\n"

    async def _texts(self) -> AsyncIterator[str]:
        """Whole characters, up to a stop; what may be the beginning of one is held back."""
        steps = self._lm.steps(
            self._prompt, self._limit, temperature=self._asked.temperature or 0.0, seed=self._asked.seed or 0
        )
        ids: list[int] = []
        text, sent = "", 0
        held = max((len(stop) - 1 for stop in self._asked.stops), default=0)
        while (id := await asyncio.to_thread(next, steps, None)) is not None:
            ids.append(id)
            self._count = len(ids)
            text = self._lm.decode(ids)
            cut = min((at for stop in self._asked.stops if (at := text.find(stop)) >= 0), default=None)
            if cut is not None:
                yield text[sent:cut]
                return
            ready = len(text) - held
            if ready > sent and not text.endswith("\ufffd"):  # half of a character: wait for its other bytes
                yield text[sent:ready]
                sent = ready
        if len(ids) == self._limit:
            self._reason = "length"
        if text[sent:]:
            yield text[sent:]

    def _event(self, delta: dict[str, Any], reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": reason}
        return _line(self._shared | {"object": "chat.completion.chunk", "choices": [choice]})

    def _usage(self) -> dict[str, int]:
        read = len(self._prompt)
        return {"prompt_tokens": read, "completion_tokens": self._count, "total_tokens": read + self._count}


def _parsed(body: Mapping[str, Any]) -> _Asked:
    refused = [name for name in _REFUSED if body.get(name)]
    if refused:
        raise InvalidInput(f"{', '.join(refused)}: the model in this process cannot do that; leave it out")
    try:
        asked = _Asked.model_validate(body)
    except ValidationError as error:
        told = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()[:5])
        raise InvalidInput(told) from None
    if asked.response_format and asked.response_format.get("type") != "text":
        raise InvalidInput("response_format: the model in this process writes text alone; leave it out")
    return asked


def _messages(given: Sequence[Mapping[str, Any]]) -> list[Message]:
    messages: list[Message] = []
    for number, message in enumerate(given):
        given_role, text = message.get("role"), words(message)
        role = _ROLES.get(str(given_role))
        if role is None:
            told = f"messages[{number}] has the role {short(given_role)}; the model in this process knows"
            raise InvalidInput(f"{told} {', '.join(_ROLES)}")
        if not text.strip():
            raise InvalidInput(f"messages[{number}] has no text as its content; give it some, or leave it out")
        messages.append({"role": role, "content": text})
    return messages


def _json(value: object) -> bytes:
    return json.dumps(value).encode()


def _line(value: object) -> bytes:
    return b"data: " + _json(value) + b"\n\n"


async def _once(value: object) -> AsyncIterator[bytes]:
    yield _json(value)
