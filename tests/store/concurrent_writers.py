"""One of several processes that write to the same store with many threads. Run by test_concurrency.py.

Usage: concurrent_writers.py PLACE NAME THREADS STEPS. PLACE is a file or postgresql://...; prints nothing; exits with 1
when any write fails.
"""

from __future__ import annotations

import sys
import threading
from dataclasses import replace

from lamina.cube.cube import Header, MemCube, Scope, now
from lamina.cube.payload import TextPayload
from lamina.errors import Conflict
from lamina.store.base import Store, Write
from lamina.store.opening import open_store

COUNTER = "counter"
MINE = Scope(user="mine")


def work(store: Store, name: str, steps: int) -> None:
    for step in range(steps):
        kept, revised, closed, dropped = (
            MemCube(Header(id=f"{name}-{step}-{fate}", scope=MINE), TextPayload(f"{fate} by {name}"))
            for fate in ("kept", "revised", "closed", "dropped")
        )
        with store.transaction() as tx:
            tx.insert([Write(kept), Write(revised), Write(closed), Write(dropped)])
            tx.revise(Write(replace(revised, header=replace(revised.header, version=2))), expect=1)
            tx.close(closed.id, at=now())
        if step % 5 == 0:
            with store.transaction() as tx:
                assert tx.forget([dropped.id]) == [dropped.id]
        increment(store)
        assert store.get(kept.id) == kept
        assert len(store.query(MINE, {"id": {"contains": f"{name}-{step}-"}}).cubes) >= 2


def increment(store: Store) -> None:
    while True:
        old = store.get(COUNTER)
        assert old is not None
        header = replace(old.header, version=old.header.version + 1, recorded=now())
        try:
            with store.transaction() as tx:
                text = str(int(old.text) + 1)
                tx.revise(Write(MemCube(header, TextPayload(text))), expect=old.header.version)
                return
        except Conflict:
            continue


def main() -> None:
    path, name, threads, steps = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    failed: list[BaseException] = []

    def run(number: int) -> None:
        try:
            work(store, f"{name}{number}", steps)
        except BaseException as error:
            failed.append(error)
            raise

    with open_store(path) as store:
        running = [threading.Thread(target=run, args=(number,)) for number in range(threads)]
        for thread in running:
            thread.start()
        for thread in running:
            thread.join()
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
