"""Turns at a PostgreSQL server: one process at a time, one thread at a time, and none for the dead."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from lamina import Memory, MemOS
from lamina.bench.synthetic import WordVectors
from lamina.store.postgres import PostgresStore

HOLDER = """
import sys, time
from lamina.store.postgres import PostgresStore

with PostgresStore(sys.argv[1]).turn(sys.argv[2], wait=True) as mine:
    print(mine, flush=True)
    time.sleep(600)
"""


@contextmanager
def _holder(url: str, name: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen([sys.executable, "-c", HOLDER, url, name], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None and process.stdout.readline() == "True\n"
        yield process
    finally:
        process.kill()
        process.wait()


def test_one_process_has_it_until_it_dies(postgres_url: str) -> None:
    with PostgresStore(postgres_url) as store, _holder(postgres_url, "sweep") as process:
        with store.turn("sweep", wait=False) as mine, store.turn("another", wait=False) as other:
            assert not mine and other
        process.kill()
        with store.turn("sweep", wait=True) as mine:
            assert mine


def test_threads_of_a_process_are_kept_apart_and_take_turns(postgres_url: str) -> None:
    with PostgresStore(postgres_url) as store:
        at_work: list[int] = []
        most: list[int] = []

        def work(view: PostgresStore) -> None:
            with view.turn("sweep", wait=True) as mine:
                assert mine
                at_work.append(1)
                most.append(len(at_work))
                time.sleep(0.02)
                at_work.pop()

        threads = [threading.Thread(target=work, args=(store.as_tenant(f"t{n}"),)) for n in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert most == [1] * 5


def test_a_lost_session_is_lost_and_the_next_turn_takes_a_new_one(postgres_url: str) -> None:
    with PostgresStore(postgres_url) as store:
        with store.turn("sweep", wait=False) as mine:
            assert mine and store._turns._connection is not None
            store._turns._connection.close()  # as when the server restarts
        with PostgresStore(postgres_url) as other, other.turn("sweep", wait=True) as mine:
            assert mine
        with store.turn("sweep", wait=False) as mine:
            assert mine


def test_upkeep_is_done_by_one_process_alone(postgres_url: str) -> None:
    with MemOS(Memory(postgres_url, embedder=WordVectors()), model="none") as system:
        with _holder(postgres_url, f"upkeep of {system.memory.settings.tenant}") as process:
            for n in range(70):
                system.memory.add(f"Fact {n}.", user_id="ann", infer=False)
            system.upkeep.follow()
            system.upkeep.ripple()
            assert system.upkeep.log.newest_tick() is None  # not a row was written
            process.kill()
        system.upkeep.drain()
        assert system.upkeep.log.newest_tick() is not None
