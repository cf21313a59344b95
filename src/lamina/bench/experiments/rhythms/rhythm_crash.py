"""Kills an ingesting process at random events and compares what is left with a life without deaths.

Run as ``python -m lamina.bench.experiments.rhythms.rhythm_crash FOLDER SEED EVENTS KILLS``; prints JSON. A process of
its own, because it forks: each life is a child that kills itself (SIGKILL, no clean-up) at its event: between events,
or between two slices of a cascade, in the middle of its transaction. The next life opens the store and repeats events
from where the clock stands. The digest covers every version of every cube: id, version, header and hash of the payload.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
from itertools import islice
from pathlib import Path
from typing import Any

from lamina.bench.experiments.rhythms.rhythm_experiments import open_tiers
from lamina.bench.experiments.rhythms.rhythm_stream import SCOPE, stream
from lamina.cube.codec import Codec
from lamina.cube.cube import Header
from lamina.store.sqlite import SqliteStore

_header = Codec(Header)


def crash(folder: Path, seed: int, events: int, kills: int) -> dict[str, Any]:
    """``{"killed": deaths, "mid_cascade": those inside a transaction, "equal": 1 if the final digest is right}``."""
    command = [
        sys.executable,
        "-m",
        "lamina.bench.experiments.rhythms.rhythm_crash",
        str(folder),
        str(seed),
        str(events),
        str(kills),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"the crash run failed:\n{done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def digest(path: Path) -> str:
    """Over every version in the store, sorted."""
    with SqliteStore(path) as store:
        lines = [
            json.dumps([_header.encode(cube.header), cube.sha256], sort_keys=True, default=str)
            for cube in store.query(SCOPE, closed=True, limit=10_000_000).cubes
        ]
        assert not store.verify()
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()


def live(path: Path, seed: int, events: int, death: int | None = None, slices: int = 0) -> None:
    """Take in the stream from where the store stands; die at event ``death``, ``slices`` slices into its cascade."""
    armed = False

    def between() -> None:
        nonlocal slices
        slices -= armed
        if armed and slices < 0:
            os.kill(os.getpid(), signal.SIGKILL)

    with SqliteStore(path) as store:
        _, clock = open_tiers(store, seed, between=between)
        for item in islice(stream(seed, events), clock.n, None):
            armed = death == clock.n + 1
            clock.observe(item, clock.n + 1)
            if armed:
                os.kill(os.getpid(), signal.SIGKILL)


def main(folder: Path, seed: int, events: int, kills: int) -> dict[str, int]:
    """One store that dies ``kills`` times, against one that never does; digests are compared at the end of each run."""
    rng = random.Random(seed)
    calm, mortal = folder / "calm.db", folder / "mortal.db"
    live(calm, seed, events)
    deaths = sorted(rng.sample(range(1, events), kills))
    killed = inside = 0
    for number, death in enumerate(deaths):
        if number % 2:  # every second one in the middle of the next cascade
            death = min(-(-death // 8) * 8, events // 8 * 8)
        slices = rng.randrange(1, 12) if number % 2 else 0
        pid = os.fork()
        if pid == 0:
            live(mortal, seed, events, death, slices)
            os._exit(0)
        _, status = os.waitpid(pid, 0)
        killed += os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        inside += bool(number % 2)
    live(mortal, seed, events)
    return {"killed": killed, "mid_cascade": inside, "equal": int(digest(calm) == digest(mortal))}


if __name__ == "__main__":
    answer = main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
    sys.stdout.write(json.dumps(answer) + "\n")
