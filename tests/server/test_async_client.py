"""The asynchronous client against a live service; and that both clients have the calls of ``Memory`` and ``MemOS``."""

from __future__ import annotations

import asyncio
import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from live_server import serving

from lamina import Memory
from lamina.client import AsyncClient, Client, calls
from lamina.errors import Conflict, InvalidInput, NotFound, StoreUnavailable
from lamina.kernel.memos import MemOS
from lamina.server.app import create_app
from lamina.server.service import Service

pytestmark = pytest.mark.model


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with Memory(tmp_path_factory.mktemp("async") / "m.db") as memory:
        yield Service(memory)


@pytest.fixture(scope="module")
def url(service: Service) -> Iterator[str]:
    with serving(create_app(service)) as url:
        yield url


def test_many_calls_at_once(url: str) -> None:
    async def work() -> None:
        async with AsyncClient(url) as memory:
            added = await asyncio.gather(*(memory.add(f"I own {n} bikes.", user_id=f"u{n}") for n in range(8)))
            assert all(row["results"] for row in added)
            found = await asyncio.gather(*(memory.search("bikes", filters={"user_id": f"u{n}"}) for n in range(8)))
            assert all(f"{n} bikes" in rows["results"][0]["memory"] for n, rows in enumerate(found))
            id = added[0]["results"][0]["id"]
            assert (await memory.update(id, "I own no bikes."))["version"] == 2
            assert [row["event"] for row in await memory.history(id)] == ["ADD", "UPDATE"]
            assert id in (await memory.forget(id))["forgotten"]
            assert await memory.get(id) is None

    asyncio.run(work())


def test_pages_and_jobs(url: str) -> None:
    async def work() -> None:
        async with AsyncClient(url) as memory:
            items = [{"messages": f"Note {n}.", "user_id": "pat"} for n in range(5)]
            job = await memory.add_job(items, infer=False)
            done = await memory.wait_job(job["id"], seconds=60, every=0.05)
            assert done["result"] == {"items": 5, "results": 5}
            notes = [row["memory"] async for row in memory.all(user_id="pat", page=2)]
            assert notes == [f"Note {n}." for n in reversed(range(5))]
            assert (await memory.wait_job(job["id"], seconds=0))["state"] == "done"

    asyncio.run(work())


def test_errors_are_those_of_the_library(url: str) -> None:
    async def work() -> None:
        async with AsyncClient(url) as memory:
            with pytest.raises(NotFound):
                await memory.update("nope", "x")
            with pytest.raises(InvalidInput):
                await memory.history("../keys")
            await memory.add("One.", user_id="bo", idempotency_key="k", infer=False)
            with pytest.raises(Conflict):
                await memory.add("Two.", user_id="bo", idempotency_key="k", infer=False)
        async with AsyncClient("http://127.0.0.1:1", tries=2) as nobody:
            with pytest.raises(StoreUnavailable, match="does not answer"):
                await nobody.get("x")

    asyncio.run(work())
    with pytest.raises(InvalidInput):
        AsyncClient("ftp://x")


def test_an_add_that_is_cut_off_is_sent_again_and_written_once(url: str, service: Service) -> None:
    """The first answer is lost on its way: the words are there once."""

    async def work() -> None:
        cut = 1
        async with await asyncio.start_server(lambda r, w: relay(r, w), "127.0.0.1", 0) as middle:
            port = middle.sockets[0].getsockname()[1]

            async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                nonlocal cut
                there, back = await asyncio.open_connection("127.0.0.1", int(url.rsplit(":", 1)[1]))
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(re.findall(rb"(?i)content-length: (\d+)", head)[0])
                back.write(re.sub(rb"(?i)\r\nconnection: [a-z-]+", b"", head)[:-2] + b"Connection: close\r\n\r\n")
                back.write(await reader.readexactly(length))
                answer = await there.read()
                if cut:
                    cut -= 1
                else:
                    writer.write(answer)
                    await writer.drain()
                writer.close()
                back.close()

            async with AsyncClient(f"http://127.0.0.1:{port}") as memory:
                assert (await memory.add("I am here.", user_id="once", infer=False))["results"]

    asyncio.run(work())
    rows = service._memory.get_all(filters={"user_id": "once"})["results"]
    assert [row["memory"] for row in rows] == ["I am here."]


