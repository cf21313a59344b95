"""The table of pages, and where they hang in the application."""

from __future__ import annotations

from fastapi import APIRouter, FastAPI
from fastapi.responses import RedirectResponse, Response
from starlette.staticfiles import StaticFiles

from lamina.server.dashboard import chat, graph, memories, memory, proofs, sign_in, tiers, timeline
from lamina.server.dashboard.shell import HERE, PageRoute
from lamina.server.dashboard.visitor import ROOT

PAGES = (sign_in, memories, memory, graph, chat, timeline, tiers, proofs)

_home = APIRouter(route_class=PageRoute)


@_home.get("/")
@_home.get(ROOT)
def home() -> Response:
    return RedirectResponse(f"{ROOT}/memories", 303)


def install(app: FastAPI) -> None:
    """Put the pages under ``/dashboard``, and a way there at ``/``."""
    app.include_router(_home, include_in_schema=False)
    for page in PAGES:
        app.include_router(page.router, prefix=ROOT, include_in_schema=False)
    app.mount(f"{ROOT}/static", StaticFiles(directory=HERE / "static"), name="static")
