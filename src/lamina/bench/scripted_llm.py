"""An OpenAI-compatible server on a real socket that answers by a script: what models do on bad days, on demand.

Each request takes the next step of a script, or what a function of its body returns. A step may be an answer, an
error, silence, or a connection that ends in the middle. ``lamina.bench.experiments.tiers.model_days`` measures with it;
tests of everything that talks to a model do too.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Step:
    """One answer: a status, a body (a dict is sent as JSON), headers, and seconds of silence before it.

    ``cut`` sends only half of the body and hangs up.
    """

    body: Any = ""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    silence: float = 0.0
    cut: bool = False


def said(text: str | None, *, finish: str = "stop") -> Step:
    """A chat completion with ``text``."""
    message = {"role": "assistant", "content": text}
    return Step({"id": "x", "choices": [{"index": 0, "message": message, "finish_reason": finish}]})


def refused(words: str) -> Step:
    """A completion in which the model declines."""
    message = {"role": "assistant", "content": None, "refusal": words}
    return Step({"id": "x", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]})


def streamed(*pieces: str, end: str = "data: [DONE]\n\n") -> Step:
    """A stream of ``pieces``."""
    events = [
        "data: " + json.dumps({"id": "x", "choices": [{"index": 0, "delta": {"content": piece}}]}) + "\n\n"
        for piece in pieces
    ]
    return Step("".join(events) + end, headers={"Content-Type": "text/event-stream"})


def failed(status: int, message: str = "no", **headers: str) -> Step:
    """An HTTP error; ``retry_after="1"`` is the header Retry-After."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Step({"error": {"message": message, "code": None}}, status=status, headers=named)


@dataclass
class Server:
    """``requests`` keeps what came in: (path, headers, body)."""

    url: str
    requests: list[tuple[str, dict[str, str], dict[str, Any]]]

    def bodies(self) -> list[dict[str, Any]]:
        return [body for _, _, body in self.requests]


Answering = Callable[[dict[str, Any]], Step]


def form_of(body: dict[str, Any]) -> str:
    """The name of the schema a request asks for; empty where it asks for text."""
    return str(body.get("response_format", {}).get("json_schema", {}).get("name", ""))


@contextmanager
def scripted(*steps: Step) -> Iterator[Server]:
    """A server that plays ``steps`` in order; a request beyond them gets 599."""
    left = list(steps)
    with serving(lambda _: left.pop(0) if left else failed(599, "the script is over")) as server:
        yield server


@contextmanager
def serving(answer: Answering) -> Iterator[Server]:
    """A server that answers each request's body; ``answer`` is called by one thread at a time."""
    server = Server("", [])
    http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(server, answer, threading.Lock()))
    thread = threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    server.url = f"http://127.0.0.1:{http.server_address[1]}/v1"
    try:
        yield server
    finally:
        http.shutdown()
        http.server_close()
        thread.join()


def _handler(server: Server, answer: Answering, lock: threading.Lock) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with lock:
                server.requests.append((self.path, {name.lower(): value for name, value in self.headers.items()}, body))
                step = answer(body)
            if step.silence:
                time.sleep(step.silence)
            data = step.body.encode() if isinstance(step.body, str) else json.dumps(step.body).encode()
            with suppress(BrokenPipeError, ConnectionResetError):  # the client stopped waiting, as it should
                self._send(step, data)

        def _send(self, step: Step, data: bytes) -> None:
            self.send_response(step.status)
            for name, value in {"Content-Type": "application/json", **step.headers}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data[: len(data) // 2] if step.cut else data)
            self.close_connection = step.cut

        def log_message(self, *args: object) -> None: ...

    return Handler
