"""A real HTTP server that answers like OpenAI's and keeps every request as it came: the paid API's stand-in."""

from __future__ import annotations

import json
import select
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

_PATIENCE = 30.0  # seconds until a test that went wrong lets go


@dataclass
class Received:
    path: str
    headers: dict[str, str]
    raw: bytes

    @property
    def body(self) -> Any:
        return json.loads(self.raw)

    @property
    def messages(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.body["messages"]
        return found


@dataclass
class StandIn:
    """``reply``: what it says, or "echo": the last message. ``refusal``: status, headers and body instead.
    ``pause``: after so many events (or, not streaming, before its answer: 0) it is silent until ``go`` is set."""

    url: str = ""
    received: list[Received] = field(default_factory=list)
    reply: str = "Noted."
    choices: int = 1
    refusal: tuple[int, dict[str, str], bytes] | None = None
    pause: int | None = None
    cut: int | None = None  # it breaks off in this event
    events: list[bytes] | None = None  # what it streams instead, and then ends in good order
    go: threading.Event = field(default_factory=threading.Event)
    left: threading.Event = field(default_factory=threading.Event)

    def reset(self) -> None:
        self.go.set()
        fresh = StandIn(self.url)
        self.__dict__.update(fresh.__dict__)

    @property
    def last(self) -> Received:
        return self.received[-1]


@contextmanager
def standing_in() -> Iterator[StandIn]:
    stand_in = StandIn()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._send(200, {}, json.dumps({"object": "list", "data": [_MODEL]}).encode())

        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers["Content-Length"]))
            stand_in.received.append(Received(self.path, {k.lower(): v for k, v in self.headers.items()}, raw))
            if stand_in.refusal is not None:
                self._send(*stand_in.refusal)
            elif stand_in.last.body.get("stream"):
                self._stream()
            else:
                if stand_in.pause is not None and not self._waited():
                    return
                self._send(200, {}, json.dumps(_completion(_said(stand_in), stand_in.choices)).encode())

        def _send(self, status: int, headers: dict[str, str], body: bytes) -> None:
            self.send_response(status)
            for name, value in {"Content-Type": "application/json", **headers}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def _stream(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for number, event in enumerate(stand_in.events or streamed(_said(stand_in))):
                if number == stand_in.cut:
                    self.wfile.write(f"{len(event):x}\r\n".encode() + event[:20])
                    self.close_connection = True
                    self.connection.shutdown(socket.SHUT_RDWR)
                    return
                if number == stand_in.pause and not self._waited():
                    self.close_connection = True
                    return
                self.wfile.write(f"{len(event):x}\r\n".encode() + event + b"\r\n")
                self.wfile.flush()
            self.wfile.write(b"0\r\n\r\n")

        def _waited(self) -> bool:
            """Whether it may go on; if not, whoever asked has left."""
            end = time.monotonic() + _PATIENCE
            while not stand_in.go.is_set() and time.monotonic() < end:
                readable, _, _ = select.select([self.connection], [], [], 0.02)
                if readable and not self.connection.recv(1, socket.MSG_PEEK):
                    stand_in.left.set()
                    return False
            return True

        def log_message(self, *_: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    stand_in.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield stand_in
    stand_in.go.set()
    server.shutdown()
    server.server_close()
    thread.join()


_MODEL = {"id": "gpt-stand-in", "object": "model", "created": 1, "owned_by": "tests"}


def _said(stand_in: StandIn) -> str:
    return str(stand_in.last.messages[-1]["content"]) if stand_in.reply == "echo" else stand_in.reply


def _completion(said: str, choices: int) -> dict[str, Any]:
    message = {"role": "assistant", "content": said}
    many = [{"index": n, "message": message, "finish_reason": "stop"} for n in range(choices)]
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    return _shared("chat.completion") | {"choices": many, "usage": usage, "system_fingerprint": "fp_1"}


def streamed(said: str) -> list[bytes]:
    words = [f"{word} " for word in said.split(" ")]
    words[-1] = words[-1][:-1]
    deltas: list[tuple[dict[str, str], str | None]] = [({"role": "assistant", "content": ""}, None)]
    deltas += [({"content": word}, None) for word in words]
    deltas += [({}, "stop")]
    chunks = [
        _shared("chat.completion.chunk") | {"choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}
        for delta, reason in deltas
    ]
    return [f"data: {json.dumps(chunk)}\n\n".encode() for chunk in chunks] + [b"data: [DONE]\n\n"]


def _shared(kind: str) -> dict[str, Any]:
    return {"id": "chatcmpl-1", "object": kind, "created": 1, "model": "gpt-stand-in"}
