"""Leases: a process's sign of life in the store, by which any process of any host can tell that it is gone.

A lease says until when its process is to be believed alive, and the process writes it anew (a third of it gone) for as
long as it has something to do. Nobody has to reach it: whoever reads the lease later than it says knows enough. On the
same machine a process that died is missed at once. One that slept through its lease, or could not reach the store for
so long, never gets it back: it takes a new one, so that what was told lost under the old one stays lost.

After Gray and Cheriton, "Leases: an efficient fault-tolerant mechanism", SOSP 1989. The clocks of all hosts must agree
to within a fraction of the lease.
"""

from __future__ import annotations

import json
import os
import socket
import threading
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

from lamina.cube.cube import Header, MemCube, Scope, new_id, now
from lamina.cube.payload import TextPayload
from lamina.store.base import Store, Write

SECONDS = 60.0


class Lease:
    """The lease of this process, a memory of ``scope`` that is no longer needed after ``kept``. Thread-safe."""

    def __init__(self, store: Store, scope: Scope, *, kept: timedelta, seconds: float = SECONDS) -> None:
        self._store, self._scope, self._kept, self.seconds = store, scope, kept, seconds
        self._lock = threading.Lock()
        self._id: str | None = None
        self._until = now()

    def hold(self) -> str:
        """The id of a lease that holds now: the one there is, written anew if a third of it has passed, or a new one.
        Raises ``StoreUnavailable``."""
        with self._lock:
            at, whole = now(), timedelta(seconds=self.seconds)
            if self._id is None or self._until <= at:
                id = new_id()
                self._insert(id, at + whole)
                self._id, self._until = id, at + whole
            elif self._until - at <= whole * 2 / 3:
                self._renew(self._id, at + whole)
                self._until = at + whole
            return self._id

    def holds(self, id: str) -> bool:
        """Whether ``id`` is this process's and has not run out."""
        return id == self._id and now() < self._until

    def alive(self, id: str) -> bool:
        """Whether the process of a lease, here or elsewhere, is to be believed alive."""
        cube = self._store.get(_cube_id(id))
        if cube is None or cube.header.scope != self._scope:
            return False
        said = json.loads(cube.text)
        return now() < datetime.fromisoformat(said["until"]) and _lives(said["process"])

    def end(self) -> None:
        """Give it up: what is done under it is lost from here on. Raises ``StoreUnavailable``."""
        with self._lock:
            if self._id is not None and now() < self._until:
                self._renew(self._id, now())
            self._id = None

    def _insert(self, id: str, until: datetime) -> None:
        header = Header(kind="text", id=_cube_id(id), scope=self._scope, expires=until + self._kept)
        with self._store.transaction() as tx:
            tx.insert([Write(MemCube(header, _payload(until)), actor="service", action="lease")])

    def _renew(self, id: str, until: datetime) -> None:
        with self._store.transaction() as tx:
            old = tx.newest(_cube_id(id))
            if old is None:  # forgotten by hand: nobody believes in it any more
                return
            header = replace(old.header, version=old.header.version + 1, expires=until + self._kept)
            write = Write(MemCube(header, _payload(until)), actor="service", action="lease")
            tx.revise(write, expect=old.header.version)


def _cube_id(id: str) -> str:
    return f"lease-{id}"


def _payload(until: datetime) -> TextPayload:
    pid = os.getpid()
    return TextPayload(json.dumps({"until": until.isoformat(), "process": [*_machine(), pid, _started(pid)]}))


def _lives(process: list[str | int]) -> bool:
    """False for one of this machine that has ended; of others only their leases tell."""
    *machine, pid, started = process
    return tuple(machine) != _machine() or _started(int(pid)) == started


def _machine() -> tuple[str, str, str]:
    """Where a number names the same process: a boot of a kernel, and in it a container."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return socket.gethostname(), boot, str(Path("/proc/self/ns/pid").readlink())
    except OSError:  # no Linux
        return socket.gethostname(), "", ""


def _started(pid: int) -> str:
    """When a process began, so that a number used again is not taken for it; empty if there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""
