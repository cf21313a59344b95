"""Models that hang hold neither the tools of MCP nor the jobs of a process."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import anyio
import httpx
import httpx2
import pytest
from live_server import serving
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp_life import ask, refused
from openai_standin import StandIn, standing_in

from lamina import Memory
from lamina.bench.synthetic import WordVectors
from lamina.server.app import create_app
from lamina.server.routes import jobs
from lamina.server.service import Service
from lamina.settings import Settings


@pytest.fixture(scope="module")
def far() -> Iterator[StandIn]:
    with standing_in() as stand_in:
        yield stand_in


@pytest.fixture(params=["a-mem", None])
def service(far: StandIn, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Service]:
    told: dict[str, Any] = {"llm": "openai:m", "llm_base_url": far.url, "llm_api_key": "sk"}
    settings = Settings(**told, model_requests=1, durable=False, pipeline=request.param)
    with Memory(tmp_path / "m.db", embedder=WordVectors(), settings=settings) as memory:
        yield Service(memory)
        far.reset()


def _until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.parametrize("service", ["a-mem"], indirect=True)
@pytest.mark.parametrize("tool", ["delete_memory", "forget_memory"])
def test_a_tool_that_may_wait_for_a_model_needs_a_place(far: StandIn, service: Service, tool: str) -> None:
    (stored,) = service._memory.add("I keep bees.", user_id="ada", infer=False)["results"]

    async def session(url: str, done: bool) -> None:
        async with (
            httpx2.AsyncClient(timeout=60) as http,
            Client(streamable_http_client(f"{url}/mcp", http_client=http)) as client,
        ):
            if done:
                await ask(client, tool, memory_id=stored["id"])
            else:
                assert "all 1 requests" in await refused(client, tool, memory_id=stored["id"])

    with serving(create_app(service)) as url, ThreadPoolExecutor(1) as other:
        far.pause = 0
        body = {"messages": "I live in Lyon.", "user_id": "bob"}
        hanging = other.submit(httpx.post, f"{url}/memories", json=body, timeout=60)
        _until(lambda: service.places.taken == 1)
        anyio.run(session, url, False)
        assert (service._memory.get(stored["id"]) or {})["memory"] == "I keep bees."
        far.go.set()
        assert hanging.result().status_code == 200
        anyio.run(session, url, True)
        assert service._memory.get_all(filters={"user_id": "ada"})["results"] == []


def _add(client: httpx.Client, user: str, count: int) -> str:
    items = [{"messages": f"I live in Town{number}.", "user_id": user} for number in range(count)]
    job: dict[str, Any] = client.post("/jobs", json={"kind": "add", "items": items}).json()
    return str(job["id"])


def test_a_job_waits_for_a_model_no_longer_than_it_says_and_the_next_has_its_turn(
    far: StandIn, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "_PATIENCE", 0.4)
    monkeypatch.setattr(jobs, "_SILENT", 0.2)
    with serving(create_app(service)) as url, httpx.Client(base_url=url, timeout=20) as client:
        far.pause = 0
        first, next = _add(client, "ada", 3), _add(client, "bob", 1)
        _until(lambda: client.get(f"/jobs/{next}").json()["state"] == "done")
        assert client.get(f"/jobs/{first}").json()["result"]["items"] == 3
        rows = client.get("/memories", params={"user_id": "ada"}).json()["results"]
        assert {row["memory"] for row in rows} >= {f"I live in Town{number}." for number in range(3)}


def test_a_job_that_waits_for_a_model_hears_soon_that_it_was_cancelled(
    far: StandIn, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "_PATIENCE", 0.4)
    with serving(create_app(service)) as url, httpx.Client(base_url=url, timeout=20) as client:
        far.pause = 0
        job = _add(client, "ada", 1000)
        _until(lambda: len(far.received) > 0)
        client.delete(f"/jobs/{job}")
        _until(lambda: client.get(f"/jobs/{job}").json()["state"] == "cancelled")
        rows = client.get("/memories", params={"user_id": "ada"}).json()["results"]
        assert {row["memory"] for row in rows}.isdisjoint({"I live in Town4."})
