"""Keys: what each may do and see, over HTTP and in the ring itself."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from live_server import serving

from lamina import Memory
from lamina.cube.cube import now
from lamina.errors import InvalidInput, NotFound
from lamina.kernel.governing.limits import Rate, RateLimits
from lamina.server.app import create_app
from lamina.server.keys import KeyRing
from lamina.server.service import Service

pytestmark = pytest.mark.model


@pytest.fixture(scope="module")
def ring(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KeyRing]:
    with Memory(Path(tmp_path_factory.mktemp("keys")) / "m.db") as memory:
        yield KeyRing(memory.store)


def test_a_token_proves_its_key_until_it_is_revoked(ring: KeyRing) -> None:
    key, token = ring.create("bot", "acme", ["read"])
    assert ring.verify(token) == key and key.rights == {"read"} and ring.any()
    last = "A" if token[-1] != "A" else "B"
    for wrong in ("", "lk_", token[:-1], token[:-1] + last, token + "A", token.upper(), "lk_000000000000_" + "A" * 43):
        assert ring.verify(wrong) is None
    with pytest.raises(NotFound):
        ring.revoke(key.id, tenant="other")
    assert ring.revoke(key.id).revoked is not None and ring.verify(token) is None
    assert [one.id for one in ring.list("acme")] == [key.id] and ring.list("nobody") == []


def test_an_expired_key_proves_nothing(ring: KeyRing, monkeypatch: pytest.MonkeyPatch) -> None:
    _, token = ring.create("guest", "acme", expires=now() + timedelta(hours=1))
    assert ring.verify(token) is not None
    monkeypatch.setattr("lamina.server.keys.now", lambda: now() + timedelta(hours=2))
    assert ring.verify(token) is None


@given(st.text(max_size=80))
def test_no_text_is_a_token(ring: KeyRing, text: str) -> None:
    assert ring.verify(text) is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": " "},
        {"tenant": ""},
        {"tenant": "lamina:keys"},
        {"tenant": "lamina"},
        {"rights": []},
        {"rights": ["fly"]},
        {"rights": ["admin"], "user": "ada"},
        {"expires": now() - timedelta(days=1)},
    ],
)
def test_wrong_keys_are_not_made(ring: KeyRing, wrong: dict[str, object]) -> None:
    before = len(ring.list())
    with pytest.raises(InvalidInput):
        ring.create(**{"name": "x", "tenant": "t", "rights": ["read"], **wrong})  # type: ignore[arg-type]
    assert len(ring.list()) == before


def test_no_secret_is_kept(tmp_path: Path) -> None:
    with Memory(tmp_path / "m.db") as memory:
        _, token = KeyRing(memory.store).create("bot", "acme")
    secret = token.split("_", 2)[2].encode()
    assert all(secret not in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())


class Clients:
    """One client for each kind of key of two tenants."""

    def __init__(self, url: str, ring: KeyRing) -> None:
        def client(tenant: str, *rights: str, user: str | None = None) -> httpx.Client:
            _, token = ring.create("test", tenant, rights, user=user)
            return httpx.Client(base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=60)

        self.bare = httpx.Client(base_url=url, timeout=60)
        self.admin, self.other = client("acme", "admin"), client("umbrella", "admin")
        self.reader, self.writer = client("acme", "read"), client("acme", "read", "write")
        self.blind = client("acme", "write")
        self.ada = client("acme", "read", "write", "forget", user="ada")


@pytest.fixture(scope="module")
def clients(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clients]:
    with Memory(Path(tmp_path_factory.mktemp("tenants")) / "m.db") as memory:
        service = Service(memory)
        with serving(create_app(service)) as url:
            yield Clients(url, service.keys)


def _add(client: httpx.Client, text: str, user: str) -> str:
    answer = client.post("/memories", json={"messages": text, "user_id": user, "infer": False})
    return str(answer.json()["results"][0]["id"])


def test_once_there_are_keys_each_request_needs_one(clients: Clients) -> None:
    for path in ("/memories?user_id=ada", "/memories/x", "/tiers", "/keys", "/metrics", "/log?memory_id=x"):
        bare = clients.bare.get(path)
        assert bare.status_code == 401 and bare.headers["www-authenticate"] == "Bearer"
        assert clients.bare.get(path, headers={"X-API-Key": "lk_wrong"}).status_code == 401
    assert clients.bare.get("/health").status_code == 200
    assert clients.bare.get("/ready").status_code == 200


def test_rights(clients: Clients) -> None:
    id = _add(clients.writer, "The door code is on the fridge.", "eve")
    assert clients.reader.get(f"/memories/{id}").status_code == 200
    assert clients.reader.put(f"/memories/{id}", json={"text": "x y z"}).status_code == 403
    assert clients.writer.delete(f"/memories/{id}", params={"forget": True}).status_code == 403
    assert clients.writer.post(f"/memories/{id}/freeze", json={}).status_code == 403
    assert clients.writer.get("/keys").status_code == 403
    assert clients.admin.delete(f"/memories/{id}", params={"forget": True}).status_code == 200


def test_a_key_that_may_only_write_reads_nothing(clients: Clients) -> None:
    id = _add(clients.writer, "The safe is behind the clock.", "eve")
    asked = {"messages": [{"role": "user", "content": "Where is the safe?"}]}
    for method, path, body in (
        ("POST", "/chat", {"messages": "Where is the safe?", "user_id": "eve"}),
        ("POST", "/v1/chat/completions", {**asked, "model": "smollm2", "user": "eve"}),
        ("PUT", f"/memories/{id}", {"metadata": {"room": 1}}),
        ("POST", f"/memories/{id}/restore", None),
        ("POST", f"/memories/{id}/accept", {}),
        ("POST", f"/memories/{id}/feedback", {"good": True}),
        ("POST", "/tiers/move", {"ids": [id], "to": "text"}),
        ("POST", "/search", {"query": "safe", "filters": {"user_id": "eve"}}),
        ("GET", f"/memories/{id}", None),
        ("GET", "/memories?user_id=eve", None),
    ):
        for client, missing in ((clients.blind, "'read' is needed"), (clients.reader, "'write' is needed")):
            answer = client.request(method, path, json=body)
            allowed = client is clients.reader and (method == "GET" or path == "/search")
            assert answer.status_code == (200 if allowed else 403), path
            assert allowed or (missing in answer.text and "clock" not in answer.text)
    clients.writer.post("/memories", json={"messages": "I live in Boston.", "user_id": "eve"})
    told = clients.blind.post("/memories", json={"messages": "I live in Denver now.", "user_id": "eve"})
    assert told.status_code == 200 and "Boston" not in told.text
    assert {row["event"] for row in told.json()["results"]} == {"ADD", "UPDATE"}
    assert clients.blind.delete(f"/memories/{id}").status_code == 200


VERBS = [
    ("GET", "/memories/{id}", None),
    ("GET", "/memories/{id}/history", None),
    ("GET", "/memories/{id}/explain", None),
    ("GET", "/log?memory_id={id}", None),
    ("PUT", "/memories/{id}", {"text": "taken over"}),
    ("DELETE", "/memories/{id}", None),
    ("DELETE", "/memories/{id}?forget=true", None),
    ("POST", "/memories/{id}/restore", None),
    ("POST", "/memories/{id}/accept", {}),
    ("POST", "/memories/{id}/feedback", {"good": False}),
    ("POST", "/memories/{id}/freeze", {}),
    ("POST", "/memories/{id}/archive", {}),
    ("POST", "/tiers/move", {"ids": ["{id}"]}),
    ("POST", "/jobs", {"kind": "learn", "ids": ["{id}"]}),
]


@pytest.mark.parametrize(("method", "path", "body"), VERBS)
def test_another_tenants_memory_is_one_that_never_was(
    clients: Clients, method: str, path: str, body: dict[str, object] | None
) -> None:
    real, made_up = _add(clients.writer, "Our margin is 41 percent.", "ada"), "019c0000-0000-7000-8000-000000000000"

    def ask(client: httpx.Client, id: str) -> tuple[int, str]:
        said = None if body is None else {k: [id] if v == ["{id}"] else v for k, v in body.items()}
        answer = client.request(method, path.replace("{id}", id), json=said)
        return answer.status_code, answer.text.replace(id, "ID")

    assert ask(clients.other, real) == ask(clients.other, made_up)
    assert ask(clients.other, real)[0] == 404
    assert clients.writer.get(f"/memories/{real}").json()["memory"] == "Our margin is 41 percent."


def test_a_key_of_one_user_speaks_for_that_user_alone(clients: Clients) -> None:
    hers, his = _add(clients.writer, "Ada likes tea.", "ada"), _add(clients.writer, "Bob likes absinthe.", "bob")
    assert clients.ada.get(f"/memories/{hers}").status_code == 200
    assert clients.ada.get(f"/memories/{his}").status_code == 404
    assert clients.ada.delete(f"/memories/{his}", params={"forget": True}).status_code == 404
    rows = clients.ada.get("/memories").json()["results"]
    assert rows and all(row["user_id"] == "ada" for row in rows)
    assert clients.ada.get("/memories", params={"user_id": "bob"}).status_code == 403
    found = clients.ada.post("/search", json={"query": "Who likes absinthe?"}).json()["results"]
    assert all("absinthe" not in row["memory"] for row in found)
    assert clients.ada.post("/search", json={"query": "absinthe", "filters": {"user_id": "bob"}}).status_code == 403
    nested = {"query": "absinthe", "filters": {"OR": [{"user_id": "bob"}, {"user_id": "ada"}]}}
    told = clients.ada.post("/search", json=nested)
    assert told.status_code != 200 or all("absinthe" not in row["memory"] for row in told.json()["results"])
    many = clients.ada.post("/jobs", json={"kind": "add", "items": [{"messages": "x", "user_id": "bob"}]})
    assert many.status_code == 403
    mine = clients.ada.post("/memories", json={"messages": "I like figs.", "infer": False}).json()
    assert clients.admin.get(f"/memories/{mine['results'][0]['id']}").json()["user_id"] == "ada"


def test_a_cursor_of_another_tenant_opens_nothing(clients: Clients) -> None:
    for n in range(3):
        _add(clients.writer, f"Secret number {n}.", "dan")
    cursor = clients.writer.get("/memories", params={"user_id": "dan", "top_k": 1}).json()["cursor"]
    answer = clients.other.get("/memories", params={"user_id": "dan", "cursor": cursor})
    assert answer.status_code in (200, 400) and "Secret" not in answer.text


def test_administrators_govern_the_keys_of_their_own_tenant(clients: Clients) -> None:
    made = clients.admin.post("/keys", json={"name": "app", "rights": ["read"]}).json()
    assert made["token"].startswith("lk_") and made["tenant"] == "acme"
    headers = {"Authorization": f"Bearer {made['token']}"}
    assert clients.bare.get("/memories?user_id=ada", headers=headers).status_code == 200
    assert made["id"] not in {key["id"] for key in clients.other.get("/keys").json()}
    assert clients.other.delete(f"/keys/{made['id']}").status_code == 404
    assert "token" not in clients.admin.get("/keys").text
    assert clients.admin.delete(f"/keys/{made['id']}").json()["revoked"] is not None
    assert clients.bare.get("/memories?user_id=ada", headers=headers).status_code == 401


def test_metrics_are_the_operators(clients: Clients) -> None:
    assert clients.admin.get("/metrics").status_code == 403  # of a tenant that is not the operator's


def test_jobs_of_a_tenant_are_its_own(clients: Clients) -> None:
    items = [{"messages": f"Line {n} of the log.", "user_id": "log"} for n in range(150)]
    job = clients.writer.post("/jobs", json={"kind": "add", "items": items, "infer": False}).json()
    assert clients.other.get(f"/jobs/{job['id']}").status_code == 404
    with clients.writer.stream("GET", f"/jobs/{job['id']}/events") as stream:
        told = [line for line in stream.iter_lines() if line.startswith("data:")]
    assert '"state":"done"' in told[-1].replace(" ", "") and '"results":150' in told[-1].replace(" ", "")
    assert len(clients.writer.get("/memories", params={"user_id": "log", "top_k": 1000}).json()["results"]) == 150


def test_a_key_that_asks_too_often_is_told_when_to_come_again(tmp_path: Path) -> None:
    with Memory(tmp_path / "m.db") as memory:
        service = Service(memory, limits=RateLimits({"read": Rate(3, every=60 * 10**9)}))
        with serving(create_app(service)) as url:
            clients = Clients(url, service.keys)
            answers = [clients.reader.get("/memories", params={"user_id": "ada"}) for _ in range(4)]
            assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
            assert 55 <= int(answers[-1].headers["retry-after"]) <= 60
            assert clients.admin.get("/memories", params={"user_id": "ada"}).status_code == 200  # a key of its own
