"""Jobs: work that takes minutes (teaching an adapter, taking in a file), done beside the requests, one at a time.

A job's record is a memory of the reserved tenant ``lamina:jobs``, so that every worker can answer for it. It is
written when the job begins, moves on, and ends, and says whether it is still wanted: so it is cancelled at any worker,
and hears of it at its next report. The process that runs it is named in it: a job whose process died is told as lost
when it is next asked for (on this host: of others nothing is known), and may be asked for again; what it had committed
stays. A thread that ends with the process does the work, or a service that is told to stop would wait for minutes.
"""

from __future__ import annotations

import json
import logging
import os
import queue
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

from lamina.cube.cube import Header, MemCube, Scope, new_id, now
from lamina.cube.payload import TextPayload
from lamina.errors import LaminaError, NotFound
from lamina.server.keys import RESERVED
from lamina.store.base import Store, Write
from lamina.text import arguments

State = Literal["waiting", "running", "done", "failed", "cancelled", "lost"]
JOBS = Scope(tenant=f"{RESERVED}jobs")
KEPT = timedelta(days=7)
_PAUSE = 0.5  # seconds between two reports that are kept
_GRACE = 5.0  # seconds that a job may take to end when its process stops
_OVER = frozenset({"done", "failed", "cancelled", "lost"})

logger = logging.getLogger("lamina.server")


class Cancelled(Exception):
    """Raised inside a job whose caller no longer wants it."""


class Stopped(Exception):
    """Raised inside a job whose process ends."""


@dataclass(frozen=True, slots=True)
class Job:
    """``progress`` in [0, 1]; ``result`` of what is done, ``error`` (code and message) of what failed; ``unwanted``: it
    was cancelled, and will hear of it."""

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
    unwanted: bool = False

    @property
    def over(self) -> bool:
        return self.state in _OVER


Report = Callable[[float, str], None]  # progress and a word; raises ``Cancelled``, ``Stopped``
_Task = tuple[Job, Callable[[Report], Any]]


class Jobs:
    """The jobs of one process, recorded in ``store``."""

    def __init__(self, store: Store) -> None:
        self._store = store.as_tenant(JOBS.tenant)
        self._tasks: queue.SimpleQueue[_Task | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._lock, self._stopping = threading.Lock(), threading.Event()
        self._me = f"{socket.gethostname()}:{os.getpid()}:{_started(os.getpid())}"

    def start(self, kind: str, tenant: str, caller: str, work: Callable[[Report], Any]) -> Job:
        """Do ``work`` when its turn comes."""
        job = Job(new_id(), kind, tenant, caller, "waiting", process=self._me)
        header = Header(kind="text", id=f"job-{job.id}", scope=JOBS, expires=now() + KEPT)
        with self._store.transaction() as tx:
            tx.insert([Write(MemCube(header, _payload(job)), actor=caller, action="start job")])
        with self._lock:
            if self._thread is None:
                self._begin()
        self._tasks.put((job, work))
        return job

    def get(self, id: str, tenant: str, caller: str | None = None) -> Job:
        """Raises ``NotFound``, also for a job of another tenant, or not asked for by ``caller`` (default: anyone)."""
        job = _job(self._store.get(f"job-{id}"))
        if job is None or job.tenant != tenant or caller not in (None, job.caller):
            raise NotFound(f"there is no job {arguments.short(id)}")
        return job if job.over or self._lives(job.process) else replace(job, state="lost")

    def cancel(self, id: str, tenant: str, caller: str | None = None) -> Job:
        """It ends at its next report, in whatever process; one that is over stays as it is. Raises as ``get``."""
        job = self.get(id, tenant, caller)
        return job if job.over else self._write(id, lambda kept: replace(kept, unwanted=not kept.over))

    def close(self) -> None:
        """Start no more. What runs ends at its next report; after some seconds its process no longer waits for it."""
        self._stopping.set()
        self._tasks.put(None)
        if self._thread is not None:
            self._thread.join(_GRACE)

    def _begin(self) -> None:
        self._thread = threading.Thread(target=self._work, name="lamina-job", daemon=True)
        self._thread.start()

    def _work(self) -> None:
        while (task := self._tasks.get()) is not None and not self._stopping.is_set():
            self._run(*task)

    def _run(self, job: Job, work: Callable[[Report], Any]) -> None:
        last = -_PAUSE

        def report(progress: float, message: str) -> None:
            nonlocal last
            kept = _job(self._store.get(f"job-{job.id}"))
            if kept is None or kept.unwanted:
                raise Cancelled
            if self._stopping.is_set():
                raise Stopped
            if time.monotonic() - last < _PAUSE:  # every report is a version of the record
                return
            last, share = time.monotonic(), round(min(1.0, max(0.0, progress)), 3)
            self._write(job.id, lambda kept: replace(kept, state="running", progress=share, message=message))

        try:
            self._finish(job, work, report)
        except LaminaError:  # the record cannot be written: nobody but the log can be told
            logger.exception("job %s is not recorded", job.id)

    def _finish(self, job: Job, work: Callable[[Report], Any], report: Report) -> None:
        changes: dict[str, Any]
        try:
            report(0.0, "begun")
            changes = {"state": "done", "progress": 1.0, "result": work(report)}
        except Cancelled:
            changes = {"state": "cancelled"}
        except Stopped:
            changes = {"state": "lost", "message": "the service stopped; what was committed stays"}
        except LaminaError as error:
            changes = {"state": "failed", "error": {"code": error.code, "message": str(error)}}
        except BaseException:  # whoever waits must hear of it; the log has the rest, and later jobs another thread
            logger.exception("job %s failed", job.id)
            changes = {"state": "failed", "error": {"code": "ERROR", "message": "failed; the log says why"}}
            self._write(job.id, lambda kept: replace(kept, **changes))
            self._begin()
            raise
        self._write(job.id, lambda kept: replace(kept, **changes))

    def _write(self, id: str, change: Callable[[Job], Job]) -> Job:
        """What ``change`` makes of the newest record: two processes may write it."""
        with self._store.transaction() as tx:
            old = tx.newest(f"job-{id}")
            job = _job(old)
            assert old is not None and job is not None
            header, job = replace(old.header, version=old.header.version + 1), change(job)
            tx.revise(Write(MemCube(header, _payload(job)), action="job"), expect=old.header.version)
        return job

    def _lives(self, process: str) -> bool:
        host, pid, started = process.rsplit(":", 2)
        return host != socket.gethostname() or _started(int(pid)) == started


def _job(cube: MemCube | None) -> Job | None:
    """What a record says; ``None`` for any other memory."""
    return Job(**json.loads(cube.text)) if cube is not None and cube.header.scope == JOBS else None


def _payload(job: Job) -> TextPayload:
    return TextPayload(json.dumps(asdict(job)))


def _started(pid: int) -> str:
    """When a process began, so that a number used again is not taken for it; empty if there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""
