"""``lamina serve``: everything over HTTP, for this machine or, with keys, for others."""

from __future__ import annotations

import ipaddress
import os
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
    workers: Annotated[int, typer.Option(min=1, max=64, help="Processes that answer.")] = 1,
    per_minute: Annotated[
        int | None,
        typer.Option(min=1, help="Requests of each key, shared among workers; default: 600, on loopback any."),
    ] = None,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds until an answer must begin.")] = 120.0,
    log_json: Annotated[bool, typer.Option("--log-json", help="A line of JSON for each request.")] = False,
) -> None:
    """Serve memories over HTTP (/docs describes the API) and MCP (/mcp). Once a key exists, every request needs one."""
    uvicorn = require("uvicorn", "lamina serve")
    require("fastapi", "lamina serve")
    require("mcp", "lamina serve")
    from lamina.server import worker
    from lamina.server.app import LOOPBACK
    from lamina.server.keys import KeyRing
    from lamina.store.address import without_password

    public = not _is_loopback(host) or bool(names)  # under a name of its own it stands behind a proxy
    with session.memory(new=True) as memory:
        if public and not KeyRing(memory.store).any():
            asked = f"--name {names[0]}" if names else f"--host {host}"
            raise InvalidInput(f"{asked}: without keys only loopback is served: lamina keys create NAME")
        settings = memory.settings
    kind, _, name = settings.llm.partition(":")
    serving = worker.Serving(
        public=public,
        hosts=(*LOOPBACK, *(names or ())) if names or not public else ("*",),
        per_minute=per_minute or (600 if public else None),
        workers=workers,
        seconds=timeout,
        log_json=log_json,
        model=name if kind == "local" else "smollm2",
    )
    os.environ |= {worker.VARIABLE: serving.model_dump_json(), "LAMINA_TENANT": settings.tenant}
    os.environ |= {"LAMINA_PIPELINE": settings.pipeline} if settings.pipeline else {}
    os.environ |= {"LAMINA_DATABASE": settings.database} if settings.database else {}
    place = without_password(str(settings.database_path))
    output.note(f"Memories of {place} at http://{host}:{port} (API: /docs). Ctrl-C ends.")
    uvicorn.run(
        "lamina.server.worker:create",
        factory=True,
        host=host,
        port=port,
        workers=workers,
        log_level="warning",
        timeout_graceful_shutdown=_GRACE,
    )


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
