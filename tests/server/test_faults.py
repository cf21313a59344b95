"""Faults under load: what was acknowledged is there, once, and the service goes on without a person.

A full disk and the death of the only worker are in ``test_workers``, silent models and clients that leave a stream in
``test_completions``.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from fault_load import FaultLoad, kill, listed, lost_and_doubled
from live_server import serving
from openai_standin import standing_in

from contracts.postgres import PostgresServer
from lamina import Memory
from lamina.bench.load.services import lamina
from lamina.llm.base import Embedder
from lamina.server.app import Limits, create_app
from lamina.server.service import Service
from lamina.settings import Settings

pytestmark = pytest.mark.model


def test_a_worker_killed_in_mid_load_is_replaced_and_loses_nothing(tmp_path: Path) -> None:
    with lamina(tmp_path, workers=2) as service, httpx.Client(base_url=service.url, timeout=60) as client:
        with FaultLoad(service.url) as load:
            for worker in service.workers():  # each in turn: clients may all be connected to one of them
                load.wait_for(20)
                os.kill(worker.pid, signal.SIGKILL)
            load.wait_for(20)
        assert load.failed == [] and lost_and_doubled(load, client) == (0, 0)
        assert load.refused and load.refused["503"] == 0 and load.reads > 20  # connections broke, the store did not
        end = time.monotonic() + 60
        while len(service.workers()) < 2 and time.monotonic() < end:
            time.sleep(0.1)
        assert len(service.workers()) == 2


def test_a_database_that_dies_in_mid_load_loses_nothing(
    postgres: PostgresServer, postgres_url: str, tmp_path: Path
) -> None:
    with (
        lamina(tmp_path, workers=2, url=postgres_url) as service,
        httpx.Client(base_url=service.url, timeout=60) as client,
    ):
        with FaultLoad(service.url) as load:
            load.wait_for(20)
            postgres.control("restart", "-m", "immediate")
            load.wait_for(20)
            kill(postgres)
            postgres.control("restart")
            load.wait_for(20)
        assert load.failed == [] and lost_and_doubled(load, client) == (0, 0)
        assert client.get("/ready").status_code == 200
        workers = {worker.pid for worker in service.workers()}
        assert len(workers) == 2  # the same: nobody had to start them again


def test_without_a_database_it_says_when_to_come_again(
    postgres: PostgresServer, postgres_url: str, minilm: Embedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lamina.store.postgresql.connection.PATIENCE", 0.3)
    body, key = {"messages": "I keep bees.", "user_id": "ada", "infer": False}, {"Idempotency-Key": "bees"}
    with (
        Memory(postgres_url, embedder=minilm) as memory,
        serving(create_app(Service(memory))) as url,
        httpx.Client(base_url=url, timeout=60) as client,
    ):
        assert client.post("/memories", json=body | {"messages": "I keep goats."}).status_code == 200
        postgres.control("stop", "-m", "immediate")
        try:
            answers = [
                client.post("/memories", json=body, headers=key),
                client.post("/search", json={"query": "bees", "filters": {"user_id": "ada"}}),
                client.get("/memories", params={"user_id": "ada"}),
                client.get("/ready"),
            ]
            assert client.get("/health").status_code == 200  # the process is well: nobody should kill it
        finally:
            postgres.control("restart")  # "start" would forget where to listen
        for answer in answers:
            assert answer.status_code == 503 and int(answer.headers["retry-after"]) >= 1
            assert answer.json()["error"]["code"] == "STORE_UNAVAILABLE"
        end = time.monotonic() + 30
        while client.get("/ready").status_code != 200:
            assert time.monotonic() < end
            time.sleep(0.1)
        ids = {client.post("/memories", json=body, headers=key).json()["results"][0]["id"] for _ in range(2)}
        assert len(ids) == 1 and sorted(said for said, _ in listed(client)) == ["I keep bees.", "I keep goats."]


def test_a_client_that_leaves_before_the_answer_repeats_and_writes_once(tmp_path: Path, minilm: Embedder) -> None:
    with (
        Memory(tmp_path / "m.db", embedder=minilm) as memory,
        serving(create_app(Service(memory))) as url,
        httpx.Client(base_url=url, timeout=60) as client,
    ):
        for number in range(10):
            body = {"messages": f"Entry {number}.", "user_id": "ada", "infer": False}
            content = json.dumps(body).encode()
            head = f"POST /memories HTTP/1.1\r\nHost: {urlsplit(url).netloc}\r\nContent-Type: application/json\r\n"
            head += f"Idempotency-Key: k{number}\r\nContent-Length: {len(content)}\r\n\r\n"
            with socket.create_connection((urlsplit(url).hostname, urlsplit(url).port)) as wire:
                wire.sendall(head.encode() + content)  # and gone
            again = client.post("/memories", json=body, headers={"Idempotency-Key": f"k{number}"})
            assert again.status_code == 200, again.text
        assert sorted(said for said, _ in listed(client)) == [f"Entry {number}." for number in range(10)]


def test_a_model_that_hangs_holds_up_nobody_else_and_loses_no_message(tmp_path: Path, minilm: Embedder) -> None:
    with standing_in() as far:
        config = Settings(llm="openai:gpt-stand-in", llm_base_url=far.url, llm_api_key="sk-any", durable=False)
        far.pause = 0
        with (
            Memory(tmp_path / "m.db", embedder=minilm, settings=config) as memory,
            serving(create_app(Service(memory), limits=Limits(seconds=2.0))) as url,
            httpx.Client(base_url=url, timeout=60) as client,
        ):
            said: dict[str, Any] = {"messages": "My sister Ines sails to Crete.", "user_id": "ada"}
            late = client.post("/memories", json=said, headers={"Idempotency-Key": "crete"})
            assert late.status_code == 200  # in time: it is kept, and its facts wait for the model
            assert said["messages"] in {text for text, _ in listed(client)}
            plain = {"messages": "I keep bees.", "user_id": "ada", "infer": False}
            assert client.post("/memories", json=plain).status_code == 200
            asked = {"query": "Which animals?", "filters": {"user_id": "ada"}}
            assert "I keep bees." in {row["memory"] for row in client.post("/search", json=asked).json()["results"]}
            far.pause = None
            far.go.set()  # it speaks again, if only nonsense
            end = time.monotonic() + 30
            while client.post("/memories", json=said, headers={"Idempotency-Key": "crete"}).status_code != 200:
                assert time.monotonic() < end
                time.sleep(0.1)
            assert [text for text, _ in listed(client)].count(said["messages"]) == 1
