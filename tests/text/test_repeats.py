"""A call that is repeated under its idempotency key writes once: in one process, in many, and after a crash."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lamina import Memory
from lamina.errors import Conflict, InvalidInput

pytestmark = pytest.mark.model

SAID: dict[str, Any] = {"messages": "I moved to Lyon and I have a dog named Rex.", "user_id": "ada"}


def _everything(memory: Memory) -> list[str]:
    return sorted(row["id"] for row in memory.get_all(filters={"user_id": "ada"}, top_k=1000)["results"])


def test_the_second_call_answers_what_the_first_wrote(memory: Memory) -> None:
    first = memory.add(**SAID, idempotency_key="r1")
    there = _everything(memory)
    second = memory.add(**SAID, idempotency_key="r1")
    assert _everything(memory) == there
    assert {row["id"] for row in second["results"]} == {row["id"] for row in first["results"]}
    assert len(first["results"]) > 1  # facts too
    memory.add(**SAID, idempotency_key="r2")
    memory.add(**SAID)
    assert len(memory.search("Lyon", filters={"user_id": "ada"})["results"]) > 0
    assert len(_everything(memory)) > len(there)


def test_a_key_belongs_to_its_owner_and_its_words(memory: Memory) -> None:
    memory.add(**SAID, idempotency_key="r1")
    other = memory.add(SAID["messages"], user_id="bob", idempotency_key="r1")
    assert all(row["event"] == "ADD" for row in other["results"])
    for words in ("I moved to Paris.", [{"role": "user", "content": SAID["messages"]}] * 2):
        with pytest.raises(Conflict, match="idempotency_key"):
            memory.add(words, user_id="ada", idempotency_key="r1")
    with pytest.raises(InvalidInput, match="idempotency_key"):
        memory.add("Hello there.", user_id="ada", idempotency_key="")


def test_a_batch_writes_what_is_new_in_it(memory: Memory) -> None:
    items = [{"messages": f"Note number {n}.", "user_id": "ada", "idempotency_key": f"k{n}"} for n in range(4)]
    memory.add_batch(items[1:3], infer=False)
    rows = memory.add_batch(items, infer=False)
    assert [row["results"][0]["memory"] for row in rows] == [item["messages"] for item in items]
    assert len(_everything(memory)) == 4


def test_threads_with_one_key_write_once(memory: Memory) -> None:
    with ThreadPoolExecutor(8) as pool:
        rows = list(pool.map(lambda _: memory.add(**SAID, idempotency_key="r1"), range(8)))
    turns = {row["results"][0]["id"] for row in rows}
    assert len(turns) == 1
    assert sum(id in turns for id in _everything(memory)) == 1


@settings(max_examples=20)
@given(st.text(min_size=1, max_size=30).filter(lambda key: key.strip() and key.isprintable()))
def test_any_printable_key_will_do(key: str) -> None:
    with Memory(":memory:") as memory:
        one = memory.add("A short note.", user_id="ada", infer=False, idempotency_key=key)
        assert memory.add("A short note.", user_id="ada", infer=False, idempotency_key=key) == one


def _write_and_die(path: Path) -> None:
    memory = Memory(path)
    memory.add(**SAID, idempotency_key="r1")
    os.kill(os.getpid(), signal.SIGKILL)  # before anybody was answered


def _process(target: Callable[[Path], None], path: Path) -> int | None:
    process = multiprocessing.get_context("spawn").Process(target=target, args=(path,))
    process.start()
    process.join()
    return process.exitcode


def test_what_a_killed_process_wrote_is_not_written_again(tmp_path: Path) -> None:
    path = tmp_path / "m.db"
    assert _process(_write_and_die, path) == -signal.SIGKILL
    with Memory(path) as memory:
        there = _everything(memory)
        memory.add(**SAID, idempotency_key="r1")
        assert _everything(memory) == there
