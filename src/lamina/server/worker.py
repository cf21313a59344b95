"""A worker: the application as uvicorn starts it, in as many processes as are asked for.

What ``lamina serve`` was told reaches a worker through the environment: the settings as ``LAMINA_*`` variables, and how
to serve as JSON in ``LAMINA_SERVE``.
"""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from pydantic import BaseModel

from lamina.kernel.governing.limits import Rate, RateLimits
from lamina.memory import Memory
from lamina.server.app import LOOPBACK, Limits, create_app
from lamina.server.observing import JsonLines
from lamina.server.service import Service

VARIABLE = "LAMINA_SERVE"


class Serving(BaseModel):
    """How to serve. ``per_minute``: requests of each key and worker; ``None``: any number."""

    public: bool = False
    hosts: tuple[str, ...] = LOOPBACK
    per_minute: int | None = None
    seconds: float = 120.0
    log_json: bool = False
    model: str = "smollm2"


def create() -> FastAPI:
    """The application of ``LAMINA_SERVE`` over the memory of the settings; closed with the application."""
    serving = Serving.model_validate_json(os.environ.get(VARIABLE, "{}"))
    if serving.log_json:
        _log_lines()
    memory = Memory()
    rate = Rate.per_minute(serving.per_minute) if serving.per_minute else None
    limits = RateLimits({"read": rate, "write": rate, "forget": rate} if rate else {})
    service = Service(memory, model=serving.model, public=serving.public, limits=limits)
    app = create_app(service, limits=Limits(seconds=serving.seconds), hosts=serving.hosts)
    inner = app.router.lifespan_context

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with inner(app):
            yield
        memory.close()

    app.router.lifespan_context = lifespan
    return app


def _log_lines() -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines())
    logger = logging.getLogger("lamina")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
