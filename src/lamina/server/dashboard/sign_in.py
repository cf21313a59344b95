"""Sign in with a key; sign out."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, Request
from fastapi.responses import Response

from lamina.server.dashboard import visitor
from lamina.server.dashboard.shell import PageRoute, go, render
from lamina.server.failures import Unauthorized

router = APIRouter(route_class=PageRoute)


@router.get("/sign-in")
def ask(request: Request, to: str = "") -> Response:
    return render(request, "sign_in.html", to=to, wrong="", typed=[])


@router.post("/sign-in")
def sign_in(request: Request, key: Annotated[str, Form(max_length=500)], to: Annotated[str, Form()] = "") -> Response:
    """``to``: the page that was asked for."""
    try:
        request.app.state.service.identify(key.strip())
    except Unauthorized as error:
        return render(request, "sign_in.html", status=401, to=to, wrong=str(error), typed=[])
    answer = go(request, to.lstrip("/") or "memories")
    visitor.remember(answer, key.strip(), request)
    return answer


@router.post("/sign-out")
def sign_out(request: Request) -> Response:
    answer = go(request, "sign-in")
    visitor.leave(answer)
    return answer
