"""Who looks at a page: a key in a cookie, or on the loopback interface without any keys the operator.

The cookie is the key itself, so that no worker keeps sessions: out of reach of scripts, sent for no other site's page
(whose writes ``server.origins`` refuses besides).
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Depends, Request
from fastapi.responses import Response

from lamina.errors import NotPermitted
from lamina.server.caller import Caller
from lamina.server.keys import Right

COOKIE = "lamina_key"
ROOT = "/dashboard"


def needs(*rights: Right) -> Any:
    """A dependency: the caller behind the cookie, who has all ``rights``; the request counts as one of the last. Raises
    ``Unauthorized``, ``NotPermitted``, ``RateLimited``."""

    def visitor(request: Request) -> Caller:
        found = identify(request)
        if missing := [right for right in rights if not found.may(right)]:
            lacking = " and ".join(map(repr, missing))
            raise NotPermitted(f"This key may not do that: it has {', '.join(sorted(found.rights))}, not {lacking}.")
        request.app.state.service.spend(found, rights[-1])
        return found

    return Depends(visitor)


def identify(request: Request) -> Caller:
    """Raises ``Unauthorized``."""
    found: Caller = request.app.state.service.identify(request.cookies.get(COOKIE))
    request.state.caller = found
    return found


def remember(answer: Response, key: str, request: Request) -> None:
    """Until the browser is closed."""
    answer.set_cookie(COOKIE, key, path=ROOT, httponly=True, samesite="strict", secure=request.url.scheme == "https")


def leave(answer: Response) -> None:
    answer.delete_cookie(COOKIE, path=ROOT)


Reader = Annotated[Caller, needs("read")]
Writer = Annotated[Caller, needs("write")]
Changer = Annotated[Caller, needs("read", "write")]  # the answer tells what is remembered
Eraser = Annotated[Caller, needs("forget")]
