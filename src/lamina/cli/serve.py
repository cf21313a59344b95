"""``lamina serve``: everything over HTTP, for this machine or, with keys, for others."""

from __future__ import annotations

import ipaddress
import logging
from typing import Annotated

import typer

from lamina._optional import require
from lamina.cli import output
from lamina.cli.command import STORE, Session, command
from lamina.errors import InvalidInput

_GRACE = 20  # seconds for requests that run when the service is told to stop


@command(STORE)
def serve(
    session: Session,
    host: Annotated[str, typer.Option(help="Where to listen; other than loopback only with keys.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 8321,
    names: Annotated[
        list[str] | None, typer.Option("--name", help="A host name it is asked under, if not loopback.")
    ] = None,
    per_minute: Annotated[
        int | None, typer.Option(min=1, help="Requests of each key; default: 600, on loopback any number.")
    ] = None,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds until an answer must begin.")] = 120.0,
    log_json: Annotated[bool, typer.Option("--log-json", help="A line of JSON for each request.")] = False,
) -> None:
    """Serve memories over HTTP; /docs describes the API. Once a key exists, every request needs one."""
    uvicorn = require("uvicorn", "lamina serve")
    require("fastapi", "lamina serve")
    from lamina.kernel.governing.limits import Rate, RateLimits
    from lamina.server.app import LOOPBACK, Limits, create_app
    from lamina.server.service import Service

    public = not _is_loopback(host)
    with session.memory(new=True) as memory:
        rate = Rate.per_minute(per_minute or 600) if per_minute or public else None
        limits = RateLimits({"read": rate, "write": rate, "forget": rate} if rate else {})
        service = Service(memory, public=public, limits=limits)
        if public and not service.keys.any():
            raise InvalidInput(
                f"--host {host}: without keys only loopback is served; make one: lamina keys create NAME"
            )
        hosts = tuple(names or ()) + LOOPBACK if names or not public else ("*",)
        app = create_app(service, limits=Limits(seconds=timeout), hosts=hosts)
        if log_json:
            _log_lines()
        output.note(f"Memories of {memory.settings.database_path} at http://{host}:{port} (API: /docs). Ctrl-C ends.")
        uvicorn.run(app, host=host, port=port, log_level="warning", timeout_graceful_shutdown=_GRACE)


def _log_lines() -> None:
    from lamina.server.observing import JsonLines

    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines())
    logger = logging.getLogger("lamina")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
