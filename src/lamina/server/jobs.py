"""Jobs: work that takes minutes (teaching an adapter, taking in a file), done beside the requests, one at a time.

A job's record is a memory of the reserved tenant ``lamina:jobs``, so that every worker can answer for it. It is
written when the job begins, moves on, and ends. The process that runs it is named in it: a job whose process died is
told as lost when it is next asked for, and may be asked for again; what it had committed stays.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

from lamina.cube.cube import Header, MemCube, Scope, new_id, now
from lamina.cube.payload import TextPayload
from lamina.errors import LaminaError, NotFound
from lamina.server.keys import RESERVED
from lamina.store.base import Store, Write

State = Literal["waiting", "running", "done", "failed", "cancelled", "lost"]
JOBS = Scope(tenant=f"{RESERVED}jobs")
KEPT = timedelta(days=7)
_PAUSE = 0.5  # seconds between two reports that are kept
_OVER = frozenset({"done", "failed", "cancelled", "lost"})

logger = logging.getLogger("lamina.server")


class Cancelled(Exception):
    """Raised inside a job whose caller no longer wants it."""


@dataclass(frozen=True, slots=True)
class Job:
    """``progress`` in [0, 1]; ``result`` of what is done, ``error`` (code and message) of what failed."""

    id: str
    kind: str
    tenant: str
    caller: str
    state: State
    progress: float = 0.0
    message: str = ""
    result: Any = None
    error: dict[str, str] | None = None
    process: str = ""

    @property
    def over(self) -> bool:
        return self.state in _OVER


Report = Callable[[float, str], None]  # progress and a word; raises ``Cancelled``


class Jobs:
    """The jobs of one process, recorded in ``store``. ``close`` waits for none: they end as lost, or as done."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._pool = ThreadPoolExecutor(1, "lamina-job")
        self._unwanted: set[str] = set()
        self._lock = threading.Lock()
        self._me = f"{socket.gethostname()}:{os.getpid()}:{_started(os.getpid())}"

    def start(self, kind: str, tenant: str, caller: str, work: Callable[[Report], Any]) -> Job:
        """Do ``work`` when its turn comes."""
        job = Job(new_id(), kind, tenant, caller, "waiting", process=self._me)
        header = Header(kind="text", id=f"job-{job.id}", scope=JOBS, expires=now() + KEPT)
        with self._store.transaction() as tx:
            tx.insert([Write(MemCube(header, _payload(job)), actor=caller, action="start job")])
        self._pool.submit(self._run, job, work)
        return job

    def get(self, id: str, tenant: str) -> Job:
        """Raises ``NotFound``, also for a job of another tenant."""
        cube = self._store.get(f"job-{id}")
        if cube is None or cube.header.scope != JOBS or json.loads(cube.text)["tenant"] != tenant:
            raise NotFound(f"there is no job {id!r}")
        job = Job(**json.loads(cube.text))
        return job if job.over or self._lives(job.process) else replace(job, state="lost")

    def cancel(self, id: str, tenant: str) -> Job:
        """It ends at its next report; one that is over stays as it is."""
        job = self.get(id, tenant)
        with self._lock:
            self._unwanted.add(id)
        return job

    def close(self) -> None:
        """Start no more."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _run(self, job: Job, work: Callable[[Report], Any]) -> None:
        last = 0.0

        def report(progress: float, message: str) -> None:
            nonlocal last
            with self._lock:
                unwanted = job.id in self._unwanted
            if unwanted:
                raise Cancelled
            if time.monotonic() - last < _PAUSE:  # every report is a version of the record
                return
            last = time.monotonic()
            self._write(replace(job, state="running", progress=round(min(1.0, max(0.0, progress)), 3), message=message))

        try:
            report(0.0, "begun")
            done = replace(job, state="done", progress=1.0, result=work(report))
        except Cancelled:
            done = replace(job, state="cancelled")
        except LaminaError as error:
            done = replace(job, state="failed", error={"code": error.code, "message": str(error)})
        except BaseException:  # whoever waits must hear of it; the log has the rest
            logger.exception("job %s failed", job.id)
            self._write(replace(job, state="failed", error={"code": "ERROR", "message": "failed; the log says why"}))
            raise
        self._write(done)

    def _write(self, job: Job) -> None:
        with self._store.transaction() as tx:
            old = tx.newest(f"job-{job.id}")
            assert old is not None
            header = replace(old.header, version=old.header.version + 1)
            tx.revise(Write(MemCube(header, _payload(job)), action="job"), expect=old.header.version)

    def _lives(self, process: str) -> bool:
        host, pid, started = process.rsplit(":", 2)
        return host != socket.gethostname() or _started(int(pid)) == started


def _payload(job: Job) -> TextPayload:
    return TextPayload(json.dumps(asdict(job)))


def _started(pid: int) -> str:
    """When a process began, so that a number used again is not taken for it; empty if there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""
