"""A worker: the application as uvicorn starts it, in as many processes as are asked for.

What ``lamina serve`` was told reaches a worker through the environment: the settings as ``LAMINA_*`` variables, and how
to serve as JSON in ``LAMINA_SERVE``.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from pydantic import BaseModel

from lamina.kernel.governing.limits import Rate, RateLimits
from lamina.llm.embed import LocalEmbedder
from lamina.memory import Memory
from lamina.server import tracing
from lamina.server.app import LOOPBACK, Limits, create_app
from lamina.server.observing import JsonLines
from lamina.server.service import Service

VARIABLE = "LAMINA_SERVE"


class Serving(BaseModel):
    """How to serve. ``per_minute``: requests of each key, in equal parts at each of ``workers``; ``None``: as many as
    they like."""

    public: bool = False
    hosts: tuple[str, ...] = LOOPBACK
    per_minute: int | None = None
    workers: int = 1
    seconds: float = 120.0
    log_json: bool = False
    model: str = "smollm2"


def create() -> FastAPI:
    """The application of ``LAMINA_SERVE`` over the memory of the settings; closed with the application."""
    serving = Serving.model_validate_json(os.environ.get(VARIABLE, "{}"))
    if serving.log_json:
        _log_lines()
    memory = Memory()
    service = Service(memory, model=serving.model, public=serving.public, limits=_limits(serving))
    app = create_app(service, limits=Limits(seconds=serving.seconds), hosts=serving.hosts)
    spans = tracing.provider()
    if spans is not None:
        app.state.tracer = tracing.tracer(spans)
    inner = app.router.lifespan_context

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await asyncio.to_thread(_warm, memory)
        async with inner(app):
            yield
        memory.close()
        if spans is not None:
            spans.shutdown()

    app.router.lifespan_context = lifespan
    return app


def _warm(memory: Memory) -> None:
    """Load an embedder of this machine before anything is asked, or the first to ask would wait for seconds."""
    if isinstance(memory.embedder, LocalEmbedder):
        memory.embedder.encode(["ready"])


def _limits(serving: Serving) -> RateLimits:
    """Of one worker. Workers do not count together: each gives out its part, so that all of them never give out more
    (but for one a minute at each, where there are more workers than requests)."""
    if serving.per_minute is None:
        return RateLimits({})
    rate = Rate.per_minute(max(1, serving.per_minute // serving.workers))
    return RateLimits({"read": rate, "write": rate, "forget": rate})


def _log_lines() -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines())
    logger = logging.getLogger("lamina")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
