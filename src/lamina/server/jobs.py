"""Jobs: work that takes minutes (teaching an adapter, taking in a file), done beside the requests, one at a time.

A job's record is a memory of the reserved tenant ``lamina:jobs``, so that every worker can answer for it. It is
written when the job begins, moves on, and ends, and says whether it is still wanted: so it is cancelled at any worker,
and hears of it at its next report. It names the lease of the process that does it (``server.leases``): a job whose
lease ran out is told as lost by any process of any host, and may be asked for again; what it had committed stays. A
thread that ends with the process does the work, or a service that is told to stop would wait for minutes. Records are
erased ``KEPT`` after they were made.
"""

from __future__ import annotations

import json
import logging
import queue
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from typing import Any, Literal

from lamina.cube.cube import Header, MemCube, Scope, new_id, now
from lamina.cube.payload import TextPayload
from lamina.errors import LaminaError, NotFound
from lamina.kernel.rhythms.background import repeated
from lamina.server.keys import RESERVED
from lamina.server.leases import SECONDS, Lease
from lamina.store.acting import on_behalf
from lamina.store.base import Store, Write
from lamina.text import arguments

State = Literal["waiting", "running", "done", "failed", "cancelled", "lost"]
JOBS = Scope(tenant=f"{RESERVED}jobs")
KEPT = timedelta(days=7)
PURGE = timedelta(days=1)  # between two erasings: an embedded store rewrites its file at each
_PAUSE = 0.5  # seconds between two reports that are kept
_GRACE = 5.0  # seconds that a job may take to end when its process stops
_OVER = frozenset({"done", "failed", "cancelled", "lost"})

logger = logging.getLogger("lamina.server")


class Cancelled(Exception):
    """Raised inside a job whose caller no longer wants it."""


class Stopped(Exception):
    """Raised inside a job whose process ends, or lost its lease."""


@dataclass(frozen=True, slots=True)
class Job:
    """``progress`` in [0, 1]; ``result`` of what is done, ``error`` (code and message) of what failed; ``process``:
    the lease of who does it; ``unwanted``: it was cancelled, and will hear of it."""

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
    """The jobs of one process, recorded in ``store``. ``lease``: seconds after which one that is silent is lost."""

    def __init__(self, store: Store, *, lease: float = SECONDS) -> None:
        self._store = store.as_tenant(JOBS.tenant)
        self._lease = Lease(self._store, JOBS, kept=KEPT, seconds=lease)
        self._alive = ExitStack()  # what keeps the lease
        self._unfinished, self._purged = 0, now() - PURGE
        self._tasks: queue.SimpleQueue[_Task | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._lock, self._stopping = threading.Lock(), threading.Event()

    def start(self, kind: str, tenant: str, caller: str, work: Callable[[Report], Any]) -> Job:
        """Do ``work`` when its turn comes."""
        job = Job(new_id(), kind, tenant, caller, "waiting", process=self._lease.hold())
        header = Header(kind="text", id=f"job-{job.id}", scope=JOBS, expires=now() + KEPT)
        with self._store.transaction() as tx:
            tx.insert([Write(MemCube(header, _payload(job)), actor=caller, action="start job")])
        with self._lock:
            self._unfinished += 1
            if self._thread is None:
                self._alive.enter_context(repeated(self._beat, self._lease.seconds / 3))
                self._begin()
        self._tasks.put((job, work))
        return job

    def get(self, id: str, tenant: str, caller: str | None = None) -> Job:
        """Raises ``NotFound``, also for a job of another tenant, or not asked for by ``caller`` (default: anyone)."""
        job = self._read(id)
        if job is None or job.tenant != tenant or caller not in (None, job.caller):
            raise NotFound(f"there is no job {arguments.short(id)}")
        if job.over or self._lease.alive(job.process):
            return job
        job = self._read(id) or job  # it may have ended in good order between the two readings
        return job if job.over else replace(job, state="lost")

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
        self._alive.close()
        try:
            self._lease.end()
        except LaminaError as error:  # it runs out by itself
            logger.warning("the lease of this process was not ended: %s", error)

    def purge(self) -> int:
        """Erase the records that are past ``KEPT``, at most once in ``PURGE``; how many went."""
        at = now()
        if at - self._purged < PURGE:
            return 0
        gone, cursor = 0, None
        while True:
            page = self._store.query(JOBS, closed=True, newest_first=False, limit=1000, cursor=cursor)
            old = {cube.id for cube in page.cubes if _over(cube)}
            if old:
                with self._store.transaction() as tx:
                    tx.forget(sorted(old), actor="service", reason=f"{KEPT.days} days old")
            gone, cursor = gone + len(old), page.cursor
            if cursor is None:
                self._purged = at  # not before: what broke off in the midst of it goes on at the next call
                return gone

    def _read(self, id: str) -> Job | None:
        return _job(self._store.get(f"job-{id}"))

    def _beat(self) -> None:
        if self._unfinished:
            self._lease.hold()

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
            kept = self._read(job.id)
            if kept is None or kept.unwanted:
                raise Cancelled
            if self._stopping.is_set() or not self._lease.holds(job.process):
                raise Stopped
            if time.monotonic() - last < _PAUSE:  # every report is a version of the record
                return
            last, share = time.monotonic(), round(min(1.0, max(0.0, progress)), 3)
            self._write(job.id, lambda kept: replace(kept, state="running", progress=share, message=message))

        try:
            self._finish(job, work, report)
        except LaminaError:  # the record cannot be written: nobody but the log can be told
            logger.exception("job %s is not recorded", job.id)
        finally:
            with self._lock:
                self._unfinished -= 1

    def _finish(self, job: Job, work: Callable[[Report], Any], report: Report) -> None:
        changes: dict[str, Any]
        try:
            report(0.0, "begun")
            with on_behalf(job.caller):
                changes = {"state": "done", "progress": 1.0, "result": work(report)}
        except Cancelled:
            changes = {"state": "cancelled"}
        except Stopped:
            changes = {"state": "lost", "message": "its process stopped or was out of touch; what was committed stays"}
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
            if old is None or job is None:
                raise NotFound(f"the record of job {id!r} is gone")
            header, job = replace(old.header, version=old.header.version + 1), change(job)
            tx.revise(Write(MemCube(header, _payload(job)), actor="service", action="job"), expect=old.header.version)
        return job


def _job(cube: MemCube | None) -> Job | None:
    """What a record says; ``None`` for any other memory, and past its time."""
    if cube is None or cube.header.scope != JOBS or not cube.id.startswith("job-") or _over(cube):
        return None
    return Job(**json.loads(cube.text))


def _over(record: MemCube) -> bool:
    return record.header.expires is not None and record.header.expires <= now()


def _payload(job: Job) -> TextPayload:
    return TextPayload(json.dumps(asdict(job)))
