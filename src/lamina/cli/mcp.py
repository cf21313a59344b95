"""``lamina mcp``: the memory as a tool of any MCP client that starts it, such as Claude Desktop."""

from __future__ import annotations

import signal
from typing import Annotated

import typer

from lamina._optional import require
from lamina.cli.command import Session, command


@command(("db", "tenant", "pipeline", "user", "json"))
def mcp(
    session: Session,
    read_only: Annotated[bool, typer.Option("--read-only", help="Offer no tool that changes anything.")] = False,
) -> None:
    """Serve the memories of one user to an MCP client over stdin and stdout (others: lamina serve, at /mcp)."""
    anyio = require("anyio", "lamina mcp")
    require("mcp", "lamina mcp")
    require("fastapi", "lamina mcp")
    from lamina.server.caller import Caller
    from lamina.server.keys import Right
    from lamina.server.mcp import serve_stdio
    from lamina.server.service import Service
    from lamina.text.arguments import identity

    rights: frozenset[Right] = frozenset(["read"] if read_only else ["read", "write", "forget"])
    user = identity("user", session.ids()["user_id"])
    with session.memory(new=True) as memory:
        service = Service(memory)
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # a thread waits for stdin, which Python's Ctrl-C does not end
        try:
            anyio.run(serve_stdio, service, Caller("operator", memory.settings.tenant, rights, user))
        finally:
            service.jobs.close()
