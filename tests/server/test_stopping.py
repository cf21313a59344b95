"""A service that stops tells whoever still waits so, in the shape they read, and logs no fault."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
import uvicorn

from lamina import Memory
from lamina.bench.synthetic import WordVectors
from lamina.server.app import create_app
from lamina.server.service import Service


def _until(true: Callable[[], object]) -> None:
    end = time.monotonic() + 30
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_who_waits_is_told_to_come_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    waiting: list[str] = []

    async def hangs() -> None:
        waiting.append("one")
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0)  # it may still try to answer

    with (
        caplog.at_level(logging.INFO),
        Memory(tmp_path / "m.db", embedder=WordVectors()) as memory,
        ThreadPoolExecutor(2) as people,
    ):
        app = create_app(Service(memory))
        for path in ("/hangs", "/dashboard/hangs"):
            app.get(path)(hangs)
        with socket.create_server(("127.0.0.1", 0)) as listening:
            url = f"http://127.0.0.1:{listening.getsockname()[1]}"
            config = uvicorn.Config(app, log_config=None, timeout_graceful_shutdown=1)
            server = uvicorn.Server(config)
            serving = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
            serving.start()
            _until(lambda: server.started)
            program = people.submit(httpx.get, f"{url}/hangs", timeout=60)
            person = people.submit(httpx.get, f"{url}/dashboard/hangs", timeout=60, headers={"Accept": "text/html"})
            _until(lambda: len(waiting) == 2)
            server.should_exit = True
            serving.join()
    told, page = program.result(), person.result()
    for answer in (told, page):
        assert answer.status_code == 503 and int(answer.headers["retry-after"]) >= 1
        assert answer.headers["x-request-id"]
    assert told.json()["error"]["code"] == "STOPPING" and told.json()["error"]["type"] == "server_error"
    assert page.headers["content-type"].startswith("text/html") and "The service stops" in page.text
    assert not [record for record in caplog.records if record.exc_info]
    assert [vars(record)["status"] for record in caplog.records if record.getMessage() == "request"] == [503, 503]
