"""What the verbs of Memory and MemOS take besides the plain: over HTTP too."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from live_server import serving

from lamina import Memory
from lamina.client import Client
from lamina.errors import InvalidInput, NotFound, NotPermitted
from lamina.server.app import create_app
from lamina.server.service import Service


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Service]]:
    with Memory(Path(tmp_path_factory.mktemp("fields")) / "m.db") as memory:
        service = Service(memory)
        with serving(create_app(service)) as url:
            yield url, service


@pytest.fixture(scope="module")
def boss(keyed: tuple[str, Service]) -> Iterator[Client]:
    url, service = keyed
    _, token = service.keys.create("boss", tenant=service.settings.tenant, rights=frozenset({"admin"}))
    with Client(url, token) as client:
        yield client


def test_a_memory_expires_when_told_and_not_when_told_otherwise(boss: Client) -> None:
    id = boss.add("The code of the door is 4711.", user_id="ann")["results"][0]["id"]
    boss.update(id, expiration_date="2999-01-01")
    assert (boss.get(id) or {})["expires"].startswith("2999-01-01")
    boss.update(id, metadata={"door": "back"})
    assert (boss.get(id) or {})["expires"].startswith("2999-01-01")  # what is not said stays
    boss.update(id, expiration_date=None)
    assert "expires" not in (boss.get(id) or {})


def test_as_of_and_a_version_again(boss: Client) -> None:
    id = boss.add("My boat is called Zenith.", user_id="ann", timestamp="2026-01-05", infer=False)["results"][0]["id"]
    boss.update(id, "My boat is called Nadir.")
    assert (boss.get(id, as_of="2026-02-01") or {})["memory"] == "My boat is called Zenith."
    assert boss.get(id, as_of="2025-01-01") is None
    boss.restore(id, version=1, reason="it was right")
    assert (boss.get(id) or {})["memory"] == "My boat is called Zenith."
    with pytest.raises(NotFound):
        boss.restore(id, version=99)
    with pytest.raises(InvalidInput):
        boss.get(id, as_of="soon")


def test_what_is_sensitive_or_redacted_is_marked(boss: Client, keyed: tuple[str, Service]) -> None:
    url, service = keyed
    id = boss.add("Write to [email].", user_id="ann", sensitivity=["email"], infer=False)["results"][0]["id"]
    cube = service._memory.store.get(id)
    assert cube is not None and cube.header.sensitivity == ("email",)
    token = {"Authorization": boss._http.headers["Authorization"]}
    body = {"messages": "Write to ann@example.com.", "user_id": "ann", "infer": False, "redacted": True}
    kept = httpx.post(f"{url}/memories", json=body, headers=token).json()["results"][0]
    assert "ann@example.com" not in kept["memory"]


def test_frozen_is_forgotten_by_law_alone_and_with_its_reason(boss: Client, keyed: tuple[str, Service]) -> None:
    url, service = keyed
    rights = frozenset({"read", "write", "forget"})
    _, token = service.keys.create("eraser", tenant=service.settings.tenant, rights=rights)  # type: ignore[arg-type]
    id = boss.add("I keep bees.", user_id="ben", infer=False)["results"][0]["id"]
    boss.freeze(id)
    with Client(url, token) as eraser, pytest.raises(NotPermitted, match="admin"):
        eraser.forget(id, legal_override=True)
    assert boss.forget(id, reason="court order 7", legal_override=True)["forgotten"] == [id]
    assert boss.get(id) is None
    assert [row.reason for row in service._memory.store.events(cube=id)][-1] == "court order 7"


def test_a_key_may_expire_on_a_plain_day_and_names_are_utf8(boss: Client, keyed: tuple[str, Service]) -> None:
    made = boss.create_key("short", expires="2999-01-01")
    assert made["expires"].startswith("2999-01-01")
    url, _ = keyed
    headers = {"Authorization": boss._http.headers["Authorization"].encode(), "X-Lamina-User": b"\xff"}
    body = {"model": "x", "messages": [{"role": "user", "content": "hi"}]}
    assert httpx.post(f"{url}/v1/chat/completions", json=body, headers=headers).status_code == 400


def test_no_error_quotes_the_key() -> None:
    with pytest.raises(InvalidInput) as told:
        Client("http://127.0.0.1:9", "lk_secret\nX-Evil: 1")
    assert "secret" not in str(told.value)
    assert Client("http://127.0.0.1:9", "lk_secret\n")._http.headers["Authorization"] == "Bearer lk_secret"
    with Client("http://127.0.0.1:9", "lk_secret") as client, pytest.raises(InvalidInput, match="ASCII"):
        client.add("x", user_id="ann", idempotency_key="grün")
