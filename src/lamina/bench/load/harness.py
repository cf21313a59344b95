"""``lamina bench load``: two workers, 32 clients at once, real processes; beside mem0 behind the same paths.

What is asked, by whom and how it is checked: ``clients`` and ``readback``. The longest part shows whether a service
stands: no call fails, no acknowledged write is lost, changed or doubled, memory does not run away. The others compare,
one service after another, since each needs the whole machine: the same clients, mix, texts, number of memories to begin
with, seconds of warming, and the same encoder with one thread a worker. mem0 runs with ``infer=False`` (it has nothing
to infer with), so all store messages as they are; it runs over embedded Qdrant, which only one process can open, and
over pgvector, its own server's choice, on a PostgreSQL server started for each part anew, in turn with ours.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lamina._optional import require
from lamina.bench import mem0_peer
from lamina.bench.card import Claim, Measurement, Scale
from lamina.bench.load import database
from lamina.bench.load.clients import MIX, Load
from lamina.bench.load.services import STARTERS, Watch, warm

_ABOUT_LOAD = (
    "{plan.clients} clients ask again as soon as they are answered: {mix}; {plan.users} users by Zipf's law; "
    "{plan.filled:,} memories are there to begin with (and every worker has its encoder), then {plan.warm:g} s of the "
    "mix pass unmeasured. Clients are one process on the same machine (client_cpu_cores), which takes its time from "
    "the service."
)
_ABOUT_CHECKING = (
    "Afterwards every acknowledged memory is asked for by its id and in its user's list, and its words compared: lost, "
    "changed, duplicates. worker_mib is resident memory, the mean of the workers; disk_mib is after the end."
)
_ABOUT_WORKERS = (
    "Workers have one compute thread each and the packaged encoder; all store messages as they are (infer=False)."
)
_ABOUT_PEER = (
    "mem0 stands behind the smallest FastAPI application on the same paths, without keys. One process alone can open "
    "embedded Qdrant, so that part has one worker; on pgvector mem0 also matches words, as Lamina does everywhere."
)

Record = dict[str, Any]
Note = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Part:
    """One service under load. ``compared`` with the others; else it shows that the service stands."""

    system: str  # of ``STARTERS``
    store: str
    workers: int
    compared: bool = True

    @property
    def name(self) -> str:
        return f"{self.system}, {self.store}" + ("" if self.compared else ", long")


@dataclass(frozen=True, slots=True)
class Plan:
    """What a scale does: seconds of the long part and of each that compares, and the load."""

    long: float
    compared: float
    warm: float
    clients: int
    users: int
    filled: int


PLANS: dict[Scale, Plan] = {
    "smoke": Plan(2.0, 2.0, 0.5, 8, 10, 40),
    "laptop": Plan(60.0, 45.0, 5.0, 32, 200, 1_000),
    "full": Plan(600.0, 90.0, 10.0, 32, 200, 1_000),
}
PARTS = (
    Part("lamina", "SQLite", 2, compared=False),
    Part("lamina", "SQLite", 2),
    Part("mem0", "embedded Qdrant", 1),
    Part("lamina", "PostgreSQL", 2),
    Part("mem0", "pgvector", 2),
)
_ON_SERVER = ("PostgreSQL", "pgvector")


def claims(plan: Plan) -> tuple[Claim, ...]:
    """What is claimed, written before anything was measured."""
    stood = f"{plan.long:g} s of {plan.clients} clients"
    return (
        Claim(f"{stood}: no call fails", "failed calls", "", 0.0, "less", "ours"),
        Claim(
            f"{stood}: no acknowledged write is lost or changed", "lost or changed memories", "", 0.0, "less", "ours"
        ),
        Claim(f"{stood}: nothing is stored twice", "memories that nobody was told of", "", 0.0, "less", "ours"),
        Claim(
            f"{stood}: a worker's memory grows by at most a quarter",
            "MiB of a worker at the end / at the beginning",
            "x",
            1.25,
            "less",
            "ours",
        ),
        Claim(
            "Without a database server: at least 1.5 times the requests of mem0",
            f"requests per second of {plan.clients} clients, SQLite | embedded Qdrant",
            "1/s",
            1.5,
        ),
        Claim(
            "On PostgreSQL: at least 1.5 times the requests of mem0",
            f"requests per second of {plan.clients} clients, PostgreSQL | pgvector",
            "1/s",
            1.5,
        ),
        Claim(
            "Of 100 searches under load 99 answer in less time than with mem0",
            f"search p99 of {plan.clients} clients, SQLite | embedded Qdrant",
            "ms",
            1.0,
            "less",
        ),
    )


def run(seed: int, scale: Scale, note: Note) -> tuple[list[Measurement], dict[str, Record], list[str]]:
    """Measurements of the claims, one record per part, and what a reader must know.

    Raises ``MissingDependency`` without httpx, psutil or the server's packages, ``RuntimeError`` for a service that
    does not start.
    """
    for package in ("httpx", "psutil", "fastapi", "uvicorn", "mcp"):
        require(package, "lamina bench load")
    plan = PLANS[scale]
    records = {part.name: measured(part, plan, seed, note) for part in PARTS if _possible(part)}
    return _measurements(plan, records), records, _notes(plan)


_LOGGED = 4000  # letters of a service's log that a failure is told with


def measured(part: Part, plan: Plan, seed: int, note: Note) -> Record:
    """One part: start the service, load it, read everything back, stop it."""
    seconds = plan.compared if part.compared else plan.long
    note(f"{part.name}: {part.workers} worker{'s' * (part.workers > 1)}, {seconds:g} s")
    with tempfile.TemporaryDirectory(prefix="lamina-load-") as folder, _store(part) as (server, url):
        home = Path(folder)
        with STARTERS[part.system](home, workers=part.workers, url=url) as service:
            warm(service)
            watch = Watch(service)
            with watch.watching():
                load = Load(service.url, seed, seconds, plan.warm, plan.clients, plan.users, plan.filled)
                found = _loaded(load, seconds + plan.warm)
        if found.get("failures"):
            said = (home / "log").read_text(errors="replace")
            found["failures"] = [*found["failures"], f"the service's log ends: {said[-_LOGGED:]}"]
        (home / "log").unlink()
        disk = sum(file.stat().st_size for file in home.rglob("*") if file.is_file()) / 2**20
        disk += server.mib("load") if server else 0.0
    course = [_tenth(watch, part) for part in found.pop("course")]
    head = {"workers": part.workers, "clients": plan.clients, "measured_s": seconds}
    taken = watch.taken(found.pop("began"), found.pop("ended"))
    return head | found | taken | {"disk_mib": disk, "course": course}


@contextmanager
def _store(part: Part) -> Iterator[tuple[database.Database | None, str | None]]:
    """The database server of a part, and the address of an empty database on it, where it needs one."""
    if part.store not in _ON_SERVER:
        yield None, None
        return
    with database.running() as server:
        yield server, server.new("load")


def _loaded(load: Load, seconds: float) -> Record:
    """What the clients found; in a process of their own, which ends by itself."""
    command = [sys.executable, "-m", "lamina.bench.load.clients"]
    given = json.dumps(asdict(load))
    # Filling and reading back take as long as the service makes them; a service that hangs must not be waited for.
    done = subprocess.run(command, input=given, capture_output=True, text=True, check=False, timeout=2 * seconds + 300)
    if done.returncode:
        raise RuntimeError(f"the clients failed:\n{done.stderr[-2000:]}")
    found: Record = json.loads(done.stdout.splitlines()[-1])
    return found


def _tenth(watch: Watch, part: Record) -> Record:
    """A tenth of a run, with what a worker held at its end."""
    held = watch.taken(part.pop("from"), part.pop("to"))
    return part | ({"worker_mib": held["worker_mib_end"]} if held else {})


def _possible(part: Part) -> bool:
    peer = part.system != "mem0" or mem0_peer.installed()
    return peer and (part.store not in _ON_SERVER or database.installed())


# -- from records to claims ----------------------------------------------------------------------


def _measurements(plan: Plan, records: dict[str, Record]) -> list[Measurement]:
    """Each claim with both values; a part that did not run leaves its claims unmeasured."""

    def value(name: str, key: str) -> float | None:
        return records.get(name, {}).get(key)

    def sum_of(*keys: str) -> float | None:
        long = records.get("lamina, SQLite, long")
        return None if long is None else float(sum(long[key] for key in keys))

    failed, lost, twice, grown, rate, rate_server, tail = claims(plan)
    peer = mem0_peer.name() if mem0_peer.installed() else ""
    begin, end = (value("lamina, SQLite, long", f"worker_mib_{moment}") for moment in ("begin", "end"))
    ours, theirs = "lamina, SQLite", "mem0, embedded Qdrant"
    return [
        failed.measured(sum_of("errors")),
        lost.measured(sum_of("lost", "changed")),
        twice.measured(sum_of("duplicates")),
        grown.measured(end / begin if begin and end else None),
        rate.measured(value(ours, "requests_per_s"), value(theirs, "requests_per_s"), peer),
        rate_server.measured(
            value("lamina, PostgreSQL", "requests_per_s"),
            value("mem0, pgvector", "requests_per_s"),
            peer and f"{peer.partition(' + ')[0]} + pgvector",
        ),
        tail.measured(value(ours, "search_p99_ms"), value(theirs, "search_p99_ms"), peer),
    ]


def _notes(plan: Plan) -> list[str]:
    mix = ", ".join(f"{share:.0%} {verb}" for verb, share in MIX.items())
    notes = [_ABOUT_LOAD.format(plan=plan, mix=mix), _ABOUT_CHECKING, _ABOUT_WORKERS]
    if mem0_peer.installed():
        notes.append(_ABOUT_PEER)
    else:
        notes.append(mem0_peer.MISSING)
    return notes if database.installed() else [*notes, database.MISSING]
