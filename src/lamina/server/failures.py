"""Errors of the library as HTTP answers: ``{"error": {"code", "message", "type"}}``, and a status for each kind.

Clients of OpenAI's API read the same shape.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Literal

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lamina import errors
from lamina.errors import LaminaError


class Unauthorized(LaminaError):
    """No key, or one that proves nothing."""

    code = "UNAUTHORIZED"


STATUS: list[tuple[type[LaminaError], int]] = [  # the first that fits
    (Unauthorized, 401),
    (errors.NotFound, 404),
    (errors.InvalidInput, 400),
    (errors.Conflict, 409),
    (errors.IllegalTransition, 409),
    (errors.FingerprintMismatch, 409),
    (errors.RateLimited, 429),
    (errors.NotPermitted, 403),
    (errors.CorruptCube, 422),
    (errors.UntrustedBundle, 422),
    (errors.BudgetError, 422),
    (errors.MissingDependency, 501),
    (errors.LLMUnavailable, 503),
    (errors.LLMError, 502),
    (errors.StoreUnavailable, 503),
]


class Problem(BaseModel):
    """What went wrong: ``code`` for programs, ``message`` for people."""

    code: str = Field(examples=["NOT_FOUND"])
    message: str = Field(examples=["there is no memory '019c...'"])
    type: Literal["invalid_request_error", "server_error"]


class Failure(BaseModel):
    """Every error has this shape."""

    error: Problem


_MEANING = {
    400: "The request is wrong; the message names the field and the remedy.",
    401: "A key is needed, or this one proves nothing.",
    403: "This key may not do that.",
    404: "There is none, or none that this key may know of.",
    409: "What is there does not allow it now.",
    413: "The body is too large.",
    422: "A field has the wrong type, or a rule refuses the content.",
    429: "Too often; Retry-After says when to come again.",
    501: "A package is not installed that this needs.",
    502: "A model answered nonsense.",
    503: "The store or a model cannot be reached now; Retry-After says when to come again.",
    504: "No answer in time; what was asked may still be done.",
}
_REMEDY = {400: "; lamina serve --name HOST says under which names it is asked", 413: "; send less at once"}
RESPONSES: dict[int | str, dict[str, Any]] = {
    status: {"model": Failure, "description": meaning} for status, meaning in _MEANING.items()
}


def status_of(error: LaminaError) -> int:
    return next((code for kind, code in STATUS if isinstance(error, kind)), 500)


def come_again(error: LaminaError) -> dict[str, str]:
    """The header that says after how many seconds, if that may help."""
    wait = getattr(error, "retry_after", 1 if status_of(error) == 503 else None)
    return {} if wait is None else {"Retry-After": str(max(1, round(wait)))}


def answer(status: int, code: str, message: str, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse(_body(status, code, message), status_code=status, headers=headers)


def described(error: LaminaError) -> dict[str, dict[str, str]]:
    """The body alone, for an answer that has begun."""
    return _body(status_of(error), error.code, str(error))


def _body(status: int, code: str, message: str) -> dict[str, dict[str, str]]:
    kind = "server_error" if status >= 500 else "invalid_request_error"
    return {"error": {"code": code, "message": message, "type": kind}}


class InJson:
    """ASGI middleware: what refuses a request before any route has it (its host, its size) does so in plain text;
    callers get the shape of all our errors."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, in_json(scope, receive, send, lambda status: _early(status, scope), _REMEDY))


def in_json(
    scope: Scope,
    receive: Receive,
    send: Send,
    meant: Callable[[int], bool],
    remedies: Mapping[int, str] = MappingProxyType({}),
) -> Send:
    """``send``, in our shape where an answer of a status that is ``meant`` comes as plain text, with its remedy."""
    status, said = 0, b""

    async def sent(message: Message) -> None:
        nonlocal status, said
        if message["type"] == "http.response.start" and meant(message["status"]):
            kind = Headers(raw=message["headers"]).get("content-type", "text/plain")
            status = message["status"] if kind.startswith("text/plain") else 0
        if not status:
            await send(message)
        elif message["type"] == "http.response.body":
            said += message.get("body", b"")
            if not message.get("more_body"):
                told = said.decode() + remedies.get(status, "")
                await answer(status, f"HTTP_{status}", told)(scope, receive, send)

    return sent


def _early(status: int, scope: Scope) -> bool:
    """Whether no route was asked; it may be known which, when a body turns out to be too large."""
    return status == 413 or (status >= 400 and "route" not in scope)


def install(app: FastAPI) -> None:
    """Every error of ``app`` in one shape."""

    async def ours(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, LaminaError)
        status = status_of(error)
        headers = {"WWW-Authenticate": "Bearer"} if status == 401 else {}
        return answer(status, error.code, str(error), headers | come_again(error))

    async def invalid(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        told = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()[:5])
        return answer(422, "INVALID_INPUT", told)

    async def http(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        return answer(error.status_code, f"HTTP_{error.status_code}", str(error.detail), dict(error.headers or {}))

    app.add_exception_handler(LaminaError, ours)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, http)
