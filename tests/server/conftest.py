"""A real server on a real socket, in a thread of this process."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import uvicorn
from fastapi import FastAPI

from lamina import Memory
from lamina.server.app import create_app
from lamina.server.service import Service


@contextmanager
def serving(app: FastAPI) -> Iterator[str]:
    """The URL under which ``app`` answers."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join()


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with Memory(Path(tmp_path_factory.mktemp("server")) / "m.db") as memory:
        yield Service(memory)


@pytest.fixture(scope="module")
def client(service: Service) -> Iterator[httpx.Client]:
    """The operator's client: no keys yet."""
    with serving(create_app(service)) as url, httpx.Client(base_url=url, timeout=60) as client:
        yield client
