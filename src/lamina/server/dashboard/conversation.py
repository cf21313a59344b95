"""A conversation with the model of the service, and the answering of one question in it.

The model is the one that ``POST /chat`` and ``POST /v1/chat/completions`` ask: the one in this process, which uses each
memory in its cheapest form, or a server, which is sent memories as quoted text. What the person says is remembered;
what the model says is not, since memory does not learn from itself.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Mapping
from functools import partial
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool

from lamina.cube.cube import MemCube, new_id
from lamina.errors import LLMError, LLMUnavailable
from lamina.kernel.memos import MemOS
from lamina.llm.base import Message
from lamina.server.caller import Caller
from lamina.server.proxy import begin, only_choice, words
from lamina.server.service import Service
from lamina.server.upstreams import Upstream
from lamina.server.upstreams.local import Local
from lamina.text import arguments
from lamina.text.base import Hit

SHOWN = 8  # exchanges that a conversation keeps
TOLD = 3  # exchanges before, that the model is told
LONGEST = 4000  # characters of a question
TOKENS = 128  # of an answer of the model in this process
PATIENCE = 90.0  # seconds for a server's answer
FOUND = 10  # memories that are looked at


class Used(BaseModel):
    """A memory that served an answer. Without a ``score``, it stood ready in a cache and was not looked for."""

    model_config = ConfigDict(allow_inf_nan=False)

    id: str = Field(max_length=255)
    version: int = Field(ge=1, lt=2**31)
    form: Literal["text", "activation", "parameter"]
    score: float | None = None
    parts: dict[str, float] = Field(default_factory=dict, max_length=20)


class Exchange(BaseModel):
    """A question, and what became of it. ``kept``: ids of what was remembered of it."""

    question: str = Field(max_length=LONGEST)
    answer: str = Field("", max_length=5 * LONGEST)
    error: str = ""
    memory: bool = True
    used: list[Used] = Field(default_factory=list, max_length=200)
    kept: list[str] = Field(default_factory=list, max_length=200)


class Conversation(BaseModel):
    """What the hidden field holds."""

    id: str = Field(default_factory=new_id, max_length=64)
    exchanges: list[Exchange] = Field(default_factory=list, max_length=SHOWN)


async def answer(
    upstream: Upstream, service: Service, caller: Caller, user: str, talk: Conversation, exchange: Exchange
) -> None:
    """Fill ``exchange``, the next of ``talk``; what is there already stays if it fails. Raises ``LaminaError``."""
    system = await run_in_threadpool(service.system, caller)
    if isinstance(upstream, Local):
        await service.asking("model", partial(_locally, system, user, talk, exchange))
        return
    model = service.settings.llm.partition(":")[2]
    body: Mapping[str, Any] = {"model": model, "messages": _messages(talk, exchange)}
    if exchange.memory:
        key = _key(talk, exchange)
        begun = await service.asking("reading", partial(begin, system, caller.principal, body, user=user, key=key))
        exchange.used = [_used(quote.hit.cube, "text", quote.hit) for quote in begun.quotes]
        written = partial(_kept, system, user, exchange.question, begun.key)  # already: no model is asked
        exchange.kept = await run_in_threadpool(written)
        body = begun.body
    exchange.answer = await _asked(upstream, body)


def _locally(system: MemOS, user: str, talk: Conversation, exchange: Exchange) -> None:
    messages = _messages(talk, exchange)
    if not exchange.memory:
        exchange.answer = system.chat(messages, memory=False, max_tokens=TOKENS).text
        return
    scope = arguments.scope_of(system.principal.tenant, {"user_id": user})
    hits = {hit.cube.id: hit for hit in system.memory.hits(exchange.question, scope, top_k=FOUND)}
    reply = system.chat(messages, k=FOUND, max_tokens=TOKENS, user_id=user)
    served = [
        Used(id=one.id, version=one.version, form=one.tier.value, **_scored(hits.get(one.id))) for one in reply.used
    ]
    exchange.answer = reply.text
    exchange.used = sorted(served, key=lambda one: -(one.score or 0.0))[:200]
    exchange.kept = _kept(system, user, exchange.question, _key(talk, exchange))


async def _asked(upstream: Upstream, body: Mapping[str, Any]) -> str:
    """What a server answers. Raises ``LLMError``."""
    try:
        async with asyncio.timeout(PATIENCE):
            reply = await upstream.complete(body)
            told = await reply.read()
    except TimeoutError:
        raise LLMUnavailable(f"The model's server was silent for {PATIENCE:g} s; try again.") from None
    try:
        answer = json.loads(told)
    except ValueError:
        answer = None
    if reply.status != 200:
        error = answer.get("error") if isinstance(answer, dict) else None
        said = error.get("message") if isinstance(error, dict) else None
        raise LLMError(f"The model's server refused ({reply.status}): {str(said or 'it does not say why')[:500]}")
    choice = only_choice(answer)
    if choice is None:
        raise LLMError("The model's server answered, but not with one chat completion.")
    return words(choice.get("message"))[: 5 * LONGEST]


def _messages(talk: Conversation, exchange: Exchange) -> list[Message]:
    said: list[Message] = []
    for one in talk.exchanges[-TOLD:]:
        if one.answer.strip():
            said += [{"role": "user", "content": one.question}, {"role": "assistant", "content": one.answer}]
    return [*said, {"role": "user", "content": exchange.question}]


def _key(talk: Conversation, exchange: Exchange) -> str:
    """The same question at the same place of a conversation is written once, however often it is sent."""
    place = [talk.id, len(talk.exchanges), [one.question for one in talk.exchanges[-1:]], exchange.question]
    return hashlib.sha256(json.dumps(place).encode()).hexdigest()


def _kept(system: MemOS, user: str, question: str, key: str) -> list[str]:
    told = system.remember({"role": "user", "content": question}, user_id=user, idempotency_key=key)
    return [row["id"] for row in told["results"] if row["event"] in ("ADD", "UPDATE")]


def _used(cube: MemCube, form: Literal["text", "activation", "parameter"], hit: Hit) -> Used:
    return Used(id=cube.id, version=cube.header.version, form=form, **_scored(hit))


def _scored(hit: Hit | None) -> dict[str, Any]:
    return {} if hit is None else {"score": hit.score, "parts": dict(list(hit.parts.items())[:20])}
