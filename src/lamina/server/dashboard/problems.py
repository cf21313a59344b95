"""Errors as pages where a browser asks for one, whoever found them: no such address, another site's form, no answer in
time, a fault.

They come from routes, from what stands before all routes and from what guards their time, and are JSON for programs;
here, outside of all that, those on their way to a person become pages with a way back.
"""

from __future__ import annotations

import json
from typing import Any

from fastapi import Request
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lamina.errors import MissingDependency
from lamina.server.dashboard.shell import problem
from lamina.server.dashboard.visitor import ROOT

_OWN = (b"content-type", b"content-length")  # headers of a body, which is another now
_SAID = {  # where the framework has no more to say than the name of the status
    404: "No page has this address.",
    405: "This address takes orders of another kind; give them on its page.",
}


class Problems:
    """ASGI middleware, the outermost."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not _for_a_person(scope):
            await self._app(scope, receive, send)
            return
        begun: Message | None = None
        body = b""

        async def answering(message: Message) -> None:
            nonlocal begun, body
            if message["type"] == "http.response.start" and _is_error(message):
                begun = message
            elif begun is None or message["type"] != "http.response.body":
                await send(message)
            else:
                body += message.get("body", b"")
                if not message.get("more_body"):
                    await _page(scope, begun, body, receive, send)

        await self._app(scope, receive, answering)


def _for_a_person(scope: Scope) -> bool:
    headers, path = Headers(scope=scope), scope["path"]
    wants = "text/html" in headers.get("accept", "") or headers.get("hx-request") == "true"
    return wants and (path == ROOT or path.startswith(f"{ROOT}/"))


def _is_error(message: Message) -> bool:
    """Whether it begins an error that is no page yet."""
    headers = Headers(raw=list(message.get("headers", ())))
    return message["status"] >= 400 and not headers.get("content-type", "").startswith("text/html")


async def _page(scope: Scope, begun: Message, body: bytes, receive: Receive, send: Send) -> None:
    status, headers = begun["status"], list(begun.get("headers", ()))
    told = _told(status, body, Headers(raw=headers).get("x-request-id", "-"))
    try:
        page = problem(Request(scope), status, told)
    except MissingDependency:  # no pages at all without it: the answer as it was
        await send(begun)
        await send({"type": "http.response.body", "body": body})
        return
    page.raw_headers.extend(pair for pair in headers if pair[0].lower() not in _OWN)
    await page(scope, receive, send)


def _told(status: int, body: bytes, id: str) -> str:
    """The message of an error."""
    try:
        error: dict[str, Any] = json.loads(body)["error"]
    except ValueError:
        error = {"code": f"HTTP_{status}", "message": body.decode(errors="replace")}
    if error["code"] == "ERROR":
        return f"This is our fault. The log of the service has it under {id}."
    message = str(error["message"])
    return _SAID.get(status, message) if error["code"] == f"HTTP_{status}" else message
