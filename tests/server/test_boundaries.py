"""What a hostile client tries: other users of its tenant, other tenants, odd bytes and headers, long bodies."""

from __future__ import annotations

import base64
import json
import logging
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from live_server import serving

from lamina import Memory
from lamina.errors import InvalidInput
from lamina.server.app import Limits, create_app
from lamina.server.observing import JsonLines
from lamina.server.service import Service

pytestmark = pytest.mark.model


class House:
    """A live service of the tenant "acme", with a key for all of it and keys bound to users."""

    def __init__(self, url: str, service: Service) -> None:
        self.url, self.service = url, service
        self.tokens: list[str] = []
        self.all = self.client("read", "write", "forget")
        self.ada, self.bob = (self.client("read", "write", "forget", user=user) for user in ("ada", "bob"))

    def client(self, *rights: str, user: str | None = None, tenant: str = "acme") -> httpx.Client:
        _, token = self.service.keys.create("test", tenant, rights, user=user)
        self.tokens.append(token)
        return httpx.Client(base_url=self.url, headers={"Authorization": f"Bearer {token}"}, timeout=60)

    def add(self, text: str, user: str) -> str:
        answer = self.all.post("/memories", json={"messages": text, "user_id": user, "infer": False})
        return str(answer.json()["results"][0]["id"])


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with Memory(Path(tmp_path_factory.mktemp("house")) / "m.db") as memory:
        service = Service(memory)
        with serving(create_app(service)) as url:
            yield House(url, service)


# -- users of one tenant ---------------------------------------------------------------------------


FILTERS: list[dict[str, Any]] = [
    {},
    {"user_id": None},
    {"OR": [{"user_id": "bob"}, {"user_id": "ada"}]},
    {"NOT": [{"user_id": "ada"}]},
    {"AND": [{"OR": [{"NOT": [{"user_id": "ada"}]}, {"user_id": {"in": ["bob", "ada"]}}]}]},
    {"NOT": [{"NOT": [{"user_id": "bob"}]}]},
    {"OR": [{"user_id": "*"}]},
    {"metadata.user_id": "bob"},
    {"policy.read": {"nin": ["user:ada"]}},
]


@pytest.mark.parametrize("filters", FILTERS)
def test_no_filter_leads_out_of_a_users_own_memories(house: House, filters: dict[str, Any]) -> None:
    house.add("Bob drinks absinthe.", "bob")
    house.add("Ada drinks tea.", "ada")
    rows = house.ada.post("/search", json={"query": "Who drinks absinthe?", "filters": filters, "threshold": 0})
    assert rows.status_code == 200 and "absinthe" not in rows.text
    assert all(row["user_id"] == "ada" for row in rows.json()["results"])


@pytest.mark.parametrize("user", ["bob", "", " ada", "*", "ADA", ["ada"], {"in": ["ada", "bob"]}, 0, False])
def test_a_bound_key_names_no_other_user_in_any_place(house: House, user: object) -> None:
    said = {"messages": "I was here.", "user_id": user, "infer": False}
    for path, body in (
        ("/memories", said),
        ("/search", {"query": "x", "filters": {"user_id": user}}),
        ("/chat", {"messages": "x", "user_id": user}),
        ("/jobs", {"kind": "add", "items": [{"messages": "fine"}, said]}),
    ):
        assert house.ada.post(path, json=body).status_code in (400, 403, 422), path
    for verb, path in (
        ("GET", "/memories"),
        ("DELETE", "/memories"),
        ("GET", "/tiers"),
        ("GET", "/memories/quarantined"),
    ):
        assert house.ada.request(verb, path, params={"user_id": str(user)}).status_code == 403


def test_a_bound_key_that_names_nobody_speaks_for_its_user(house: House) -> None:
    told = house.ada.post("/memories", json={"messages": "Null is me.", "user_id": None, "infer": False}).json()
    assert house.all.get(f"/memories/{told['results'][0]['id']}").json()["user_id"] == "ada"


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
    ("POST", "/tiers/move", {"ids": ["{id}"]}),
    ("POST", "/tiers/move", {"ids": ["{id}"], "to": "text"}),
    ("POST", "/jobs", {"kind": "learn", "ids": ["{id}"]}),
]


