"""Jobs in one process: one after another, whatever becomes of each."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lamina.errors import InvalidInput, NotFound
from lamina.server.jobs import Job, Jobs, Report
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
    assert jobs.get(waits.id, "acme").state == "waiting"  # until this process ends: then it is lost
