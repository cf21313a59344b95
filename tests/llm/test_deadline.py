"""Servers that keep whoever asks listening: however they do it, it ends when whoever asks waits no longer."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from lamina.errors import LLMUnavailable
from lamina.llm import patience
from lamina.llm.base import Message
from lamina.llm.openai import OpenAIChat
from lamina.llm.openai_embed import OpenAIEmbedder
from lamina.llm.patience import within

_TOO_LONG = 5.0  # seconds after which such a server gives up: the error is another one then
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
HELLO: list[Message] = [{"role": "user", "content": "Hello"}]
SAID = b'{"choices": [{"message": {"content": "Hi"}}]}'


@contextmanager
def _served(answer: Callable[[socket.socket], None], *, heard: int = 65536) -> Iterator[str]:
    """A server that gives each connection to ``answer``, until the client leaves."""

    def serve(server: socket.socket) -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:  # closed
                return
            with connection:
                connection.recv(heard)
                try:
                    answer(connection)
                except OSError:
                    continue

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve, args=(server,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}/v1"
        server.shutdown(socket.SHUT_RDWR)
    thread.join(10)


def _again(piece: bytes, pause: float = 0.02) -> Callable[[socket.socket], None]:
    def answer(connection: socket.socket) -> None:
        end = time.monotonic() + _TOO_LONG
        while time.monotonic() < end:
            connection.sendall(piece)
            time.sleep(pause)

    return answer


def _after(head: bytes, then: Callable[[socket.socket], None]) -> Callable[[socket.socket], None]:
    def answer(connection: socket.socket) -> None:
        connection.sendall(head)
        then(connection)

    return answer


SERVERS = {
    "header": _after(b"HTTP/1.1 200 OK\r\nX-A: ", _again(b"a")),
    "interim": _again(b"HTTP/1.1 102 Processing\r\n\r\n"),
    "interim without a pause": _again(b"HTTP/1.1 102 Processing\r\n\r\n" * 50, pause=0),
    "body": _after(HEAD + b"Content-Length: 100000\r\n\r\n", _again(b" ")),
    "chunks": _after(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", _again(b"1\r\n \r\n")),
    "error": _after(b"HTTP/1.1 500 Oh\r\nContent-Length: 100000\r\n\r\n", _again(b" ")),
}


@pytest.mark.parametrize("name", SERVERS)
@pytest.mark.parametrize("kind", [OpenAIChat, OpenAIEmbedder])
def test_a_trickle_is_no_answer(name: str, kind: type[OpenAIChat] | type[OpenAIEmbedder]) -> None:
    with _served(SERVERS[name]) as url:
        model = kind("m", base_url=url, api_key="sk", retries=2)
        ask = (lambda: model.encode(["Hello"])) if isinstance(model, OpenAIEmbedder) else (lambda: model.chat(HELLO))
        with within(0.4), pytest.raises(LLMUnavailable, match="no answer within the time of the request"):
            ask()


def test_a_stream_that_trickles_ends_as_well() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
    with _served(_after(head, _again(b": still here\n\n"))) as url:
        chat = OpenAIChat("m", base_url=url, api_key="sk", retries=0)
        with within(0.4), pytest.raises(LLMUnavailable, match="no answer within the time of the request"):
            list(chat.stream(HELLO))


def test_silence_that_comes_late_is_given_only_what_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(patience, "time", SimpleNamespace(monotonic=lambda: clock[0]))

    def late(connection: socket.socket) -> None:
        connection.sendall(HEAD + b"Content-Length: 100000\r\n\r\n ")
        clock[0] = 29.8
        connection.sendall(b" ")
        connection.settimeout(_TOO_LONG)
        while connection.recv(65536):  # the rest of the request, then that the client left
            pass

    with _served(late) as url:
        chat = OpenAIChat("m", base_url=url, api_key="sk", timeout=60, retries=0)
        with within(30), pytest.raises(LLMUnavailable, match="no answer within"):
            chat.chat(HELLO)


def test_a_server_that_does_not_listen_holds_nobody() -> None:
    """It takes the first bytes of a long question and then next to none."""

    def answer(connection: socket.socket) -> None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        end = time.monotonic() + 2
        while time.monotonic() < end and connection.recv(2048):
            time.sleep(0.02)

    with _served(answer, heard=1) as url:
        chat = OpenAIChat("m", base_url=url, api_key="sk", retries=0)
        with within(0.4), pytest.raises(LLMUnavailable, match="no answer within the time of the request"):
            chat.chat([{"role": "user", "content": "Hello " * 4_000_000}])


def test_one_connection_serves_those_who_wait_and_those_who_do_not() -> None:
    """What bounds a connection is the time of whoever asks now, not of who opened it."""
    answers = iter([0.0, 0.0, 0.3])
    opened: list[int] = []

    def answer(connection: socket.socket) -> None:
        opened.append(1)
        for pause in answers:
            while not connection.recv(65536).endswith(b"}"):  # the end of a question, which comes in pieces
                pass
            time.sleep(pause)
            connection.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % len(SAID) + SAID)

    with _served(answer, heard=1) as url:
        chat = OpenAIChat("m", base_url=url, api_key="sk", retries=0)
        with within(2):
            assert chat.chat(HELLO) == "Hi"
        time.sleep(2)
        with within(30):
            assert chat.chat(HELLO) == "Hi"
        assert chat.chat(HELLO) == "Hi"
        assert len(opened) == 1
        chat._endpoint.client().close()


def test_without_an_end_only_silence_counts() -> None:
    def answer(connection: socket.socket) -> None:
        for byte in HEAD + b"Content-Length: %d\r\n\r\n" % len(SAID) + SAID:
            connection.sendall(bytes([byte]))
            time.sleep(0.002)

    with _served(answer) as url:
        assert OpenAIChat("m", base_url=url, api_key="sk", timeout=5, retries=0).chat(HELLO) == "Hi"
