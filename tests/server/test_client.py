"""The Python client against a live service: the calls of ``Memory``, its errors, and calls that are sent again."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import pytest
from live_server import serving

from lamina import Memory
from lamina.client import Client
from lamina.errors import Conflict, InvalidInput, LaminaError, NotFound, RateLimited, StoreUnavailable
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

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.keys.append(self.headers["Idempotency-Key"])
        status = self.refusals.pop(0) if self.refusals else 200
        if status == 0:
            self.connection.close()
            return
        body = b'{"results": []}' if status == 200 else b'{"error": {"code": "BUSY", "message": "busy"}}'
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
    for refusal, error in ((503, LaminaError), (0, StoreUnavailable), (429, RateLimited)):
        _Flaky.refusals[:] = [refusal]
        with Client(flaky) as client, pytest.raises(error):
            client.update("some-id", "x")
    assert len(_Flaky.keys) == 3


def test_it_gives_up_in_the_end(flaky: str) -> None:
    _Flaky.refusals[:] = [429] * 9
    with Client(flaky, tries=3) as client, pytest.raises(RateLimited):
        client.add("x", user_id="ada")
    assert len(_Flaky.keys) == 3
