"""For those who operate the service: is it alive, may it get requests, and what does it do?"""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from lamina import __version__
from lamina.errors import NotPermitted
from lamina.server.observing import Metrics
from lamina.server.routes.service_of import Served

router = APIRouter(tags=["operation"])


@router.get("/health", summary="The process is alive")
async def health() -> dict[str, Any]:
    """Asks nothing of the database, so that a slow one does not get the process killed."""
    return {"status": "ok", "version": __version__}


@router.get("/ready", summary="Requests can be served")
async def ready(service: Served) -> dict[str, Any]:
    """The database answers; 503 if it does not within 2 seconds."""
    await service.ready()
    return {"status": "ready"}


@router.get("/metrics", summary="Metrics for Prometheus", response_class=Response)
def metrics(request: Request, service: Served) -> Response:
    """Counts and times of all tenants: for the operator's own tenant alone."""
    caller = service.identify(_token(request))
    if not caller.may("admin") or caller.tenant != service.settings.tenant:
        raise NotPermitted("metrics speak of all tenants: an admin key of the operator's tenant is needed")
    found: Metrics = request.app.state.metrics
    found.memories.set(service.memories())
    return Response(generate_latest(found.registry), media_type=CONTENT_TYPE_LATEST)


def _token(request: Request) -> str | None:
    kind, _, token = request.headers.get("authorization", "").partition(" ")
    return token if kind.lower() == "bearer" else request.headers.get("x-api-key")
