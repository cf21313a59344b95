"""``lamina serve``: the verbs of ``Memory`` over HTTP, for programs on this machine."""

from __future__ import annotations

import ipaddress
from typing import Annotated

import typer

from lamina._optional import require
from lamina.cli import output
from lamina.cli.command import STORE, Session, command
from lamina.errors import InvalidInput


@command(STORE)
def serve(
    session: Session,
    host: Annotated[str, typer.Option(help="A loopback address: there are no keys yet.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 8321,
) -> None:
    """Serve memories over HTTP on the loopback interface; /docs describes the API."""
    if not _is_loopback(host):
        raise InvalidInput(
            f"--host {host}: only loopback addresses such as 127.0.0.1 are allowed, because requests carry no keys."
        )
    uvicorn = require("uvicorn", "lamina serve")
    require("fastapi", "lamina serve")
    from lamina.server.app import create_app

    with session.memory(new=True) as memory:
        output.note(f"Memories of {memory.settings.database_path} at http://{host}:{port} (API: /docs). Ctrl-C ends.")
        uvicorn.run(create_app(memory), host=host, port=port, log_level="warning")


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
