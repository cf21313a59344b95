"""Deaths under load, again and again: a part of ``make soak``, not collected by pytest.

Run as ``PYTHONPATH=tests:tests/server python tests/soak/fault_rounds.py [SECONDS]`` (default 180).

Half of the time workers over a file die by SIGKILL, one of two or both at once; the other half PostgreSQL under them,
stopped at once or by SIGKILL, and workers in turn. Six clients write and search meanwhile and repeat a request under
its idempotency key until it is answered. Afterwards everything is asked for. Kept as ``results/faults.json``; fails if
a claim does not hold.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
from fault_load import FaultLoad, kill, lost_and_doubled

from contracts.postgres import PostgresServer
from lamina.bench import results
from lamina.bench.card import Claim
from lamina.bench.load.services import Service, lamina
from lamina.bench.machine import machine

LOST = Claim(
    "Deaths of workers and of PostgreSQL under load: no acknowledged write is lost", "lost", "", 0.0, "less", "ours"
)
TWICE = Claim("A request that is repeated under its key is written once", "memories too many", "", 0.0, "less", "ours")
RECOVERED = Claim("Service goes on after every death without a person", "requests given up", "", 0.0, "less", "ours")


def workers_die(service: Service, rng: random.Random) -> str:
    victims = service.workers()
    victims = victims if rng.random() < 0.3 else victims[:1]
    for victim in victims:
        os.kill(victim.pid, signal.SIGKILL)
    return "worker killed" if len(victims) == 1 else "both workers killed"


def rounds(
    served: AbstractContextManager[Service], seconds: float, fault: Callable[[Service], str]
) -> tuple[FaultLoad, int, int, Counter[str]]:
    """The load, what was lost and doubled, and which deaths there were."""
    deaths: Counter[str] = Counter()
    with served as service, httpx.Client(base_url=service.url, timeout=60, trust_env=False) as client:
        end = time.monotonic() + seconds
        with FaultLoad(service.url) as load:
            load.wait_for(30)
            while time.monotonic() < end and not load.failed:
                deaths[fault(service)] += 1
                load.wait_for(30)
        return load, *lost_and_doubled(load, client), deaths


def main(seconds: float) -> int:
    begin, rng = time.monotonic(), random.Random(0)
    systems: dict[str, tuple[FaultLoad, int, int, Counter[str]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        systems["SQLite"] = rounds(lamina(Path(folder), workers=2), seconds / 2, lambda one: workers_die(one, rng))
    postgres = PostgresServer()

    def dies(service: Service) -> str:
        kind = rng.choice(["stopped at once", "killed", "worker"])
        if kind == "worker":
            return workers_die(service, rng)
        if kind == "killed":
            kill(postgres)
        postgres.control("restart", "-m", "immediate")
        return f"PostgreSQL {kind}"

    try:
        with tempfile.TemporaryDirectory() as folder:
            url = postgres.empty_store()
            systems["PostgreSQL"] = rounds(lamina(Path(folder), workers=2, url=url), seconds / 2, dies)
    finally:
        postgres.stop()
    document = written(systems) | {"seconds": round(time.monotonic() - begin, 1)}
    for claim in document["claims"]:
        sys.stdout.write(f"{'holds' if claim['holds'] else 'FAILS'}: {claim['claim']} ({claim['ours']:g})\n")
    for note in document["notes"]:
        sys.stdout.write(f"{note}\n")
    results.write("faults", document, results.results_folder(Path(__file__).parent))
    return 0 if results.holds(document) else 1


def written(systems: dict[str, tuple[FaultLoad, int, int, Counter[str]]]) -> dict[str, Any]:
    measured = (
        LOST.measured(sum(lost for _, lost, _, _ in systems.values())),
        TWICE.measured(sum(twice for _, _, twice, _ in systems.values())),
        RECOVERED.measured(sum(len(load.failed) for load, _, _, _ in systems.values())),
    )
    notes = [
        f"{name}, 2 workers: {', '.join(f'{count} x {what}' for what, count in sorted(deaths.items()))}; "
        f"{len(load.acknowledged):,} writes acknowledged, {load.reads:,} searches answered; met on the way: "
        f"{', '.join(f'{count} x {what}' for what, count in sorted(load.refused.items())) or 'nothing'}."
        for name, (load, _, _, deaths) in systems.items()
    ]
    claims = [one.to_dict() for one in measured]
    return {"bench": "faults", "claims": claims, "notes": notes, "date": datetime.now(UTC).date().isoformat()} | {
        "machine": machine()
    }


if __name__ == "__main__":
    raise SystemExit(main(float(sys.argv[1]) if len(sys.argv) > 1 else 180.0))
