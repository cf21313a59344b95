"""Kills a writing process again and again and checks after each kill what is left. Run by test_crash.py.

Usage: crash_rounds.py PLACE ROUNDS SEED. PLACE is a file or postgresql://...; a plain script, because it forks: one
import, many short lives.

The child announces each transaction before it begins ("+") and after it has returned ("="). What the
parent must find is the state after every acknowledged transaction, or after that and the one in flight:
nothing else, in particular no half of one.
"""

from __future__ import annotations

import contextlib
import os
import random
import select
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from lamina.cube.cube import Header, MemCube, Scope, now
from lamina.cube.payload import TextPayload
from lamina.store.address import is_server
from lamina.store.base import Store, Write
from lamina.store.opening import open_store

SCOPE = Scope(user="u")
State = dict[str, list[tuple[int, str, bool]]]  # id -> (version, text, open) of every version


def child(path: str, seed: int, pipe: int) -> None:
    """Write until killed."""
    rng = random.Random(seed)
    with open_store(path) as store:
        while True:
            step = choose(store, rng)
            os.write(pipe, f"+{step!r}\n".encode())
            apply(store, step)
            os.write(pipe, b"=\n")


def choose(store: Store, rng: random.Random) -> tuple[str, list[str]]:
    """A transaction: its kind and the texts or ids it is about."""
    known = [cube.id for cube in store.query(SCOPE, limit=60).cubes]
    kind = rng.choice(["insert", "insert", "revise", "close", "forget"])
    if kind == "insert" or len(known) < 5:
        return "insert", [f"{rng.getrandbits(128):032x}" for _ in range(rng.randint(1, 20))]
    return kind, rng.sample(known, rng.randint(1, 5))


def apply(store: Store, step: tuple[str, list[str]]) -> None:
    kind, about = step
    with store.transaction() as tx:
        if kind == "insert":
            tx.insert([Write(MemCube(Header(id=id, scope=SCOPE), TextPayload(text_of(id, 1)))) for id in about])
        elif kind == "revise":
            for id in about:
                old = tx.newest(id)
                assert old is not None
                version = old.header.version
                header = replace(old.header, version=version + 1, recorded=now())
                new = MemCube(header, TextPayload(text_of(id, version + 1)))
                tx.revise(Write(new, action="update"), expect=version)
        elif kind == "close":
            for id in about:
                tx.close(id, at=now())
        else:
            tx.forget(about)


def text_of(id: str, version: int) -> str:
    """32 characters that occur nowhere else (the log keeps the id), and the version."""
    return f"{id[::-1]} {version}"


def after(state: State, step: tuple[str, list[str]]) -> State:
    """The naive model of ``apply``."""
    kind, about = step
    result = {id: list(versions) for id, versions in state.items()}
    for id in about:
        if kind == "insert":
            result[id] = [(1, text_of(id, 1), True)]
        elif kind == "forget":
            del result[id]
        else:
            version, text, _ = result[id][-1]
            result[id][-1] = (version, text, False)
            if kind == "revise":
                result[id].append((version + 1, text_of(id, version + 1), True))
    return result


def stored(store: Store) -> State:
    found: State = {}
    for cube in store.query(SCOPE, closed=True, limit=100_000).cubes:
        header = cube.header
        found.setdefault(cube.id, []).append((header.version, cube.text, header.superseded is None))
    return {id: sorted(versions) for id, versions in found.items()}


def round(path: str, state: State, forgotten: list[str], rng: random.Random) -> tuple[State, int]:
    """One life and death; the state found afterwards and the number of acknowledged transactions."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        child(path, rng.getrandbits(32), writing)
    os.close(writing)
    said = listen(reading, rng.randint(0, 10))
    time.sleep(rng.uniform(0, 0.02))
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    lines = drain(reading, said)
    acknowledged, flying = 0, None
    for line in lines:
        if line.startswith("+"):
            flying = eval(line[1:])  # written by our own child
        else:
            state = after(state, flying)
            forgotten += flying[1] if flying[0] == "forget" else []
            acknowledged, flying = acknowledged + 1, None
    check_bytes(path, forgotten)
    with open_store(path) as store:
        found = stored(store)
        if found != state:
            assert flying is not None and found == after(state, flying), f"neither before nor after {flying}"
            forgotten += flying[1] if flying[0] == "forget" else []
        assert store.verify() == [], store.verify()
    check_bytes(path, forgotten)
    return found, acknowledged


def listen(reading: int, acknowledgements: int) -> bytes:
    """What the child says until it has finished that many transactions, however slow the machine is."""
    data = b""
    while data.count(b"=\n") < acknowledgements:
        chunk = os.read(reading, 65536)
        assert chunk, "the child ended by itself"
        data += chunk
    return data


def drain(reading: int, data: bytes) -> list[str]:
    while select.select([reading], [], [], 0)[0] and (chunk := os.read(reading, 65536)):
        data += chunk
    os.close(reading)
    return data.decode().splitlines()


def check_bytes(path: str, forgotten: list[str]) -> None:
    """No file beside the database holds a forgotten text, nor its word in the full-text index."""
    for file in Path(path).parent.iterdir() if not is_server(path) else ():
        data = file.read_bytes()
        for id in forgotten:
            assert id[::-1].encode() not in data, f"{file.name} holds the forgotten {id}"


def main() -> None:
    path, rounds, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    rng = random.Random(seed)
    state: State = {}
    forgotten: list[str] = []
    totals: list[Any] = [0, 0]
    for _ in range(rounds):
        state, acknowledged = round(path, state, forgotten, rng)
        totals[0] += acknowledged
        totals[1] += acknowledged > 0
    with contextlib.closing(open_store(path)) as store:
        actions = {event.action for event in store.events()}
    sys.stdout.write(f"kills={rounds} acknowledged={totals[0]} lives={totals[1]} forgotten={len(forgotten)}\n")
    sys.stdout.write(f"{sorted(actions)}\n")


if __name__ == "__main__":
    main()
