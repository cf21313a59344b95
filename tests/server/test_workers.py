"""``lamina serve`` as a person starts it: real processes, keys, kill -9, a graceful end."""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

pytestmark = pytest.mark.model


def _environment(home: Path) -> dict[str, str]:
    return {**os.environ, "LAMINA_HOME": str(home), "OMP_NUM_THREADS": "1", "NO_PROXY": "127.0.0.1"}


def _lamina(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).parent / "lamina"), *arguments]
    return subprocess.run(command, env=_environment(home), capture_output=True, text=True, timeout=120)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def _served(home: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], httpx.Client]]:
    port = _free_port()
    command = [str(Path(sys.executable).parent / "lamina"), "serve", "--port", str(port), *options]
    process = subprocess.Popen(command, env=_environment(home), stderr=subprocess.PIPE, text=True)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60, trust_env=False) as client:
            while True:
                assert process.poll() is None, process.stderr and process.stderr.read()
                try:
                    client.get("/health")
                    break
                except httpx.TransportError:
                    time.sleep(0.1)
            yield process, client
    finally:
        process.terminate()
        process.wait(30)


def test_nobody_else_is_served_without_keys(tmp_path: Path) -> None:
    refused = _lamina(tmp_path, "serve", "--host", "0.0.0.0")
    assert refused.returncode == 1 and "lamina keys create" in refused.stderr


def test_keys_from_the_command_line_open_the_service(tmp_path: Path) -> None:
    made = json.loads(_lamina(tmp_path, "keys", "create", "app", "--json").stdout)
    with _served(tmp_path, "--log-json") as (process, client):
        assert client.get("/memories?user_id=ada").status_code == 401
        headers = {"Authorization": f"Bearer {made['token']}", "X-Request-ID": "r-17"}
        assert client.get("/memories?user_id=ada", headers=headers).status_code == 200
        assert _lamina(tmp_path, "keys", "revoke", made["id"]).returncode == 0
        assert client.get("/memories?user_id=ada", headers=headers).status_code == 401
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        lines = [json.loads(line) for line in process.stderr.read().splitlines() if line.startswith("{")]
    found = next(line for line in lines if line["request"] == "r-17" and line["status"] == 200)
    assert found["route"] == "/memories" and found["key"] == made["id"]
    assert made["token"] not in json.dumps(lines)
    listed = json.loads(_lamina(tmp_path, "keys", "list", "--json").stdout)["keys"]
    assert [key["id"] for key in listed if key["revoked"]] == [made["id"]]


def test_what_was_acknowledged_survives_a_kill_and_a_repeat_writes_nothing(tmp_path: Path) -> None:
    acknowledged: dict[str, str] = {}
    with _served(tmp_path) as (process, client):
        for n in range(12):
            body = {"messages": f"Entry {n} of the book.", "user_id": "ada", "infer": False}
            answer = client.post("/memories", json=body, headers={"Idempotency-Key": f"k{n}"})
            acknowledged[f"k{n}"] = answer.json()["results"][0]["id"]
        process.kill()
        process.wait()
    with _served(tmp_path) as (_, client):
        for n, (key, id) in enumerate(acknowledged.items()):
            body = {"messages": f"Entry {n} of the book.", "user_id": "ada", "infer": False}
            answer = client.post("/memories", json=body, headers={"Idempotency-Key": key})
            assert answer.json()["results"][0]["id"] == id
        assert len(client.get("/memories", params={"user_id": "ada"}).json()["results"]) == len(acknowledged)


def test_two_workers_share_one_memory(tmp_path: Path) -> None:
    with _served(tmp_path, "--workers", "2") as (_, client):
        ids = set()
        for n in range(20):
            body = {"messages": f"Entry {n} of the book.", "user_id": "ada", "infer": False}
            with httpx.Client(base_url=client.base_url, timeout=60, trust_env=False) as fresh:  # maybe the other worker
                ids.add(fresh.post("/memories", json=body).json()["results"][0]["id"])
        rows = client.get("/memories", params={"user_id": "ada"}).json()["results"]
        assert {row["id"] for row in rows} == ids and len(ids) == 20


def _many(client: httpx.Client, count: int = 5_000) -> str:
    """A job that takes a while, begun."""
    items = [{"messages": f"Line {n} of the log.", "user_id": "log"} for n in range(count)]
    job = client.post("/jobs", json={"kind": "add", "items": items, "infer": False}).json()["id"]
    while client.get(f"/jobs/{job}").json()["progress"] == 0:
        time.sleep(0.05)
    return str(job)


def _stands(client: httpx.Client, job: str) -> str:
    while (state := client.get(f"/jobs/{job}").json()["state"]) in ("waiting", "running"):
        time.sleep(0.05)
    return str(state)


def test_a_job_is_followed_cancelled_and_missed_from_another_process(tmp_path: Path) -> None:
    with _served(tmp_path) as (one, here), _served(tmp_path) as (other, there):
        job = _many(here)
        assert there.get(f"/jobs/{job}").json()["state"] == "running"
        assert there.delete(f"/jobs/{job}").json()["unwanted"] is True
        assert _stands(here, job) == "cancelled" == there.get(f"/jobs/{job}").json()["state"]
        assert there.delete(f"/jobs/{job}").json()["state"] == "cancelled"
        job = _many(here)
        one.kill()
        one.wait()
        assert there.get(f"/jobs/{job}").json()["state"] == "lost"
        with there.stream("GET", f"/jobs/{job}/events") as stream:
            assert any('"lost"' in line for line in stream.iter_lines())
        job = _many(there)
        other.terminate()
        assert other.wait(25) in (0, -signal.SIGTERM)  # a running job does not hold it up
    with _served(tmp_path) as (_, after):
        assert after.get(f"/jobs/{job}").json()["state"] == "lost"


def test_a_full_disk_is_said_and_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    def write(client: httpx.Client, n: int) -> httpx.Response:
        said = f"Entry {n}: " + "words of the book " * 300
        return client.post("/memories", json={"messages": said, "user_id": "ada", "infer": False})

    with _served(tmp_path) as (process, client):
        kept = [write(client, 0).json()["results"][0]["id"]]
        free = resource.RLIM_INFINITY
        largest = max(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file())
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (largest + 100_000, free))  # as if the disk were full
        for n in range(1, 200):
            answer = write(client, n)
            if answer.status_code != 200:
                break
            kept.append(answer.json()["results"][0]["id"])
        assert answer.status_code == 503 and answer.headers["retry-after"]
        assert answer.json()["error"]["code"] == "STORE_UNAVAILABLE"
        assert client.get(f"/memories/{kept[-1]}").status_code == 200
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (free, free))
        kept.append(write(client, 1000).json()["results"][0]["id"])
        rows = client.get("/memories", params={"user_id": "ada", "top_k": 1000}).json()["results"]
        assert {row["id"] for row in rows} == set(kept)
        process.kill()
        process.wait()
    with _served(tmp_path) as (_, client):
        rows = client.get("/memories", params={"user_id": "ada", "top_k": 1000}).json()["results"]
        assert {row["id"] for row in rows} == set(kept)
