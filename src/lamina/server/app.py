"""The application: routes, and what stands before all of them.

Order from the outside in: problems (errors as pages for people), observing (ids, logs, metrics, time), the shape of
refusals, hosts (a browser tricked into asking the loopback interface under another name is refused), origins (nor may a
page of another site write), size of the body, then the key in each route.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline
from starlette.middleware.body_limit import RequestBodyLimitMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.routing import Route

from lamina import __version__
from lamina.server import failures, mcp
from lamina.server.dashboard import pages
from lamina.server.dashboard.problems import Problems
from lamina.server.observing import Metrics, Observing
from lamina.server.origins import SameOrigin
from lamina.server.routes import completions, health, jobs, keys, memories, system
from lamina.server.service import Service
from lamina.server.upstreams import upstream

LOOPBACK = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class Limits:
    """``body`` bytes of a request, ``seconds`` until its answer must begin."""

    body: int = 16 * 2**20
    seconds: float = 120.0


def create_app(service: Service, *, limits: Limits | None = None, hosts: tuple[str, ...] = LOOPBACK) -> FastAPI:
    """An application over ``service``. ``hosts``: names under which it may be asked ("*": any)."""
    limits = limits or Limits()
    door = mcp.Door(service, hosts=hosts, body=limits.body)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        with service.running():
            async with door.opened():
                yield
        service.jobs.close()
        service.places.close()
        await app.state.upstream.close()

    app = FastAPIOffline(  # its pages load nothing from elsewhere
        docs_url="/docs",
        redoc_url=None,
        static_url="/docs/static",
        telemetry={"tracing": False, "metrics": False, "logs": False},  # it would quote paths; see server.tracing
        title="Lamina",
        version=__version__,
        description="One memory for language models.",
        lifespan=lifespan,
    )
    app.state.service = service
    app.state.metrics = Metrics()
    app.state.upstream = upstream(service, seconds=limits.seconds)
    failures.install(app)
    for resource in (memories, system, jobs, keys, health, completions):
        app.include_router(resource.router, responses=failures.RESPONSES)
    pages.install(app)
    app.router.routes.append(Route(door.path, door, methods=["POST"], include_in_schema=False))
    names = [f"[{host}]" if ":" in host else host for host in hosts]
    app.add_middleware(RequestBodyLimitMiddleware, max_body_size=limits.body)
    app.add_middleware(SameOrigin, but=door.path)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=names, www_redirect=False)
    app.add_middleware(failures.InJson)
    app.add_middleware(Observing, metrics=app.state.metrics, seconds=limits.seconds)
    app.add_middleware(Problems)
    return app