@pytest.mark.parametrize(("method", "path", "body"), VERBS)
def test_another_users_memory_is_one_that_never_was(
    house: House, method: str, path: str, body: dict[str, Any] | None
) -> None:
    real, made_up = house.add("Bob's number is 4711.", "bob"), "019c0000-0000-7000-8000-000000000000"

    def ask(id: str) -> tuple[int, str]:
        said = None if body is None else json.loads(json.dumps(body).replace("{id}", id))
        answer = house.ada.request(method, path.replace("{id}", id), json=said)
        return answer.status_code, answer.text.replace(id, "ID")

    assert ask(real) == ask(made_up) and ask(real)[0] == 404
    assert house.bob.get(f"/memories/{real}").json()["memory"] == "Bob's number is 4711."


def test_cursors_and_idempotency_keys_of_another_user_open_nothing(house: House) -> None:
    for n in range(3):
        house.add(f"Bob's secret {n}.", "bob")
    cursor = house.bob.get("/memories", params={"top_k": 1}).json()["cursor"]
    assert "secret" not in house.ada.get("/memories", params={"cursor": cursor}).text
    said = {"messages": "The same words.", "infer": False}
    ids = [
        client.post("/memories", json=said, headers={"Idempotency-Key": "k-1"}).json()["results"][0]["id"]
        for client in (house.ada, house.bob, house.ada)
    ]
    assert ids[0] == ids[2] != ids[1]


def test_a_bound_key_sees_its_own_jobs_alone_and_not_what_waits_of_others(house: House) -> None:
    body = {"kind": "add", "items": [{"messages": "Bob's list."}], "infer": False}
    job = house.bob.post("/jobs", json=body).json()["id"]
    for verb, path in (("GET", f"/jobs/{job}"), ("GET", f"/jobs/{job}/events"), ("DELETE", f"/jobs/{job}")):
        answer = house.ada.request(verb, path)
        assert answer.status_code == 404
        assert answer.text.replace(job, "x") == house.ada.request(verb, path.replace(job, "nope")).text.replace(
            "nope", "x"
        )
    assert house.all.get(f"/jobs/{job}").status_code == 200 == house.bob.get(f"/jobs/{job}").status_code
    assert house.ada.post("/memories/retry").status_code == 403


@pytest.mark.parametrize("user", ["*", " ", "a b", "a\0", "\ud800", "x" * 256])
def test_no_key_is_bound_to_what_is_no_user(house: House, user: str) -> None:
    with pytest.raises(InvalidInput):
        house.service.keys.create("odd", "acme", ["read"], user=user)


@pytest.mark.parametrize("tenant", ["acme'; DROP TABLE cubes; --", "ac%me", "../acme", "åcme", "ACME", "acme "])
def test_tenants_with_odd_names_are_tenants_of_their_own(house: House, tenant: str) -> None:
    id = house.add("Acme's margin.", "ada")
    with house.client("admin", tenant=tenant) as other:
        assert other.get(f"/memories/{id}").status_code == 404
        assert other.get("/memories", params={"user_id": "ada"}).json()["results"] == []
        mine = other.post("/memories", json={"messages": "Ours.", "user_id": "ada", "infer": False}).json()["results"]
        assert len(other.get("/memories", params={"user_id": "ada"}).json()["results"]) == 1
        assert house.all.get(f"/memories/{mine[0]['id']}").status_code == 404
        assert other.post("/memories/retry").status_code == 200


def test_keys_may_move_what_they_may_change(house: House) -> None:
    id = house.add("The boat is called Nadir.", "ada")
    assert house.ada.post("/tiers/move", json={"ids": [id], "to": "text"}).json()[0]["tier"] == "text"


# -- odd input -------------------------------------------------------------------------------------


def _nested(levels: int) -> str:
    return '{"a":' * levels + "1" + "}" * levels


def _with(field: str, value: str) -> str:
    return f'{{"messages":"x","user_id":"a","infer":false,"{field}":{value}}}'


