"""Jobs in one process: one after another, whatever becomes of each."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from lamina import Memory
from lamina.cube.cube import now
from lamina.errors import InvalidInput, NotFound
from lamina.llm.base import Embedder
from lamina.server.jobs import JOBS, KEPT, Job, Jobs, Report
from lamina.store.postgres import PostgresStore
from lamina.store.sqlite import SqliteStore


@pytest.fixture
def jobs(tmp_path: Path) -> Iterator[Jobs]:
    with SqliteStore(tmp_path / "m.db") as store:
        jobs = Jobs(store)
        yield jobs
        jobs.close()


def _ended(jobs: Jobs, job: Job) -> Job:
    while not (found := jobs.get(job.id, job.tenant)).over:
        time.sleep(0.01)
    return found


def _failing(_: Report) -> None:
    raise InvalidInput("items is empty")


def _breaking(_: Report) -> None:
    raise ZeroDivisionError("a fault of ours that quotes a memory")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_one_after_another_whatever_becomes_of_each(jobs: Jobs) -> None:
    order: list[str] = []
    begun = [
        jobs.start("a", "acme", "key:1", lambda _: order.append("a")),
        jobs.start("b", "acme", "key:1", _failing),
        jobs.start("c", "acme", "key:1", _breaking),
        jobs.start("d", "acme", "key:1", lambda _: order.append("d")),
    ]
    ended = [_ended(jobs, job) for job in begun]
    assert [job.state for job in ended] == ["done", "failed", "failed", "done"] and order == ["a", "d"]
    assert ended[1].error == {"code": "INVALID_INPUT", "message": "items is empty"}
    assert ended[2].error is not None and "memory" not in ended[2].error["message"]


def test_a_job_that_is_cancelled_while_it_waits_never_begins(jobs: Jobs) -> None:
    gate, done = threading.Event(), threading.Event()
    first = jobs.start("a", "acme", "key:1", lambda _: gate.wait(30))
    second = jobs.start("b", "acme", "key:1", lambda _: done.set())
    assert jobs.cancel(second.id, "acme").unwanted
    gate.set()
    assert _ended(jobs, first).state == "done" and _ended(jobs, second).state == "cancelled" and not done.is_set()


def test_whose_jobs(jobs: Jobs) -> None:
    job = jobs.start("a", "acme", "key:1", lambda _: None)
    assert jobs.get(job.id, "acme", "key:1").id == job.id
    for tenant, caller in (("umbrella", None), ("acme", "key:2")):
        with pytest.raises(NotFound):
            jobs.get(job.id, tenant, caller)
        with pytest.raises(NotFound):
            jobs.cancel(job.id, tenant, caller)


def test_closing_ends_what_runs_at_its_next_report(jobs: Jobs) -> None:
    begun = threading.Event()

    def work(report: Report) -> None:
        begun.set()
        while True:
            report(0.5, "on and on")
            time.sleep(0.01)

    job, waits = jobs.start("a", "acme", "key:1", work), jobs.start("b", "acme", "key:1", lambda _: None)
    assert begun.wait(30)
    jobs.close()
    assert jobs.get(job.id, "acme").state == "lost"
    assert jobs.get(waits.id, "acme").state == "lost"  # nobody will do it


# -- leases ------------------------------------------------------------------------------------------

OTHER_HOST = """
import socket, sys, time
socket.gethostname = lambda: "another-host"
from lamina.server.jobs import Jobs
from lamina.store.sqlite import SqliteStore

def work(report):
    print("begun", flush=True)
    while True:
        time.sleep(0.05)  # as a lesson does: minutes without a report

jobs = Jobs(SqliteStore(sys.argv[1]), lease=1.0)
print(jobs.start("learn", "acme", "key:1", work).id, flush=True)
time.sleep(600)
"""


def test_a_job_whose_host_died_is_lost_when_its_lease_ran_out(tmp_path: Path) -> None:
    command = [sys.executable, "-c", OTHER_HOST, str(tmp_path / "m.db")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        id = process.stdout.readline().strip()
        assert process.stdout.readline() == "begun\n"
        with SqliteStore(tmp_path / "m.db") as store:
            here = Jobs(store)
            for _ in range(30):  # three leases long: its process keeps renewing them without a report
                assert here.get(id, "acme").state in ("waiting", "running")
                time.sleep(0.1)
            process.kill()
            process.wait()
            assert here.get(id, "acme").state == "running"  # its host cannot say
            while here.get(id, "acme").state == "running":
                time.sleep(0.05)
            assert here.get(id, "acme").state == "lost" == here.cancel(id, "acme").state
            here.close()


def test_what_slept_through_its_lease_stops_and_stays_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with SqliteStore(tmp_path / "m.db") as store:
        mine, other, slept, told = Jobs(store, lease=0.2), Jobs(store), threading.Event(), threading.Event()
        monkeypatch.setattr(mine, "_beat", lambda: None)

        def work(report: Report) -> None:
            slept.set()
            assert told.wait(30)
            report(0.9, "awake")

        job = mine.start("a", "acme", "key:1", work)
        assert slept.wait(30)
        while other.get(job.id, "acme").state != "lost":
            time.sleep(0.02)
        second = mine.start("b", "acme", "key:1", lambda _: None)  # under a lease of its own
        assert second.process != job.process
        told.set()
        while (kept := mine._read(job.id)) is not None and not kept.over:
            time.sleep(0.01)
        assert kept is not None and kept.state == "lost" == other.get(job.id, "acme").state
        mine.close()


@pytest.mark.model
def test_a_lost_job_may_be_asked_for_again_and_writes_what_is_missing_once(tmp_path: Path, minilm: Embedder) -> None:
    items = [{"messages": f"Line {n}.", "user_id": "log", "idempotency_key": f"line-{n}"} for n in range(6)]
    with Memory(tmp_path / "m.db", embedder=minilm) as memory:
        jobs, broken = Jobs(memory.store), Jobs(memory.store)

        def work(report: Report) -> int:
            report(0.0, "again")
            return len(memory.add_batch(items, infer=False))

        def half(report: Report) -> None:
            memory.add_batch(items[:3], infer=False)
            broken._stopping.set()
            report(0.5, "half")

        assert _ended(broken, broken.start("add", "acme", "key:1", half)).state == "lost"
        assert _ended(jobs, jobs.start("add", "acme", "key:1", work)).result == 6
        assert len(memory.get_all(filters={"user_id": "log"})["results"]) == 6
        jobs.close()


def test_old_records_are_not_told_and_then_erased(
    jobs: Jobs, monkeypatch: pytest.MonkeyPatch, postgres_url: str
) -> None:
    for store in (jobs._store, PostgresStore(postgres_url).as_tenant(JOBS.tenant)):
        kept = Jobs(store)
        job = kept.start("a", "acme", "key:1", lambda _: None)
        assert _ended(kept, job).state == "done" and kept.purge() == 0
        kept.close()
        with monkeypatch.context() as later:
            for module in ("jobs", "leases"):
                later.setattr(f"lamina.server.{module}.now", lambda: now() + KEPT + timedelta(hours=1))
            with pytest.raises(NotFound):
                kept.get(job.id, "acme")
            assert kept.purge() == 2 and kept.purge() == 0  # the job and its lease
        assert store.query(JOBS, closed=True).cubes == []
    store.close()
