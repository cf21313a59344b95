"""The services that are loaded: real processes, started as an operator starts them, and what they take of the machine.

Every one gets a folder or database of its own and the same environment: one compute thread a process (workers of
several threads each would fight for the cores), nobody's settings, no telemetry.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lamina._optional import require

_START = 120.0  # seconds until a service must answer
_ASKED = 10  # requests before anything is measured, at least
_ALIKE = 0.7  # of the largest worker's memory: one without the encoder holds a quarter
_SERVE = "from lamina.cli import main; main()"


@dataclass(frozen=True, slots=True)
class Service:
    """A running service at ``url``; ``process`` supervises its workers, or (not ``several``) is the only one."""

    url: str
    process: Any  # psutil.Process
    several: bool

    def workers(self) -> list[Any]:
        """The processes that answer; of several, those that live now."""
        return [child for child in self.process.children() if _works(child)] if self.several else [self.process]


def lamina(folder: Path, *, workers: int, url: str | None = None) -> AbstractContextManager[Service]:
    """``lamina serve`` over a file in ``folder``, or over the database at ``url``."""
    command = [sys.executable, "-c", _SERVE, "serve", "--workers", str(workers), "--port"]
    return _started(command, [], folder, workers > 1, {"LAMINA_DATABASE": url or str(folder / "memory.db")})


def mem0(folder: Path, *, workers: int, url: str | None = None) -> AbstractContextManager[Service]:
    """mem0 over embedded Qdrant in ``folder``, or over the database at ``url``."""
    command = [sys.executable, "-m", "lamina.bench.load.mem0_face"]
    return _started(command, [str(workers), str(folder), *([url] if url else [])], folder, workers > 1, {})


STARTERS: dict[str, Callable[..., AbstractContextManager[Service]]] = {"lamina": lamina, "mem0": mem0}


@contextmanager
def _started(
    command: list[str], rest: list[str], folder: Path, several: bool, settings: dict[str, str]
) -> Iterator[Service]:
    """The service of a command that takes its port as the next argument, until the end of the block."""
    psutil = require("psutil", "lamina bench load")
    port = _free_port()
    clean = {name: value for name, value in os.environ.items() if not name.startswith("LAMINA_")}
    own = {"LAMINA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder), "MEM0_DIR": str(folder)}
    environment = clean | own | {"OMP_NUM_THREADS": "1", "MEM0_TELEMETRY": "False"} | settings
    log = folder / "log"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [*command, str(port), *rest], env=environment, cwd=folder, stdout=stream, stderr=stream
        )
        try:
            url = f"http://127.0.0.1:{port}"
            _wait(process, url, log)
            yield Service(url, psutil.Process(process.pid), several)
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                for child in psutil.Process(process.pid).children(recursive=True):
                    child.kill()
                process.kill()
                process.wait()


def _works(child: Any) -> bool:
    """Not multiprocessing's own helper, nor a process that died and was not buried yet."""
    psutil = require("psutil", "lamina bench load")
    try:
        return "resource_tracker" not in " ".join(child.cmdline())
    except psutil.NoSuchProcess:
        return False


def _wait(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    end = time.monotonic() + _START
    while process.poll() is None and time.monotonic() < end:
        try:
            with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(f"{url}/health", timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    raise RuntimeError(f"the service did not start:\n{log.read_text(errors='replace')[-2000:]}")


def warm(service: Service) -> None:
    """Ask until every worker has loaded its encoder, which each does at its first request: for seconds it answers
    nobody, and which worker a connection reaches is chance. Raises ``RuntimeError`` if one is never reached."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    end, asked = time.monotonic() + _START, 0
    while time.monotonic() < end:
        body = {"messages": f"Good morning, number {asked}.", "user_id": "nobody", "infer": False}
        head = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{service.url}/memories", json.dumps(body).encode(), head)
        with opener.open(request, timeout=_START):
            asked += 1
        resident = [worker.memory_info().rss for worker in service.workers()]
        if asked >= _ASKED and min(resident) > _ALIKE * max(resident):
            return
    raise RuntimeError(f"{asked} requests did not reach every worker: {resident} bytes resident")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(slots=True)
class Watch:
    """Memory and CPU time of a service's workers, every half second."""

    service: Service
    seen: list[tuple[float, float, float]] = field(default_factory=list)  # moment, MiB of a worker, CPU s of all

    @contextmanager
    def watching(self) -> Iterator[None]:
        over = threading.Event()
        thread = threading.Thread(target=self._watch, args=(over,))
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def _watch(self, over: threading.Event) -> None:
        psutil = require("psutil", "lamina bench load")
        while not over.wait(0.5):
            try:
                workers = self.service.workers()
                taken = [(worker.memory_info().rss, sum(worker.cpu_times()[:2])) for worker in workers]
            except psutil.NoSuchProcess:
                continue  # one was just replaced
            if not taken:
                continue
            resident, spent = zip(*taken, strict=True)
            self.seen.append((time.monotonic(), sum(resident) / len(resident) / 2**20, sum(spent)))

    def taken(self, begin: float, end: float) -> dict[str, float]:
        """Between two moments: MiB of a worker (their mean) at first, at last and at most, and busy cores."""
        inside = [seen for seen in self.seen if begin <= seen[0] <= end]
        if len(inside) < 2:
            return {}
        (first, early, spent), (last, late, all_spent) = inside[0], inside[-1]
        return {
            "worker_mib_begin": early,
            "worker_mib_end": late,
            "worker_mib_peak": max(size for _, size, _ in inside),
            "service_cpu_cores": (all_spent - spent) / (last - first),
        }
