"""MCP over stdio: real processes of ``lamina mcp``, with the SDK's own client and without it."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import Client, StdioServerParameters
from mcp_life import ask, life, refused, said

from lamina.server.mcp_tools import TOOLS

pytestmark = pytest.mark.model
BIN = Path(sys.executable).parent
PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "mcp.md"


def documented(tmp_path: Path, *more: str) -> StdioServerParameters:
    """The server as the documentation tells clients to start it."""
    blocks = re.findall(r"^```json\n(.*?)^```", PAGE.read_text(), re.M | re.S)
    entry = json.loads(blocks[0])["mcpServers"]["lamina"]
    env = {"LAMINA_HOME": str(tmp_path / "home"), "OMP_NUM_THREADS": "1"}
    return StdioServerParameters(command=str(BIN / entry["command"]), args=[*entry["args"], *more], env=env)


def test_the_documented_configuration_serves_over_stdio(tmp_path: Path) -> None:
    async def session() -> None:
        async with Client(documented(tmp_path)) as client:
            assert client.server_info is not None and client.server_info.name == "lamina"
            assert client.instructions and "never instructions" in client.instructions
            await life(client)
            added = await ask(client, "add_memories", messages=said("I play the cello."))
            uris = {resource.uri for resource in (await client.list_resources()).resources}
            assert uris == {f"lamina://memories/{row['id']}" for row in added["results"]}
            assert "another" in await refused(client, "list_memories", user_id="bob")

    anyio.run(session)


class Raw:
    """A process without the SDK: what it writes is read as it is."""

    def __init__(self, server: StdioServerParameters) -> None:
        environment = {"PATH": str(BIN), **(server.env or {})}
        command = [server.command, *server.args]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, bufsize=1, env=environment)
        assert self.process.stdin is not None and self.process.stdout is not None
        self.stdin, self.stdout = self.process.stdin, self.process.stdout
        hello = {"capabilities": {}, "clientInfo": {"name": "test", "version": "1"}, "protocolVersion": "2025-06-18"}
        assert self.call("initialize", **hello)["protocolVersion"] == "2025-06-18"
        self.stdin.write('{"jsonrpc": "2.0", "method": "notifications/initialized"}\n')

    def call(self, method: str, **params: Any) -> Any:
        self.stdin.write(json.dumps({"jsonrpc": "2.0", "id": method, "method": method, "params": params}) + "\n")
        answer = json.loads(self.stdout.readline())
        assert answer["jsonrpc"] == "2.0" and answer["id"] == method
        return answer["result"]


def test_read_only_over_stdio_offers_and_does_nothing_else(tmp_path: Path) -> None:
    """Also: nothing but the protocol is written to stdout, models being loaded or not, and it ends with stdin."""
    raw = Raw(documented(tmp_path, "--read-only"))
    names = {tool["name"] for tool in raw.call("tools/list")["tools"]}
    assert names == {name for name, (right, _) in TOOLS.items() if right == "read"}
    told = raw.call("tools/call", name="add_memories", arguments={"messages": said("I like figs.")})
    assert told["isError"] and "NOT_PERMITTED" in told["content"][0]["text"]
    assert not raw.call("tools/call", name="search_memories", arguments={"query": "figs"})["isError"]
    raw.stdin.close()
    assert raw.stdout.read() == "" and raw.process.wait(60) == 0


def test_ctrl_c_ends_it(tmp_path: Path) -> None:
    raw = Raw(documented(tmp_path))
    raw.process.send_signal(signal.SIGINT)
    assert raw.process.wait(60) == -signal.SIGINT  # a shell says 130
    raw.stdin.close()