BODIES = [
    *(_with("metadata", _nested(n)) for n in (100, 300, 990, 100_000)),
    *(_with("timestamp", value) for value in ("NaN", "1e400", "9" * 400, "9" * 5000, "-1e300")),
    *(_with("metadata", f'{{"k":{value}}}') for value in ("NaN", "9" * 400, '"\\ud800"', '"a\\u0000"')),
    '{"messages":"x","user_id":"\\ud800"}',
    '{"messages":"\\ud800","user_id":"a"}',
    '{"messages":"x","user_id":"a","\\ud800":1}',
]


@pytest.mark.parametrize("body", BODIES, ids=range(len(BODIES)))
def test_odd_bodies_are_refused_with_a_reason(house: House, body: str) -> None:
    answer = house.all.post("/memories", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code in (400, 422) and answer.json()["error"]["message"]


def test_odd_cursors_are_refused(house: House) -> None:
    for said in (b"[" * 40_000, b"[%d,1]" % 10**30, b"{}", b"\xff"):
        cursor = base64.urlsafe_b64encode(said).decode()
        assert house.all.get("/memories", params={"user_id": "a", "cursor": cursor}).status_code == 400


def test_a_web_page_cannot_write_without_asking_first(house: House) -> None:
    """A form can send text/plain to any address without the browser asking; such a body is not read."""
    said = b'{"messages":"x","user_id":"a"}'
    assert house.all.post("/memories", content=said, headers={"Content-Type": "text/plain"}).status_code == 422


def _wire(house: House, *lines: str) -> socket.socket:
    wire = socket.create_connection((httpx.URL(house.url).host, httpx.URL(house.url).port or 80), timeout=20)
    wire.sendall("\r\n".join([*lines, "", ""]).encode())
    return wire


def test_a_body_without_a_length_is_cut_off_at_the_limit(house: House) -> None:
    lines = "POST /memories HTTP/1.1", "Host: localhost", f"Authorization: {house.all.headers['authorization']}"
    with _wire(house, *lines, "Content-Type: application/json", "Transfer-Encoding: chunked") as wire:
        for _ in range(Limits().body // 2**20 + 1):
            wire.sendall(b"100000\r\n" + b" " * 2**20 + b"\r\n")
        assert wire.recv(100).startswith(b"HTTP/1.1 413")  # and there is more to come: it did not wait for the end


def test_a_body_that_does_not_come_is_not_waited_for(tmp_path: Path) -> None:
    with Memory(tmp_path / "m.db") as memory:
        service = Service(memory)
        with serving(create_app(service, limits=Limits(seconds=0.5))) as url:
            lines = "POST /memories HTTP/1.1", "Host: localhost", "Content-Type: application/json"
            with _wire(House(url, service), *lines, "Content-Length: 100") as wire:
                wire.sendall(b'{"messages":')
                assert wire.recv(100).startswith(b"HTTP/1.1 504")


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "localhost@evil.example", ""])
def test_other_names_of_this_machine_are_refused(house: House, host: str) -> None:
    with _wire(house, "GET /health HTTP/1.1", f"Host: {host}") as wire:
        assert wire.recv(100).startswith(b"HTTP/1.1 400")


