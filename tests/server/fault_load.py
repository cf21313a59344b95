"""Clients that write and read through a fault, and know what was acknowledged: a request is repeated under its key."""

from __future__ import annotations

import threading
import time
import uuid
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Self

import httpx
import psutil

from contracts.postgres import PostgresServer

USER = "ada"
CLIENTS = 6
_PATIENCE = 90.0  # seconds until a request that never succeeds is a failure


@dataclass
class FaultLoad:
    """``acknowledged``: ids by text. ``refused``: how often each status, or a broken connection, was met."""

    url: str
    acknowledged: dict[str, str] = field(default_factory=dict)
    refused: Counter[str] = field(default_factory=Counter)
    failed: list[str] = field(default_factory=list)
    reads: int = 0
    _over: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._threads = [threading.Thread(target=self._client, args=(n,)) for n in range(CLIENTS)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def wait_for(self, count: int) -> None:
        """Until so many more were acknowledged."""
        wanted, end = len(self.acknowledged) + count, time.monotonic() + _PATIENCE
        while len(self.acknowledged) < wanted and not self.failed:
            assert time.monotonic() < end, f"no recovery: {self.refused}"
            time.sleep(0.01)

    def _client(self, number: int) -> None:
        try:
            done = 0
            while not self._over.is_set():
                with httpx.Client(base_url=self.url, timeout=_PATIENCE, trust_env=False) as client:
                    for _ in range(10):  # then another connection, maybe to the other worker
                        self._write(client, f"Entry {done} of book {number}.")
                        self._read(client)
                        done += 1
        except AssertionError as error:
            self.failed.append(repr(error))

    def _write(self, client: httpx.Client, text: str) -> None:
        body, key = {"messages": text, "user_id": USER, "infer": False}, {"Idempotency-Key": str(uuid.uuid4())}
        rows = self._asked(client, "POST", "/memories", json=body, headers=key)["results"]
        assert [row["memory"] for row in rows] == [text], rows
        self.acknowledged[text] = rows[0]["id"]

    def _read(self, client: httpx.Client) -> None:
        asked = {"query": "Which book?", "filters": {"user_id": USER}, "top_k": 3}
        assert self._asked(client, "POST", "/search", json=asked)["results"]
        self.reads += 1

    def _asked(self, client: httpx.Client, *request: str, **content: Any) -> Any:
        end = time.monotonic() + _PATIENCE
        while time.monotonic() < end:
            try:
                answer = client.request(*request, **content)
            except httpx.TransportError as error:
                self.refused[type(error).__name__] += 1
                time.sleep(0.05)
                continue
            if answer.status_code == 200:
                return answer.json()
            self.refused[str(answer.status_code)] += 1
            assert answer.status_code == 503, answer.text
            assert answer.json()["error"]["code"] == "STORE_UNAVAILABLE", answer.text
            assert int(answer.headers["retry-after"]) >= 1
            time.sleep(0.1)
        raise AssertionError(f"never answered: {request}")


def listed(client: httpx.Client) -> list[tuple[str, str]]:
    """Text and id of every memory of the user."""
    rows: list[dict[str, Any]] = []
    asked: dict[str, Any] = {"user_id": USER, "top_k": 1000}
    while True:
        page = client.get("/memories", params=asked).json()
        rows += page["results"]
        if not page["cursor"]:
            return [(row["memory"], row["id"]) for row in rows]
        asked["cursor"] = page["cursor"]


def lost_and_doubled(load: FaultLoad, client: httpx.Client) -> tuple[int, int]:
    """Acknowledged memories that are not there under their id and in the list; and what is there beyond them."""
    found = listed(client)
    lost = {
        text
        for text, id in load.acknowledged.items()
        if (text, id) not in found or client.get(f"/memories/{id}").json()["memory"] != text
    }
    return len(lost), len(found) - len(set(found) & set(load.acknowledged.items()))


def kill(postgres: PostgresServer) -> None:
    """SIGKILL, as the kernel does when memory runs out: no process of it gets to say goodbye."""
    main = psutil.Process(int((postgres.folder / "postmaster.pid").read_text().splitlines()[0]))
    everyone = [main, *main.children()]
    for process in everyone:
        process.kill()
    psutil.wait_procs(everyone, 30)
