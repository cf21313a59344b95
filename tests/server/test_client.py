"""The Python client against a live service: the calls of ``Memory``, its errors, and calls that are sent again."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
from live_server import serving

from lamina import Memory
from lamina.client import Client
from lamina.errors import (
    Busy,
    Conflict,
    InvalidInput,
    LaminaError,
    LLMUnavailable,
    NotFound,
    NotPermitted,
    RateLimited,
    StoreUnavailable,
)
from lamina.server.app import create_app
from lamina.server.service import Service

pytestmark = pytest.mark.model


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with Memory(tmp_path_factory.mktemp("client") / "m.db") as memory, serving(create_app(Service(memory))) as url:
        yield url


@pytest.fixture
def client(url: str) -> Iterator[Client]:
    with Client(url) as client:
        yield client


def test_the_calls_of_memory(client: Client) -> None:
    added = client.add("I work as a nurse in Lyon.", user_id="ada", metadata={"source": "form"})
    assert any("nurse" in row["memory"] for row in added["results"])
    found = client.search("What is her job?", filters={"user_id": "ada"}, top_k=3)["results"]
    assert "nurse" in found[0]["memory"]
    id = added["results"][0]["id"]
    assert client.update(id, "I work as a midwife in Lyon.")["version"] == 2
    assert [row["event"] for row in client.history(id)] == ["ADD", "UPDATE"]
    client.delete(id)
    client.restore(id)
    assert {row["id"] for row in client.all(page=1, user_id="ada")} >= {id}
    assert client.quarantined(user_id="ada") == {"results": []}
    assert id in client.forget(id)["forgotten"]
    assert client.get(id) is None


def test_times_may_be_datetimes_dates_and_seconds(client: Client) -> None:
    said = datetime(2024, 5, 6, 7, 8, tzinfo=UTC)
    moments: list[datetime | str | float] = [said, said.isoformat(), said.timestamp()]
    for n, moment in enumerate(moments):
        row = client.add("I ride a tandem.", user_id=f"t{n}", timestamp=moment, infer=False)["results"][0]
        found = client.get(row["id"])
        assert found is not None and found["created_at"] == said.isoformat()
        where = {"user_id": f"t{n}"}
        assert client.search("tandem", filters=where, as_of=said.date())["results"]
        assert not client.search("tandem", filters=where, as_of=datetime(2024, 5, 5, tzinfo=UTC))["results"]
        assert client.search("tandem", filters={**where, "created_at": {"lte": said}})["results"]
    client.add("Gone.", user_id="t9", expiration_date=said.date(), infer=False)
    assert client.get_all(filters={"user_id": "t9"})["results"] == []


def test_a_list_takes_the_conditions_of_a_search(client: Client) -> None:
    for year in (2024, 2026):
        client.add(f"The roof of {year}.", user_id="bo", metadata={"year": year}, infer=False)
    found = client.get_all(filters={"user_id": "bo", "year": {"gte": 2025}})["results"]
    assert [row["memory"] for row in found] == ["The roof of 2026."]
    since = {"created_at": {"lte": datetime.now(UTC)}}
    assert len(client.get_all(filters={"user_id": {"in": ["bo", "eve"]}, **since})["results"]) == 2


def test_everything_goes_when_its_name_is_said(tmp_path: Path) -> None:
    with Memory(tmp_path / "m.db") as memory, serving(create_app(Service(memory))) as url, Client(url) as client:
        ids = {client.add(f"Note {n}.", user_id=f"u{n}", infer=False)["results"][0]["id"] for n in range(3)}
        with pytest.raises(InvalidInput, match="give the tenant's name, 'default'"):
            client.reset("yes")
        assert set(client.reset("default")["forgotten"]) == ids
        assert client.get(ids.pop()) is None


def test_what_cannot_be_sent_is_said_before_it_is_sent(client: Client) -> None:
    for metadata in ({"x": {1, 2}}, {"x": float("nan")}, {"x": object()}):
        with pytest.raises(InvalidInput, match="JSON"):
            client.add("x", user_id="ada", metadata=metadata)
    with pytest.raises(InvalidInput, match="JSON"):
        client.get_all(filters={"user_id": "ada", "project": object()})
    with pytest.raises(InvalidInput, match="time"):
        client.add("x", user_id="ada", timestamp=float("inf"))


NO_LIST: list[dict[str, Any]] = [
    {"user_id": "\ud800"},
    {"user_id": "ada", "project": "\ud800"},
    {"user_id": "ada", "project": {"in": ["x"] * 20_000}},
]


@pytest.mark.parametrize("filters", NO_LIST, ids=["an owner", "a value", "many values"])
def test_a_list_that_no_address_can_ask_for_is_refused_as_by_a_memory(client: Client, filters: dict[str, Any]) -> None:
    with Memory(":memory:") as memory:
        for one in (client, memory):
            with pytest.raises(InvalidInput):
                one.get_all(filters=filters)


def test_a_list_just_short_enough_for_an_address_is_answered_or_refused(client: Client) -> None:
    for length in (50, 2_000, 30_000, 64_000, 65_300, 66_000):
        try:
            assert client.get_all(filters={"user_id": "nobody", "project": "x" * length})["results"] == []
        except InvalidInput:
            assert length > 2_000


def test_the_calls_of_the_kernel(client: Client) -> None:
    id = client.add("My boat is called Zenith.", user_id="kim", infer=False)["results"][0]["id"]
    assert client.promote(id)[0]["tier"] == "activation" == client.explain(id)["tier"]
    assert client.demote([id])[0]["tier"] == "text"
    assert client.chat("What is my boat called?", user_id="kim", max_tokens=4)["text"]
    assert [row["id"] for row in client.chat("My boat?", user_id="kim", k=1, max_tokens=1)["used"]] == [id]
    assert sum(row["memories"] for row in client.tiers(user_id="kim")) == 1
    assert client.freeze(id, reason="evidence")["id"] == id
    with pytest.raises(NotPermitted):
        client.update(id, "My boat is called Nadir.")
    client.unfreeze(id)
    assert client.feedback(id, False, correction="My boat is called Nadir.")["memory"] == "My boat is called Nadir."
    assert client.archive(id)["id"] == id
    assert client.log(id)[0]["action"] == "add"
    assert client.retry() == {"extracted": 0, "waiting": 0}


def test_jobs(client: Client) -> None:
    job = client.add_job([{"messages": "I keep bees.", "user_id": "jo"}], infer=False)
    done = client.wait_job(job["id"], seconds=60, every=0.05)
    assert done["state"] == "done" and done["result"] == {"items": 1, "results": 1}
    assert client.cancel_job(job["id"])["state"] == "done" == client.job(job["id"])["state"]
    with pytest.raises(LaminaError):
        client.learn_job([])


def test_keys(tmp_path: Path) -> None:
    with Memory(tmp_path / "keys.db") as memory, serving(create_app(Service(memory))) as url:
        with Client(url) as operator:
            boss = operator.create_key("boss", rights=["admin"])
            with pytest.raises(LaminaError):
                operator.list_keys()  # from the first key on, one is needed
        with Client(url, boss["token"]) as client:
            phone = client.create_key("phone", rights=["read"], user="ada", expires=datetime(2999, 1, 1, tzinfo=UTC))
            assert [key["name"] for key in client.list_keys()] == ["boss", "phone"]
            with Client(url, phone["token"]) as reader, pytest.raises(NotPermitted):
                reader.add("x", user_id="ada")
            assert client.revoke_key(phone["id"])["revoked"]


def test_errors_are_those_of_the_library(client: Client, url: str) -> None:
    with pytest.raises(InvalidInput, match="user_id"):
        client.add("Whose?")
    with pytest.raises(NotFound):
        client.update("nope", "x")
    client.add("One.", user_id="bo", idempotency_key="k", infer=False)
    with pytest.raises(Conflict):
        client.add("Two.", user_id="bo", idempotency_key="k", infer=False)
    for id in ("", "..", "a/b", "a?b", "a#b"):
        with pytest.raises(InvalidInput):
            client.history(id)
    with pytest.raises(LaminaError), Client(url, token="lk_wrong") as stranger:
        stranger.search("x", filters={"user_id": "bo"})
    with pytest.raises(InvalidInput):
        Client("ftp://x")


class _Flaky(BaseHTTPRequestHandler):
    """Refuses or hangs up a few times, then answers; notes the keys it saw."""

    refusals: ClassVar[list[int]] = []
    keys: ClassVar[list[str | None]] = []
    good: ClassVar[bytes] = b'{"results": []}'
    body: ClassVar[bytes] = good

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.keys.append(self.headers["Idempotency-Key"])
        status = self.refusals.pop(0) if self.refusals else 200
        if status == 0:
            self.connection.close()
            return
        body = self.body if status == 200 else b'{"error": {"code": "BUSY", "message": "busy"}}'
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        if status in (429, 503):
            self.send_header("Retry-After", "0")
        self.end_headers()
        self.wfile.write(body)

    do_PUT = do_POST

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


@pytest.fixture
def flaky() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Flaky)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    _Flaky.keys.clear()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def test_an_add_without_an_answer_is_sent_again_under_its_key(flaky: str) -> None:
    _Flaky.refusals[:] = [503, 0, 429]
    with Client(flaky) as client:
        assert client.add("I am here.", user_id="ada") == {"results": []}
        assert client.add("I am here.", user_id="ada") == {"results": []}
    first = _Flaky.keys[:4]
    assert len(set(first)) == 1 and first[0] and len(_Flaky.keys) == 5 and _Flaky.keys[4] != first[0]


def test_what_would_happen_twice_is_sent_once(flaky: str) -> None:
    for refusal, error in ((503, Busy), (0, StoreUnavailable), (429, RateLimited)):
        _Flaky.refusals[:] = [refusal]
        with Client(flaky) as client, pytest.raises(error):
            client.update("some-id", "x")
    assert len(_Flaky.keys) == 3


def test_a_busy_service_is_a_model_that_does_not_answer(flaky: str) -> None:
    _Flaky.refusals[:] = [503, 503]
    with Client(flaky, tries=2) as client, pytest.raises(LLMUnavailable, match="busy") as refused:
        client.add("x", user_id="ada")
    assert (type(refused.value), refused.value.code, len(_Flaky.keys)) == (Busy, "BUSY", 2)


def test_an_answer_that_is_no_json_is_no_service(flaky: str) -> None:
    _Flaky.body = b"<html>welcome</html>"
    try:
        with Client(flaky) as client, pytest.raises(LaminaError, match="is it a Lamina service"):
            client.add("x", user_id="ada")
    finally:
        _Flaky.body = _Flaky.good


def test_it_gives_up_in_the_end(flaky: str) -> None:
    _Flaky.refusals[:] = [429] * 9
    with Client(flaky, tries=3) as client, pytest.raises(RateLimited):
        client.add("x", user_id="ada")
    assert len(_Flaky.keys) == 3
