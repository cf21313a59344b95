"""OpenAI's API: any client of it gets a memory by changing its base URL.

Whose memory: that of the key's user, else of the header ``X-Lamina-User``, else of the request's ``user``. A request
that names nobody passes through without memory, and ``X-Lamina-Memory: off`` says so.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from functools import partial
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Header, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from lamina.errors import Busy, InvalidInput, LaminaError, LLMError, LLMUnavailable, NotFound
from lamina.llm.patience import within
from lamina.server.caller import Caller, needs
from lamina.server.failures import described
from lamina.server.proxy import Exchange, Listener, begin, completed
from lamina.server.routes.service_of import Served
from lamina.server.service import Service
from lamina.server.upstreams import Reply, Upstream
from lamina.text.arguments import short

router = APIRouter(tags=["openai"], prefix="/v1")
Reader = Annotated[Caller, needs("read")]
Talker = Annotated[Caller, needs("read", "write")]  # it tells what is remembered, and keeps what is said
LEFT = 499  # nobody reads it but the log and the metrics
_LOOK = 0.2  # seconds between two looks at whether the client is still there
_KEEPING = 30.0  # seconds that the end of a streamed answer is held back until it is kept
T = TypeVar("T")
Named = Annotated[str | None, Header(max_length=255)]

logger = logging.getLogger("lamina.server")


@router.post("/chat/completions", summary="Chat completions with memory", response_class=Response)
async def complete(
    request: Request,
    body: dict[str, Any],
    caller: Talker,
    service: Served,
    x_lamina_user: Named = None,
    idempotency_key: Named = None,
) -> Response:
    """OpenAI's request and answer, streamed or not. Memories of the user are quoted in the last user message; what the
    user says is kept before the model is asked, its answer when it is complete. All other fields pass unchanged."""
    user = caller.user or _utf8(x_lamina_user) or body.get("user") or None
    exchange = Exchange(body)
    if user is not None:
        exchange = await service.asking("reading", partial(_begun, service, caller, body, user, idempotency_key))
    reply = await _awaited(request, _upstream(request).complete(exchange.body))
    if reply is None:
        return Response(status_code=LEFT)
    headers = {**reply.headers, **_headers(exchange)}
    if reply.status == 200 and body.get("stream") and not _is_json(reply):
        return _Passing(reply, exchange, headers, service)
    said = await _awaited(request, reply.read())
    if said is None:
        return Response(status_code=LEFT)
    if reply.status == 200 and exchange.system is not None:
        said = await _finished(exchange, said, service)
    return Response(said, reply.status, headers)


@router.get("/models", summary="The models there are", response_class=Response)
async def models(request: Request, caller: Reader) -> Response:  # noqa: ARG001 - asks for the right
    """As the model's server lists them."""
    reply = await _upstream(request).models()
    return Response(await reply.read(), reply.status, dict(reply.headers))


@router.get("/models/{model:path}", summary="One of them", response_class=Response)
async def model(request: Request, model: str, caller: Reader) -> Response:  # noqa: ARG001 - asks for the right
    """Out of the list of the model's server."""
    reply = await _upstream(request).models()
    said = await reply.read()
    if reply.status != 200:
        return Response(said, reply.status, dict(reply.headers))
    try:
        known = {one["id"]: one for one in json.loads(said)["data"]}
    except (ValueError, KeyError, TypeError) as error:
        raise LLMError("the model's server lists no models as OpenAI does") from error
    if model not in known:
        raise NotFound(f"there is no model {short(model)}; there is {', '.join(map(short, known))}")
    return JSONResponse(known[model])


def _is_json(reply: Reply) -> bool:
    """Whether a server that was asked for a stream answers in one piece."""
    kind = next((value for name, value in reply.headers.items() if name.lower() == "content-type"), "")
    return kind.startswith("application/json")


def _begun(service: Service, caller: Caller, body: dict[str, Any], user: str, key: str | None) -> Exchange:
    return begin(service.system(caller), caller.principal, body, user=user, key=key)


def _utf8(header: str | None) -> str | None:
    """Headers arrive as latin-1; names are UTF-8. Raises ``InvalidInput``."""
    try:
        return None if header is None else header.encode("latin-1").decode("utf-8")
    except UnicodeError as error:
        raise InvalidInput("X-Lamina-User: must be UTF-8") from error


async def _awaited(request: Request, work: Coroutine[Any, Any, T]) -> T | None:
    """What ``work`` gives; ``None`` if the client left before, which ends it: a model does not go on for nobody."""
    task = asyncio.ensure_future(work)
    try:
        while not task.done():
            await asyncio.wait({task}, timeout=_LOOK)
            if not task.done() and await request.is_disconnected():
                return None
        return task.result()
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait({task})


class _Passing(StreamingResponse):
    """Events as they come. Whatever ends it, also a client that left, ends the model's work."""

    def __init__(self, reply: Reply, exchange: Exchange, headers: dict[str, str], service: Service) -> None:
        super().__init__(_passing(reply, exchange, service), headers=headers)
        self._reply = reply

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._reply.close()


async def _passing(reply: Reply, exchange: Exchange, service: Service) -> AsyncIterator[bytes]:
    """The lines of ``reply``, whole ones, so that it can end in an error wherever it breaks off. The answer is kept
    before its end is passed on: who has read it can rely on that."""
    heard, kept = Listener(), False
    try:
        async for piece in reply.pieces:
            lines = heard.feed(piece)
            if heard.answer is not None and not kept:
                kept = True
                await _kept(service, partial(_patiently, exchange, heard.answer))
            yield lines
        rest, _ = heard.rest, heard.feed(b"\n")
        if not heard.ended:
            raise LLMUnavailable("the model's server broke off in the midst of its answer; try again")
        yield rest
    except LaminaError as error:  # the answer has begun: its status can no longer say so
        logger.warning("a streamed answer broke off: %s", error.code)
        yield f"\ndata: {json.dumps(described(error))}\n\n".encode()


async def _finished(exchange: Exchange, said: bytes, service: Service) -> bytes:
    """The answer with ``lamina`` in it, kept; anything else as it is."""
    try:
        answer = json.loads(said)
    except ValueError:
        return said
    if not isinstance(answer, dict):
        return said
    await _kept(service, partial(exchange.finish, completed(answer)))
    return json.dumps({**answer, "lamina": exchange.told()}).encode()


def _patiently(exchange: Exchange, answer: str) -> None:
    """A stream may have gone on for longer than a request waits for models."""
    with within(_KEEPING):
        exchange.finish(answer)


async def _kept(service: Service, finish: Callable[[], None]) -> None:
    """``finish`` may ask a model what is worth keeping. Nobody's answer is held back because there is no place."""
    try:
        await service.asking("reading", finish)
    except Busy as error:
        logger.warning("an answer was not remembered: %s", error.code)


def _headers(exchange: Exchange) -> dict[str, str]:
    if exchange.system is None:
        return {"X-Lamina-Memory": "off"}
    return {"X-Lamina-Memory": "on", "X-Lamina-Memories": ",".join(quote.hit.cube.id for quote in exchange.quotes)}


def _upstream(request: Request) -> Upstream:
    found: Upstream = request.app.state.upstream
    return found