# -- the same calls everywhere ------------------------------------------------------------------------

LOCAL = {"from_config", "add_batch", "hits", "mend"}  # of a process; many messages over HTTP are ``add_job``
LEFT_OUT = {  # not offered by the service, or refused by ``Memory`` itself
    "add": {"memory_type", "prompt"},
    "update": {"expiration_date", "data"},
    "search": {"user_id", "agent_id", "run_id"},
    "get_all": {"user_id", "agent_id", "run_id"},
    "promote": {"to", "progress"},
    "chat": {"owner"},
}
ADDED = {  # what the kernel's verb of that name takes besides; and a default that can be sent
    "forget": {"legal_override"},
    "get": {"as_of"},
    "reset": {"confirm"},
    "restore": {"version", "reason"},
    "update": {"expiration_date"},
}


def _public(kind: type | ModuleType) -> dict[str, Callable[..., Any]]:
    """Its own functions, classmethods too."""
    found = {name: getattr(kind, name) for name in vars(kind) if not name.startswith("_")}
    return {name: value for name, value in found.items() if inspect.isroutine(value) and _at_home(kind, value)}


def _at_home(kind: type | ModuleType, value: Callable[..., Any]) -> bool:
    return not isinstance(kind, ModuleType) or value.__module__ == kind.__name__


def _parameters(call: Callable[..., Any]) -> dict[str, Any]:
    return {name: (one.kind, one.default) for name, one in inspect.signature(call).parameters.items()}


def test_both_clients_have_the_same_calls() -> None:
    one, other = _public(Client), _public(AsyncClient)
    assert one.keys() == other.keys()
    for name in one:
        assert _parameters(one[name]) == _parameters(other[name]), name
        assert one[name].__doc__ and name == one[name].__name__ == other[name].__name__
    assert one.keys() - _public(calls).keys() == {"all", "wait_job", "close"}


def test_they_are_those_of_memory() -> None:
    client = _public(Client)
    missing = _public(Memory).keys() - client.keys()
    assert missing == LOCAL
    for name, call in _public(Memory).items():
        if name in client:
            wanted = {key: one for key, one in _parameters(call).items() if key not in LEFT_OUT.get(name, set())}
            found = {key: one for key, one in _parameters(client[name]).items() if key not in ADDED.get(name, set())}
            assert found == wanted, name


def test_they_are_those_of_the_kernel() -> None:
    client = _public(Client)
    for name in ("chat", "feedback", "archive", "freeze", "unfreeze", "explain", "log", "promote", "demote"):
        theirs, ours = _parameters(_public(MemOS)[name]), _parameters(client[name])
        assert theirs.keys() - LEFT_OUT.get(name, set()) <= ours.keys(), name
        assert ours.keys() - theirs.keys() <= {"user_id", "agent_id", "run_id"}, name
        assert all(theirs[key] == ours[key] for key in theirs.keys() & ours.keys()), name


def test_no_route_of_the_service_is_out_of_reach(tmp_path: Path) -> None:
    given: dict[str, Any] = {"memory_ids": ["m"], "items": [], "rights": [], "good": True}
    with Memory(tmp_path / "m.db") as memory:
        paths = create_app(Service(memory)).openapi()["paths"]
    routes = {(method.upper(), path) for path, item in paths.items() for method in item}
    reached = set()
    for name, call in _public(calls).items():
        needed = [k for k, one in inspect.signature(call).parameters.items() if one.default is one.empty]
        request = call(*(given.get(key, "x1") for key in needed))
        fits = {(m, p) for m, p in routes if m == request.method and _fits(p, request.path)}
        assert fits, f"{name}: the service has no {request.method} {request.path}"
        reached |= {min(fits, key=lambda route: route[1].count("{"))}
    operation = {"/health", "/ready", "/metrics", "/jobs/{job_id}/events"}
    assert {path for _, path in routes - reached if not path.startswith("/v1/")} == operation


def _fits(template: str, path: str) -> bool:
    return re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", template), path) is not None
