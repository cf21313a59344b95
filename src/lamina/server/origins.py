"""Pages of other sites cannot write here, though the browser that shows them can reach this service.

Without keys whoever reaches the loopback interface is the operator, and a browser takes any page's requests there; with
a key in a cookie it would even sign them. Browsers name the origin of every write; programs name none.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from lamina.server.failures import answer

_READS = ("GET", "HEAD", "OPTIONS")


class SameOrigin:
    """ASGI middleware: 403 for a write whose ``Origin`` or ``Sec-Fetch-Site`` is another site's. ``but``: a path that
    judges origins by its own rules."""

    def __init__(self, app: ASGIApp, *, but: str) -> None:
        self._app, self._but = app, but

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        open_ = scope["type"] != "http" or scope["method"] in _READS or scope["path"] == self._but
        if open_ or not foreign(Headers(scope=scope)):
            await self._app(scope, receive, send)
            return
        message = "this was asked by a page of another site; open the dashboard itself, or ask from a program"
        await answer(403, "NOT_PERMITTED", message)(scope, receive, send)


def foreign(headers: Headers) -> bool:
    """Whether a browser says that another site asks."""
    origin, site = headers.get("origin"), headers.get("sec-fetch-site")
    elsewhere = origin is not None and urlsplit(origin).netloc != headers.get("host")
    return elsewhere or site not in (None, "same-origin", "none")
