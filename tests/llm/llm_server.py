"""A scripted OpenAI-compatible server on a real socket: each request takes the next step of a script."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Step:
    """One answer: a status, a body (a dict is sent as JSON), headers, and seconds of silence before it."""

    body: Any = ""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    silence: float = 0.0


def said(text: str | None, *, finish: str = "stop") -> Step:
    message = {"role": "assistant", "content": text}
    return Step({"id": "x", "choices": [{"index": 0, "message": message, "finish_reason": finish}]})


def streamed(*pieces: str, end: str = "data: [DONE]\n\n") -> Step:
    events = [
        "data: " + json.dumps({"id": "x", "choices": [{"index": 0, "delta": {"content": piece}}]}) + "\n\n"
        for piece in pieces
    ]
    return Step("".join(events) + end, headers={"Content-Type": "text/event-stream"})


def failed(status: int, message: str = "no", **headers: str) -> Step:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Step({"error": {"message": message, "code": None}}, status=status, headers=named)


@dataclass
class Server:
    """``requests`` keeps what came in: (path, headers, body)."""

    url: str
    requests: list[tuple[str, dict[str, str], dict[str, Any]]]

    def bodies(self) -> list[dict[str, Any]]:
        return [body for _, _, body in self.requests]


@contextmanager
def scripted(*steps: Step) -> Iterator[Server]:
    """A server that plays ``steps`` in order; a request beyond them gets 599."""
    left = list(steps)
    server = Server("", [])
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with lock:
                server.requests.append((self.path, {name.lower(): value for name, value in self.headers.items()}, body))
                step = left.pop(0) if left else failed(599, "the script is over")
            if step.silence:
                time.sleep(step.silence)
            data = step.body.encode() if isinstance(step.body, str) else json.dumps(step.body).encode()
            try:
                self.send_response(step.status)
                for name, value in {"Content-Type": "application/json", **step.headers}.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)
            except (BrokenPipeError, ConnectionResetError):
                pass  # the client stopped waiting, as it should

        def log_message(self, *args: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    server.url = f"http://127.0.0.1:{http.server_address[1]}/v1"
    try:
        yield server
    finally:
        http.shutdown()
        http.server_close()
        thread.join()
