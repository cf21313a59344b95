"""The verbs over HTTP: a real socket, a real database, the real embedder."""

from __future__ import annotations

import socket

import httpx
import pytest

from lamina.server.app import Limits

pytestmark = pytest.mark.model
MAX_BODY = Limits().body


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
    assert answer.json()["error"]["message"] and answer.json()["error"]["code"]


def test_an_oversized_body_is_refused_unread(client: httpx.Client) -> None:
    with socket.create_connection((client.base_url.host, client.base_url.port or 80)) as wire:
        lines = "POST /memories HTTP/1.1", "Host: localhost", "Content-Type: application/json"
        head = "\r\n".join([*lines, f"Content-Length: {MAX_BODY + 1}", "", ""])
        wire.sendall(head.encode())  # and not a byte of the body
        assert wire.recv(1000).startswith(b"HTTP/1.1 413")


def test_the_api_describes_itself(client: httpx.Client) -> None:
    assert client.get("/health").json()["status"] == "ok"
    assert {"/memories", "/search"} <= set(client.get("/openapi.json").json()["paths"])


def test_another_host_name_is_refused(client: httpx.Client) -> None:
    """A web page whose name was made to point at this machine cannot read what is remembered here."""
    assert client.get("/memories?user_id=ada", headers={"Host": "evil.example"}).status_code == 400


def test_a_repeated_request_writes_once(client: httpx.Client) -> None:
    body = {"messages": "I collect stamps.", "user_id": "cy"}
    rows = [client.post("/memories", json=body, headers={"Idempotency-Key": "k"}).json() for _ in range(3)]
    assert len({row["results"][0]["id"] for row in rows}) == 1
    clash = client.post("/memories", json=body | {"messages": "I sell stamps."}, headers={"Idempotency-Key": "k"})
    assert clash.status_code == 409


def test_a_repeat_after_a_correction_is_still_a_repeat(client: httpx.Client) -> None:
    body, key = {"messages": "My bike is green.", "user_id": "cy", "infer": False}, {"Idempotency-Key": "bike"}
    id = client.post("/memories", json=body, headers=key).json()["results"][0]["id"]
    client.put(f"/memories/{id}", json={"text": "My bike is black."})
    again = client.post("/memories", json=body, headers=key).json()["results"]
    assert [(row["id"], row["memory"]) for row in again] == [(id, "My bike is black.")]


def test_kernel_verbs(client: httpx.Client) -> None:
    added = client.post("/memories", json={"messages": "My boat is called Nadir.", "user_id": "di"}).json()
    id = added["results"][0]["id"]
    explained = client.get(f"/memories/{id}/explain").json()
    assert explained["tier"] == "text" and explained["id"] == id
    assert client.get("/tiers", params={"user_id": "di"}).json()[0]["tier"] == "text"
    assert client.post(f"/memories/{id}/freeze", json={}).status_code == 200
    assert client.put(f"/memories/{id}", json={"text": "My boat sank."}).status_code == 403
    assert client.post(f"/memories/{id}/unfreeze", json={}).status_code == 200
    corrected = client.post(f"/memories/{id}/feedback", json={"good": False, "correction": "My boat is called Zenith."})
    assert corrected.json()["memory"] == "My boat is called Zenith."
    assert [row["action"] for row in client.get("/log", params={"memory_id": id}).json()][:1] == ["add"]


def test_each_request_has_an_id_and_is_counted(client: httpx.Client) -> None:
    assert client.get("/health", headers={"X-Request-ID": "abc-1"}).headers["x-request-id"] == "abc-1"
    assert client.get("/health", headers={"X-Request-ID": "a b\tc"}).headers["x-request-id"] != "a b\tc"
    assert client.get("/ready").json() == {"status": "ready"}
    told = client.get("/metrics").text
    assert 'lamina_requests_total{method="GET",route="/health",status="200"}' in told
    assert client.get("/memories/some-id").status_code == 404
    assert "some-id" not in client.get("/metrics").text
