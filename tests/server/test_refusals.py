"""Requests that are refused, odd or in vain: one shape of answers, no labels of the client's making, no long waits."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from live_server import serving

from contracts.postgres import PostgresServer
from lamina import Memory
from lamina.bench.synthetic import WordVectors
from lamina.cube.cube import Header, MemCube, now
from lamina.server import jobs
from lamina.server.app import Limits, create_app
from lamina.server.service import Service
from lamina.store.base import Write

PATHS = ["/memories", "/mcp", "/search", "/v1/chat/completions", "/chat", "/nowhere", "/", "/docs"]


@pytest.fixture(scope="module")
def memory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Memory]:
    with Memory(Path(tmp_path_factory.mktemp("refusals")) / "m.db", embedder=WordVectors()) as memory:
        yield memory


@pytest.fixture(scope="module")
def open_client(memory: Memory) -> Iterator[httpx.Client]:
    with (
        serving(create_app(Service(memory), limits=Limits(body=1000))) as url,
        httpx.Client(base_url=url, timeout=30) as client,
    ):
        yield client


def _is_ours(answer: httpx.Response, status: int) -> None:
    assert answer.status_code == status and answer.headers["content-type"] == "application/json", answer.text
    assert set(answer.json()["error"]) == {"code", "message", "type"} and answer.headers["x-request-id"]


@pytest.mark.parametrize("path", PATHS)
def test_a_body_that_is_too_large_is_refused_in_json(
    path: str, open_client: httpx.Client, caplog: pytest.LogCaptureFixture
) -> None:
    _is_ours(open_client.post(path, content=b"x" * 2000, headers={"Content-Type": "application/json"}), 413)
    if path in PATHS[:5]:  # others never read it
        _is_ours(open_client.post(path, content=iter([b"x" * 600] * 4)), 413)
    assert "a request failed" not in caplog.text


@pytest.mark.parametrize("path", PATHS)
def test_another_host_is_refused_in_json(path: str, open_client: httpx.Client) -> None:
    for method in ("GET", "POST"):
        _is_ours(open_client.request(method, path, headers={"Host": "evil.example"}), 400)


def test_methods_that_nobody_knows_are_one_label(open_client: httpx.Client) -> None:
    for method in ("BREW", "WHEN", "PROPFIND"):
        assert open_client.request(method, "/memories").status_code == 405
    told = open_client.get("/metrics").text
    assert 'lamina_requests_total{method="_OTHER",route="/memories",status="405"} 3.0' in told
    assert not any(method in told for method in ("BREW", "WHEN", "PROPFIND"))


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("2099-01-01", "2099-01-01T00:00:00+00:00"),
        ("2099-01-01T09:30:00", "2099-01-01T09:30:00+00:00"),
        ("2099-01-01T09:30:00+02:00", "2099-01-01T07:30:00+00:00"),
    ],
)
def test_a_key_expires_when_told_with_a_zone_or_without(given: str, kept: str, tmp_path: Path) -> None:
    with (
        Memory(tmp_path / "k.db", embedder=WordVectors()) as memory,
        serving(create_app(Service(memory))) as url,
    ):
        answer = httpx.post(f"{url}/keys", json={"name": "x", "rights": ["admin"], "expires": given}).json()
        listed = httpx.get(f"{url}/keys", headers={"Authorization": f"Bearer {answer['token']}"}).json()
    assert answer["expires"] == kept and [key["expires"] for key in listed] == [kept]


@pytest.mark.parametrize(
    "given", ["soon", "2001-01-01", "2001-01-01T00:00:00Z", "0001-01-01", "", [], {}, "inf", -1e300]
)
def test_a_key_that_never_was_is_refused(given: object, open_client: httpx.Client) -> None:
    answer = open_client.post("/keys", json={"name": "x", "expires": given})
    assert answer.status_code in (400, 422) and answer.json()["error"]["code"] == "INVALID_INPUT", answer.text


def test_a_list_is_narrowed_by_conditions(open_client: httpx.Client) -> None:
    for year in (2024, 2026):
        body = {"messages": f"In {year} I kept bees.", "user_id": "ann", "infer": False, "metadata": {"year": year}}
        assert open_client.post("/memories", json=body).status_code == 200

    def listed(filters: str, **ids: str) -> httpx.Response:
        return open_client.get("/memories", params={"filters": filters, **ids})

    for given in (listed('{"user_id": "ann", "year": {"gte": 2025}}'), listed('{"year": 2026}', user_id="ann")):
        assert [row["memory"] for row in given.json()["results"]] == ["In 2026 I kept bees."]
    assert listed('{"year": 1999}', user_id="ann").json()["results"] == []
    for wrong in ("[", "[]", "3", "{" * 5000, '{"year": {"like": 3}}'):
        assert listed(wrong, user_id="ann").status_code == 400, wrong
    assert listed('{"user_id": "bob"}', user_id="ann").status_code == 400


def test_all_of_a_tenant_is_erased_by_whoever_may_and_says_its_name(tmp_path: Path) -> None:
    with Memory(tmp_path / "r.db", embedder=WordVectors()) as memory:
        service = Service(memory)
        with serving(create_app(service)) as url:

            def keyed(*rights: str, tenant: str = "acme", user: str | None = None) -> httpx.Client:
                _, token = service.keys.create("test", tenant, rights, user=user)
                return httpx.Client(base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=30)

            boss, other, said = keyed("admin"), keyed("admin", tenant="beta"), []
            for client, user in ((boss, "ann"), (boss, "bob"), (other, "ann")):
                answer = client.post("/memories", json={"messages": "I keep bees.", "user_id": user, "infer": False})
                said.append(answer.json()["results"][0]["id"])
            acme = {"confirm": "acme"}
            for client in (keyed("read", "write"), keyed("forget"), keyed("write", "forget", user="ann")):
                assert client.post("/reset", json=acme).status_code == 403
            for wrong in ({"confirm": "beta"}, {"confirm": ""}):
                assert boss.post("/reset", json=wrong).status_code == 400
            assert boss.post("/reset", json={}).status_code == 422
            assert boss.post(f"/memories/{said[1]}/freeze", json={"reason": "legal"}).status_code == 200
            assert keyed("write", "forget").post("/reset", json=acme).status_code == 403  # and nothing went
            assert boss.get(f"/memories/{said[0]}").status_code == 200
            assert boss.post(f"/memories/{said[1]}/unfreeze", json={}).status_code == 200
            gone = keyed("write", "forget").post("/reset", json=acme)
            assert gone.status_code == 200 and set(said[:2]) <= set(gone.json()["forgotten"]), gone.text
            assert [boss.get(f"/memories/{id}").status_code for id in said[:2]] == [404, 404]
            assert other.get(f"/memories/{said[2]}").status_code == 200
            assert boss.get("/keys").status_code == 200  # keys are no memories of the tenant


def test_old_records_of_jobs_go_however_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Memory(tmp_path / "j.db", embedder=WordVectors()) as memory:
        kept, store = jobs.Jobs(memory.store), memory.store.as_tenant(jobs.JOBS.tenant)
        past = now() - timedelta(days=1)
        job = jobs.Job("1", "add", "acme", "key:x", "done")
        with store.transaction() as tx:
            headers = [Header(kind="text", id=f"job-{n:05d}", scope=jobs.JOBS, expires=past) for n in range(1100)]
            headers.append(Header(kind="text", id="job-young", scope=jobs.JOBS, expires=now() + timedelta(days=1)))
            tx.insert([Write(MemCube(one, jobs._payload(job)), actor="x", action="start job") for one in headers])

        def broken(**_: object) -> None:
            raise RuntimeError("the disk went away")

        with monkeypatch.context() as patch:
            patch.setattr(type(store), "transaction", broken)
            with pytest.raises((RuntimeError, TypeError)):
                kept.purge()
        assert kept.purge() == 1100 and kept.purge() == 0
        assert [cube.id for cube in store.query(jobs.JOBS, closed=True).cubes] == ["job-young"]
        kept.close()


@pytest.mark.model
def test_readiness_does_not_wait_for_a_database_that_is_away(postgres: PostgresServer, postgres_url: str) -> None:
    with (
        Memory(postgres_url, embedder=WordVectors()) as memory,
        serving(create_app(Service(memory))) as url,
        httpx.Client(base_url=url, timeout=15) as client,  # half of what the store itself would wait
    ):
        assert client.get("/ready").status_code == 200
        postgres.control("stop", "-m", "immediate")
        try:
            for _ in range(3):
                _is_ours(answer := client.get("/ready"), 503)
                assert answer.json()["error"]["code"] == "STORE_UNAVAILABLE" and int(answer.headers["retry-after"]) >= 1
            assert client.get("/health").status_code == 200
        finally:
            postgres.control("restart")
        end = time.monotonic() + 30
        while client.get("/ready").status_code != 200:
            assert time.monotonic() < end
            time.sleep(0.1)
