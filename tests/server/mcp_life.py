"""What tests ask of the memory through the SDK's own client, whatever the transport."""

from __future__ import annotations

import json
from typing import Any

import pytest
from mcp import Client, MCPError
from mcp.types import CallToolResult, TextContent

from lamina.server.mcp_tools import NOTICE


async def ask(client: Client, tool: str, **arguments: Any) -> dict[str, Any]:
    """The structured answer; the text beside it says the same."""
    result = await client.call_tool(tool, arguments)
    assert isinstance(result, CallToolResult) and not result.is_error, result.content
    (content,) = result.content
    assert isinstance(content, TextContent) and json.loads(content.text) == result.structured_content
    return dict(result.structured_content or {})


async def refused(client: Client, tool: str, **arguments: Any) -> str:
    result = await client.call_tool(tool, arguments)
    assert isinstance(result, CallToolResult) and result.is_error and result.structured_content is None
    (content,) = result.content
    assert isinstance(content, TextContent) and "Traceback" not in content.text
    return content.text


async def read(client: Client, uri: str) -> dict[str, Any]:
    (content,) = (await client.read_resource(uri)).contents
    return dict(json.loads(content.text))  # type: ignore[union-attr]


def said(*words: str, role: str = "user") -> list[dict[str, str]]:
    return [{"role": role, "content": text} for text in words]


async def life(client: Client, **owner: str) -> None:
    """A memory is added, found, listed, corrected, taken out of use and erased; resources follow it."""
    assert (await ask(client, "search_memories", query="Where does she work?", **owner))["memories"] == []
    added = await ask(client, "add_memories", messages=said("I work as a nurse in Lyon."), **owner)
    (turn, fact, *_) = added["results"]
    found = await ask(client, "search_memories", query="What is her job?", limit=3, **owner)
    assert found["notice"] == NOTICE and "nurse" in found["memories"][0]["quote"]
    assert found["memories"][0]["trust"] == "user" and found["memories"][0]["score"] > 0
    listed = {row["id"]: row for row in (await ask(client, "list_memories", **owner))["memories"]}
    assert set(listed) == {row["id"] for row in added["results"]}
    (source,) = listed[fact["id"]]["sources"]
    assert (await read(client, source))["text"] == "I work as a nurse in Lyon."

    one = await ask(client, "list_memories", limit=1, **owner)
    two = await ask(client, "list_memories", limit=1, cursor=one["cursor"], **owner)
    assert one["memories"][0]["id"] != two["memories"][0]["id"]

    await ask(client, "update_memory", memory_id=fact["id"], text="Ada works as a doctor in Lyon.")
    whole = await read(client, f"lamina://memories/{fact['id']}")
    assert whole["text"] == "Ada works as a doctor in Lyon." and whole["header"]["version"] == 2
    assert len(whole["versions"]) == 2 and "nurse" in (await read(client, whole["versions"][0]))["text"]
    changes = (await ask(client, "memory_history", memory_id=fact["id"]))["changes"]
    assert [row["event"] for row in changes] == ["ADD", "UPDATE"] and "nurse" in changes[1]["old"]

    await ask(client, "delete_memory", memory_id=fact["id"])
    assert (await ask(client, "list_memories", **owner))["memories"] == []
    (closed,) = (await ask(client, "get_memory", memory_id=fact["id"]))["memories"]
    assert closed["superseded"]
    erased = (await ask(client, "forget_memory", memory_id=fact["id"]))["forgotten"]
    assert {turn["id"], fact["id"]} <= set(erased)
    assert (await refused(client, "get_memory", memory_id=fact["id"])).startswith("NOT_FOUND")
    with pytest.raises(MCPError, match="NOT_FOUND"):
        await client.read_resource(f"lamina://memories/{fact['id']}")
