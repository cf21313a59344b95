"""Who did it: the log names the key, in whatever way it came, and nothing of what it said."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from live_server import serving

from lamina import Memory
from lamina.cube.cube import Scope
from lamina.kernel.rhythms import upkeep_log
from lamina.llm.base import Embedder
from lamina.server.app import create_app
from lamina.server.keys import Right
from lamina.server.service import Service
from lamina.store import acting

pytestmark = pytest.mark.model


@pytest.fixture(params=["sqlite", "postgres"])
def house(request: pytest.FixtureRequest, minilm: Embedder) -> Iterator[tuple[str, Service, Memory]]:
    place = request.getfixturevalue("postgres_url" if request.param == "postgres" else "tmp_path")
    with Memory(place if isinstance(place, str) else place / "m.db", embedder=minilm) as memory:
        service = Service(memory)
        with serving(create_app(service)) as url:
            yield url, service, memory


def _client(url: str, service: Service, *rights: Right, user: str | None = None) -> tuple[str, httpx.Client]:
    key, token = service.keys.create("a name that is not told", "acme", rights, user=user)
    return f"key:{key.id}", httpx.Client(base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=60)


def test_rows_name_the_key(house: tuple[str, Service, Memory]) -> None:
    url, service, memory = house
    boss, admin = _client(url, service, "admin")
    ada, phone = _client(url, service, "read", "write", "forget", user="ada-lovelace")

    def post(client: httpx.Client, path: str, body: dict[str, Any]) -> Any:
        answer = client.post(path, json=body)
        assert answer.is_success, answer.text
        return answer.json()

    said = post(phone, "/memories", {"messages": "I live in Marseille.", "infer": False})
    id = said["results"][0]["id"]
    phone.put(f"/memories/{id}", json={"text": "I live in Toulon."})
    post(admin, f"/memories/{id}/freeze", {"reason": "asked"})
    post(admin, f"/memories/{id}/unfreeze", {})
    phone.delete(f"/memories/{id}")
    post(phone, f"/memories/{id}/restore", {})
    rows = admin.get("/log", params={"memory_id": id}).json()
    assert [(row["action"], row["actor"]) for row in rows] == [
        ("add", ada), ("update", ada), ("freeze", boss), ("unfreeze", boss), ("delete", ada), ("restore", ada),
    ]  # fmt: skip
    told = [(row["event"], row["actor"]) for row in admin.get(f"/memories/{id}/history").json()]
    assert told[0] == ("ADD", ada) and ("DELETE", ada) in told
    phone.delete(f"/memories/{id}", params={"forget": True})
    items = [{"messages": "I keep bees.", "user_id": "bob"}]
    job = post(admin, "/jobs", {"kind": "add", "items": items, "infer": False})
    while admin.get(f"/jobs/{job['id']}").json()["state"] != "done":
        time.sleep(0.02)
    calls = {"jsonrpc": "2.0", "id": 1, "method": "tools/call"}
    tool = {"name": "add_memories", "arguments": {"messages": [{"role": "user", "content": "I sail."}]}}
    headers = {"Accept": "application/json, text/event-stream", "MCP-Protocol-Version": "2025-11-25"}
    spoken = phone.post("/mcp", json={**calls, "params": tool}, headers=headers)
    assert spoken.status_code == 200 and "ADD" in spoken.text, spoken.text
    log = list(memory.store.as_tenant("acme").events())
    (gone,) = (row for row in log if row.action == "forget" and row.cube == id)
    assert gone.actor == ada
    known = {cube.id for cube in memory.store.as_tenant("acme").query(Scope("acme"), closed=True).cubes}
    assert {row.actor for row in log if row.cube in known} == {ada, boss}
    text = " ".join(str(row) for row in log)
    assert not re.search("Marseille|Toulon|bees|sail|lovelace|a name that", text)
    assert not memory.store.verify()


def test_the_operator_is_named_too_and_parts_keep_their_names(house: tuple[str, Service, Memory]) -> None:
    url, _, memory = house
    for said in ("I live in Boston.", "I moved to Denver."):
        httpx.post(f"{url}/memories", json={"messages": said, "user_id": "ada"}, timeout=60)
    actors = {row.actor for row in memory.store.events()}
    assert "operator" in actors and actors <= {"operator", "rules", "rhythm", "service"}


def test_the_kernels_own_names_are_kept() -> None:
    assert upkeep_log._OWN <= acting.PARTS
    with acting.on_behalf():
        assert acting.named("user") == "user"
        acting.of("key:1")
        assert acting.named("user") == "key:1" and acting.named("rhythm") == "rhythm"
        with acting.on_behalf("key:2"):
            assert acting.named("tenant:acme") == "key:2"
        assert acting.named("tenant:acme") == "key:1"
    acting.of("key:3")
    assert acting.named("user") == "user"