@pytest.mark.parametrize("host", ["localhost:1", "127.0.0.1", "[::1]:8321"])
def test_loopback_answers_under_its_own_names(house: House, host: str) -> None:
    assert httpx.get(f"{house.url}/health", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("id", [b"a b", b"a\tb", b"a\xffb", b'"}', b"x" * 65, b""])
def test_no_request_id_gets_into_headers_or_logs_that_is_not_one(house: House, id: bytes) -> None:
    given = httpx.get(f"{house.url}/health", headers={b"X-Request-ID": id}).headers["x-request-id"]
    assert len(given) == 16 and int(given, 16) >= 0


# -- what is told ----------------------------------------------------------------------------------


def test_no_key_is_told_in_logs_or_answers(house: House) -> None:
    lines: list[str] = []

    class Kept(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(JsonLines().format(record))

    logger, handler = logging.getLogger("lamina"), Kept()
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    try:
        token = house.tokens[0]
        wrong = token[:-4] + "AAAA"
        answers = [
            httpx.get(f"{house.url}/memories?user_id=ada", headers=headers)
            for headers in (
                {"Authorization": f"Bearer {token}"},
                {"Authorization": f"Bearer {wrong}"},
                {"Authorization": f"Basic {wrong}"},
                {"X-API-Key": wrong},
                {"X-API-Key": token, "X-Request-ID": "mine"},
            )
        ]
        until = time.monotonic() + 30  # a line is written when its request is over, a little after the answer
        while len(lines) < len(answers) and time.monotonic() < until:
            time.sleep(0.01)
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
    assert [answer.status_code for answer in answers] == [200, 401, 401, 401, 200]
    told = "".join(answer.text + str(answer.headers) for answer in answers[1:4]) + "".join(lines)
    assert len(lines) >= 5 and all(part.split("_", 2)[2] not in told for part in (token, wrong))
    assert answers[1].text == answers[3].text  # and nothing of why


def test_a_fault_of_ours_is_told_in_the_same_shape_with_its_id(
    house: House, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("the memory says: 41 percent")

    monkeypatch.setattr(Memory, "get_all", broken)
    before = house.all.get("/health")
    answer = house.all.get("/memories", params={"user_id": "a"}, headers={"X-Request-ID": "r-9"})
    after = house.all.get("/health")
    assert _connection(before) == _connection(after)  # the fault is the request's alone: who asks next is not cut off
    assert answer.status_code == 500 and answer.headers["x-request-id"] == "r-9"
    assert answer.json()["error"]["code"] == "ERROR" and "percent" not in answer.text
    assert any(record.exc_info for record in caplog.records)


def _connection(answer: httpx.Response) -> object:
    return answer.extensions["network_stream"].get_extra_info("client_addr")


# -- together, and late ----------------------------------------------------------------------------


def test_the_same_request_at_once_from_many_writes_once(house: House) -> None:
    texts = "I work as a nurse in Lyon.", "I have two cats."
    body = {"messages": [{"role": "user", "content": text} for text in texts], "user_id": "eve"}

    def send(_: int) -> httpx.Response:
        headers = {**house.all.headers, "Idempotency-Key": "together"}
        return httpx.post(f"{house.url}/memories", json=body, headers=headers, timeout=60)

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(send, range(16)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({tuple(row["id"] for row in answer.json()["results"][:2]) for answer in answers}) == 1
    rows = house.all.get("/memories", params={"user_id": "eve", "top_k": 100}).json()["results"]
    assert sum(row["semantic_type"] == "turn" for row in rows) == 2


def test_what_was_too_late_is_still_written_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gate, written, plain = threading.Event(), threading.Event(), Memory.add

    def late(self: Memory, *args: Any, **options: Any) -> dict[str, Any]:
        gate.wait(30)
        try:
            return plain(self, *args, **options)
        finally:
            written.set()

    memory = Memory(tmp_path / "m.db")
    with memory, serving(create_app(Service(memory), limits=Limits(seconds=3.0))) as url:
        # The first request opens what later ones find open; cut off in that, one never comes to the writing.
        assert httpx.get(f"{url}/memories", params={"user_id": "ada"}, timeout=60).status_code in (200, 504)
        monkeypatch.setattr(Memory, "add", late)
        said = {"messages": "I keep bees.", "user_id": "ada", "infer": False}
        send: dict[str, Any] = {
            "url": f"{url}/memories",
            "json": said,
            "headers": {"Idempotency-Key": "bees"},
            "timeout": 20,
        }
        begun = time.monotonic()
        first = httpx.post(**send)
        assert first.status_code == 504 and time.monotonic() - begun < 15  # before the gate opens by itself
        assert first.json()["error"]["code"] == "TIMEOUT"
        gate.set()
        assert written.wait(30)
        monkeypatch.setattr(Memory, "add", plain)
        with memory.store.transaction():  # the write has ended
            pass
        row = memory.get_all(filters={"user_id": "ada"})["results"]
        again = httpx.post(**send).json()["results"]
        assert [one["id"] for one in again] == [one["id"] for one in row] and len(row) == 1
