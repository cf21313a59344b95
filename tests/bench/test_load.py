"""The load is real, its clients notice every kind of loss, and its figures are what a plain computation gives."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from lamina.bench import mem0_peer
from lamina.bench.load import harness, mem0_face
from lamina.bench.load.clients import MIX, Clients, Load
from lamina.bench.load.figures import PARTS, figures, quantile
from lamina.bench.load.readback import Expected, Found, read_back
from lamina.bench.report import markdown

SMALL = harness.Plan(long=2.0, compared=2.0, warm=0.3, clients=4, users=5, filled=12)


@pytest.mark.model
def test_a_real_service_of_two_workers_stands(capsys: pytest.CaptureFixture[str]) -> None:
    told: list[str] = []
    record = harness.measured(harness.PARTS[0], SMALL, 0, told.append)
    assert told == ["lamina, SQLite, long: 2 workers, 2 s"]
    assert record["failures"] == [] and record["errors"] == 0
    assert record["lost"] == record["changed"] == record["duplicates"] == 0
    assert record["memories_begin"] == 12 and record["checked"] == record["memories_end"]
    assert record["requests"] > 5 and record["search_p50_ms"] <= record["search_p99_ms"]
    assert record["worker_mib_peak"] > 50 and record["client_cpu_cores"] > 0 and record["disk_mib"] > 0
    assert len(record["course"]) == PARTS
    measured = harness._measurements(SMALL, {"lamina, SQLite, long": record})
    assert [m.holds for m in measured[:3]] == [True] * 3
    assert not any(m.holds for m in measured[4:])  # nobody to compare with


class Forgetful:
    """A service of mem0's paths in memory, which ``spoil`` may break after the load."""

    def __init__(self) -> None:
        self.rows: dict[str, dict[str, str]] = {}
        self.listed_twice = False
        self.refused = 0
        self.app = FastAPI()
        self.app.post("/memories")(self.add)
        self.app.post("/search")(self.search)
        self.app.get("/memories")(self.all)
        self.app.get("/memories/{id}")(self.get)
        self.app.put("/memories/{id}")(self.update)
        self.app.delete("/memories/{id}")(self.delete)

    async def add(self, body: dict[str, Any]) -> Any:
        id = f"m{len(self.rows)}"
        self.rows[id] = {"id": id, "memory": body["messages"], "user_id": body["user_id"]}
        return {"results": [self.rows[id]]}

    async def search(self, body: dict[str, Any]) -> Any:
        return {"results": [row for row in self.rows.values() if row["user_id"] == body["filters"]["user_id"]][:3]}

    async def all(self, user_id: str, cursor: int = 0) -> Any:
        """Pages of three."""
        rows = [row for row in self.rows.values() if row["user_id"] == user_id and "gone" not in row]
        rows = rows * 2 if self.listed_twice else rows
        return {"results": rows[cursor : cursor + 3], "cursor": cursor + 3 if len(rows) > cursor + 3 else None}

    async def get(self, id: str) -> Any:
        return self.rows.get(id)

    async def update(self, id: str, body: dict[str, Any]) -> Any:
        self.rows[id]["memory"] = body["text"]
        return {}

    async def delete(self, id: str) -> Any:
        self.rows[id]["gone"] = "yes"
        return {}


@pytest.fixture
def service() -> Forgetful:
    return Forgetful()


@pytest.fixture
def clients(service: Forgetful, monkeypatch: pytest.MonkeyPatch) -> Clients:
    """A load of the mix that all went well."""

    def connected(url: str) -> httpx.AsyncClient:
        return httpx.AsyncClient(base_url=url, transport=httpx.ASGITransport(service.app))

    monkeypatch.setattr("lamina.bench.load.clients.connected", connected)
    clients = Clients(Load("http://service", seed=3, seconds=1.0, warm=0.0, clients=3, users=4, filled=9))
    asyncio.run(clients.fill())
    assert clients.expected.open == 9 == len(service.rows)
    asyncio.run(clients.run(time.monotonic() + 1.0))
    assert clients.failures == []
    return clients


def _found(service: Forgetful, expected: Expected) -> Found:
    async def ask() -> Found:
        async with httpx.AsyncClient(base_url="http://service", transport=httpx.ASGITransport(service.app)) as http:
            return await read_back(http, expected)

    return asyncio.run(ask())


def test_the_mix_is_asked_for_and_all_is_found_again(service: Forgetful, clients: Clients) -> None:
    verbs = [verb for verb, _, _ in clients.samples[9:]]
    assert len(verbs) > 200
    for verb in ("add", "search"):
        assert verbs.count(verb) / len(verbs) == pytest.approx(MIX[verb], abs=0.12)
    assert set(verbs) == set(MIX)
    users = [row["user_id"] for row in service.rows.values()]
    assert users.count("user0") > users.count("user3") > 0
    texts = clients.expected.texts
    assert len(set(texts.values())) == len(texts)
    assert _found(service, clients.expected) == Found(len(texts), 0, 0, 0)


@pytest.mark.parametrize(
    ("spoil", "lost", "changed", "duplicates"),
    [
        (lambda service, id: service.rows.pop(id), 1, 0, 0),
        (lambda service, id: service.rows[id].update(gone="yes"), 1, 0, 0),  # by its id, but in no list
        (lambda service, id: service.rows[id].update(memory="Else."), 0, 1, 0),
        (lambda service, id: service.rows.update({"x": {**service.rows[id], "id": "x"}}), 0, 0, 1),
        (lambda service, id: setattr(service, "listed_twice", True), 0, 0, -1),
    ],
)
def test_every_kind_of_loss_is_noticed(
    service: Forgetful, clients: Clients, spoil: Any, lost: int, changed: int, duplicates: int
) -> None:
    texts = clients.expected.texts
    spoil(service, next(iter(texts)))
    twice = len(texts) if duplicates < 0 else duplicates
    assert _found(service, clients.expected) == Found(len(texts), lost, changed, twice)


