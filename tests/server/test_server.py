"""The HTTP face over a real socket, a real database and the real embedder."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import uvicorn

from lamina import Memory
from lamina.server.app import MAX_BODY, create_app


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    memory = Memory(Path(tmp_path_factory.mktemp("server")) / "m.db")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = uvicorn.Server(uvicorn.Config(create_app(memory), host="127.0.0.1", port=port, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
        yield client
    server.should_exit = True
    thread.join()
    memory.close()


def test_a_memory_lives_over_http(client: httpx.Client) -> None:
    added = client.post("/memories", json={"messages": "I work as a nurse in Lyon.", "user_id": "ada"}).json()
    assert any("nurse" in row["memory"] for row in added["results"])
    found = client.post("/search", json={"query": "What is her job?", "filters": {"user_id": "ada"}}).json()["results"]
    assert "nurse" in found[0]["memory"]
    listed = client.get("/memories", params={"user_id": "ada"}).json()["results"]
    assert {row["id"] for row in added["results"]} <= {row["id"] for row in listed}
    history = client.get(f"/memories/{found[0]['id']}/history").json()
    assert [row["event"] for row in history] == ["ADD"]


def test_update_delete_and_forget(client: httpx.Client) -> None:
    rows = client.post("/memories", json={"messages": "My bike is red.", "user_id": "bo", "infer": False}).json()
    id = rows["results"][0]["id"]
    assert client.put(f"/memories/{id}", json={"text": "My bike is blue."}).json()["version"] == 2
    assert client.get(f"/memories/{id}").json()["memory"] == "My bike is blue."
    assert client.delete(f"/memories/{id}").status_code == 200
    assert client.get("/memories", params={"user_id": "bo"}).json()["results"] == []
    assert id in client.delete(f"/memories/{id}", params={"forget": True}).json()["forgotten"]
    assert client.get(f"/memories/{id}").status_code == 404


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/memories", {"messages": "hello"}, 400),  # no owner
        ("POST", "/memories", {"messages": 7, "user_id": "a"}, 422),
        ("POST", "/memories", {"messages": "x", "user_id": "a", "extra": 1}, 422),
        ("POST", "/search", {"query": "", "filters": {"user_id": "a"}}, 400),
        ("POST", "/search", {"query": "x", "filters": {"user_id": "a", "n": {"near": 3}}}, 400),
        ("GET", "/memories", None, 400),
        ("DELETE", "/memories", None, 400),
        ("DELETE", "/memories/nope", None, 404),
        ("PUT", "/memories/nope", {"text": "x"}, 404),
    ],
)
def test_wrong_requests_say_what_is_wrong(
    client: httpx.Client, method: str, path: str, body: object, status: int
) -> None:
    answer = client.request(method, path, json=body)
    assert answer.status_code == status, answer.text
    assert answer.json().get("error", {}).get("message") or answer.json()["detail"]


def test_an_oversized_body_is_refused_unread(client: httpx.Client) -> None:
    with socket.create_connection((client.base_url.host, client.base_url.port or 80)) as wire:
        head = f"POST /memories HTTP/1.1\r\nHost: x\r\nContent-Length: {MAX_BODY + 1}\r\n\r\n"
        wire.sendall(head.encode())  # and not a byte of the body
        assert wire.recv(1000).startswith(b"HTTP/1.1 413")


def test_the_api_describes_itself(client: httpx.Client) -> None:
    assert client.get("/health").json()["status"] == "ok"
    assert {"/memories", "/search"} <= set(client.get("/openapi.json").json()["paths"])
