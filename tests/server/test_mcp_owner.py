"""Whose memories MCP over HTTP means: without keys, with a key of many users; and what it refuses before all that."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import httpx
import httpx2
import pytest
from live_server import serving
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp_life import ask, life, refused, said

from lamina import Memory
from lamina.server.app import Limits, create_app
from lamina.server.mcp_tools import NEEDED
from lamina.server.service import Service
from lamina.settings import Settings

pytestmark = pytest.mark.model
LIST = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}
ACCEPT = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json"}


def run(url: str, session: Callable[[Client], Awaitable[None]], token: str | None = None, mode: str = "auto") -> None:
    async def connected() -> None:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        async with (
            httpx2.AsyncClient(headers=headers, timeout=60) as http,
            Client(streamable_http_client(f"{url}/mcp", http_client=http), mode=mode) as client,
        ):
            await session(client)

    anyio.run(connected)


@pytest.fixture
def keyless(tmp_path: Path) -> Iterator[tuple[str, Memory]]:
    with (
        Memory(tmp_path / "m.db", settings=Settings(user="noor")) as memory,
        serving(create_app(Service(memory))) as url,
    ):
        yield url, memory


@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_without_keys_it_speaks_for_the_user_of_the_command_line(keyless: tuple[str, Memory], mode: str) -> None:
    url, memory = keyless

    async def session(client: Client) -> None:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert "Leave out" in str(tools["search_memories"].input_schema["properties"]["user_id"])
        await life(client)
        added = await ask(client, "add_memories", messages=said("I play the cello."))
        listed = (await ask(client, "list_memories"))["memories"]
        uris = {resource.uri for resource in (await client.list_resources()).resources}
        assert uris == {f"lamina://memories/{row['id']}" for row in added["results"]} == {row["uri"] for row in listed}
        await ask(client, "add_memories", messages=said("I play the oboe."), user_id="bob")  # it may name others
        await ask(client, "add_memories", messages=said("I play the harp."), agent_id="helper")
        found = (await ask(client, "search_memories", query="Which instrument do I play?"))["memories"]
        assert found and all("cello" in row["quote"] for row in found)

    run(url, session, mode=mode)
    mine = [row["memory"] for row in memory.get_all(filters={"user_id": "noor"})["results"]]
    assert mine and all("cello" in text for text in mine)


def test_a_key_of_many_users_is_told_to_name_one(keyless: tuple[str, Memory]) -> None:
    url, memory = keyless
    keys = Service(memory).keys

    def shown(tools: list[Any]) -> dict[str, str]:
        given = {tool.name: tool.input_schema["properties"].get("user_id") for tool in tools}
        return {name: schema["description"] for name, schema in given.items() if schema is not None}

    async def many(client: Client) -> None:
        described = shown((await client.list_tools()).tools)
        assert described == dict.fromkeys(("search_memories", "list_memories", "add_memories"), NEEDED)
        calls: list[tuple[str, dict[str, Any]]] = [
            ("list_memories", {}),
            ("search_memories", {"query": "x"}),
            ("add_memories", {"messages": said("I ski.")}),
        ]
        for name, arguments in calls:
            told = await refused(client, name, **arguments)
            assert told.startswith("VALIDATION_001") and "pass user_id" in told and "--only" in told
        assert (await client.list_resources()).resources == []
        await ask(client, "add_memories", messages=said("I ski."), agent_id="helper")
        assert (await ask(client, "list_memories", agent_id="helper"))["memories"]

    async def one(client: Client) -> None:
        assert all("Leave out" in text for text in shown((await client.list_tools()).tools).values())
        await ask(client, "add_memories", messages=said("I ski."))

    run(url, many, keys.create("many", "acme", ["read", "write"])[1])
    run(url, one, keys.create("one", "acme", ["read", "write"], user="ada")[1])


def test_what_is_refused_before_the_protocol_has_the_shape_of_all_errors(tmp_path: Path) -> None:
    with Memory(tmp_path / "m.db") as memory, serving(create_app(Service(memory), limits=Limits(body=2000))) as url:
        here = httpx.Client(base_url=url, headers=ACCEPT, timeout=60)
        assert here.post("/mcp", json=LIST).status_code == 200
        pieces = iter([b" " * 1000] * 3)  # of no declared length
        wrong: list[tuple[int, dict[str, Any]]] = [
            (403, {"json": LIST, "headers": {"Origin": "http://evil.example"}}),
            (400, {"content": b"{}", "headers": {"Content-Type": "text/plain"}}),
            (400, {"json": LIST, "headers": {"Host": "evil.example"}}),
            (413, {"content": b" " * 3000}),
            (413, {"content": pieces}),
        ]
        for status, request in wrong:
            answer = here.post("/mcp", **request)
            assert answer.status_code == status, (answer.status_code, answer.text)
            error = answer.json()["error"]
            assert error["code"] and error["message"] and error["type"] == "invalid_request_error"
        assert here.get("/mcp").json()["error"]["code"] == "HTTP_405"
        assert here.post("/mcp", content=b"{").json()["error"]["code"] == -32700  # JSON-RPC's own