def test_a_deleted_memory_that_comes_back_and_a_refused_call_are_noticed(service: Forgetful, clients: Clients) -> None:
    back = next(row for row in service.rows.values() if "gone" in row)
    del back["gone"]
    assert _found(service, clients.expected).duplicates == 1
    service.app.router.routes.clear()
    asyncio.run(clients.run(time.monotonic() + 0.05))
    assert clients.failures and all("404" in said for said in clients.failures)


def test_figures_are_those_of_a_plain_computation() -> None:
    rng = np.random.default_rng(0)
    took = rng.gamma(2.0, 0.01, 2_000)
    samples = [(("add", "search")[n % 2], 10.0 + n / 200, float(seconds)) for n, seconds in enumerate(took)]
    found = figures(samples, 10.0, 20.0)
    for place, verb in enumerate(("add", "search")):
        for name, share in (("p50", 50), ("p95", 95), ("p99", 99)):
            wanted = 1e3 * np.percentile(took[place::2], share, method="inverted_cdf")
            assert found[f"{verb}_{name}_ms"] == pytest.approx(wanted, rel=1e-12)
        assert found[f"{verb}_per_s"] == 100.0
    assert found["slowest_ms"] == 1e3 * took.max()
    assert found["requests_per_s"] == 200.0 and [part["requests_per_s"] for part in found["course"]] == [200.0] * PARTS
    assert quantile([3.0], 0.5) == 3.0
    with pytest.raises(IndexError):
        quantile([], 0.5)


def _record(**changes: Any) -> dict[str, Any]:
    course = [{"requests_per_s": 9.0, "worker_mib": 5.0}] * PARTS
    sound = {"measured_s": 2.0, "errors": 0, "failures": [], "lost": 0, "changed": 0, "duplicates": 0, "course": course}
    sound |= {"requests_per_s": 90.0, "search_p99_ms": 20.0, "worker_mib_begin": 100.0, "worker_mib_end": 110.0}
    return sound | changes


def test_claims_fail_by_one_failure() -> None:
    long = "lamina, SQLite, long"
    peers = {"lamina, SQLite": _record(), "mem0, embedded Qdrant": _record(requests_per_s=50.0, search_p99_ms=30.0)}
    peers |= {"lamina, PostgreSQL": _record(), "mem0, pgvector": _record(requests_per_s=80.0)}

    def holds(**changes: Any) -> list[bool]:
        return [one.holds for one in harness._measurements(SMALL, peers | {long: _record(**changes)})]

    assert holds() == [True, True, True, True, True, False, True]
    spoilt: tuple[dict[str, Any], ...] = ({"errors": 1}, {"changed": 1}, {"duplicates": 1}, {"worker_mib_end": 126.0})
    for place, changes in enumerate(spoilt):
        assert [n for n, (good, bad) in enumerate(zip(holds(), holds(**changes), strict=True)) if good != bad] == [
            place
        ]


def test_the_report_shows_services_side_by_side() -> None:
    claims = [one.to_dict() for one in harness._measurements(SMALL, {})]
    systems = {"lamina, SQLite, long": _record(measured_s=9.0), "mem0, pgvector": _record(failures=["add: 500 locked"])}
    document = {"bench": "load", "claims": claims, "systems": systems, "seconds": 3.0}
    page = markdown({"load": document})
    assert "|  | lamina, SQLite, long | mem0, pgvector |" in page and "mem0, pgvector: add: 500 locked" in page
    assert "lamina, SQLite, long, by tenths of the time" in page and "| 10 | 9 | 5 |" in page


def test_one_at_a_time() -> None:
    class Store:
        name = "store"
        inside = most = 0

        def work(self, wanted: int) -> int:
            self.inside += 1
            self.most = max(self.most, self.inside)
            time.sleep(0.005)
            self.inside -= 1
            return wanted

    store = Store()
    turns, told = mem0_face.OneAtATime(store), []
    threads = [threading.Thread(target=lambda n=n: told.append(turns.work(n))) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(told) == list(range(6)) and store.most == 1 and turns.name == "store"


@pytest.mark.model
def test_mem0_does_the_same_work_behind_the_same_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process, where mem0 is installed; where it is not, its parts are left out and said so."""
    if not mem0_peer.installed():
        assert not any(harness._possible(part) for part in harness.PARTS if part.system == "mem0")
        assert mem0_peer.MISSING in harness._notes(SMALL)
        return
    monkeypatch.setenv("LAMINA_LOAD_FOLDER", str(tmp_path))
    with TestClient(mem0_face.create()) as client:
        body = {"messages": "I keep bees.", "user_id": "ada", "infer": False}
        id = client.post("/memories", json=body).json()["results"][0]["id"]
        asked = {"query": "Which animals?", "filters": {"user_id": "ada"}, "top_k": 10}
        assert client.post("/search", json=asked).json()["results"][0]["memory"] == "I keep bees."
        client.put(f"/memories/{id}", json={"text": "I keep goats."})
        assert client.get(f"/memories/{id}").json()["memory"] == "I keep goats."
        rows = client.get("/memories", params={"user_id": "ada", "top_k": 1_000}).json()["results"]
        assert [row["id"] for row in rows] == [id]
        assert client.delete(f"/memories/{id}").status_code == 200
        assert client.get("/memories", params={"user_id": "ada"}).json()["results"] == []
