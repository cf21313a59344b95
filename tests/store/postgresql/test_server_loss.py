"""A server that restarts in the middle of everything loses no acknowledged write and stores none twice."""

from __future__ import annotations

import threading
import time

import pytest

from contracts.postgres import PostgresServer
from contracts.store import ALICE, cube, ids, insert
from lamina.cube.cube import MemCube
from lamina.errors import InvalidInput, StoreUnavailable
from lamina.store.base import Write
from lamina.store.postgres import PostgresStore
from lamina.store.postgresql.connection import ConnectionLost
from lamina.store.postgresql.database import PgDatabase
from lamina.store.transaction import Head

THREADS = 6


class Load:
    """Threads that write and read until told to stop, trying again when the server was lost."""

    def __init__(self, store: PostgresStore) -> None:
        self.store, self.over = store, threading.Event()
        self.acknowledged: list[str] = []
        self.reads = 0
        self.failed: list[BaseException] = []
        self._threads = [threading.Thread(target=self._run, args=(n,)) for n in range(THREADS)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        for thread in self._threads:
            thread.join()

    def _run(self, number: int) -> None:
        try:
            while not self.over.is_set():
                self._write(cube(f"by {number}"))
                self.reads += len(self.store.query(ALICE, limit=1).cubes)
        except BaseException as error:  # noqa: BLE001 - reported by the test
            self.failed.append(error)

    def _write(self, one: MemCube) -> None:
        """A Conflict here would mean that a lost write had been stored after all."""
        while True:
            try:
                insert(self.store, one)
            except ConnectionLost:  # its server went away in the middle; most are spared this
                continue
            self.acknowledged.append(one.id)
            return

    def wait_for(self, count: int) -> None:
        target = len(self.acknowledged) + count
        while len(self.acknowledged) < target and not self.failed:
            time.sleep(0.01)


def test_a_restart_during_load(postgres: PostgresServer, postgres_url: str) -> None:
    with PostgresStore(postgres_url) as store:
        with Load(store) as load:
            for _ in range(2):
                load.wait_for(60)
                postgres.control("restart", "-m", "immediate")
            load.wait_for(60)
        assert load.failed == []
        assert sorted(ids(store, limit=100_000)) == sorted(load.acknowledged)
        assert len(load.acknowledged) >= 180 and load.reads > 100
        assert store.verify() == []


def test_a_transaction_whose_server_goes_away_wrote_nothing(postgres: PostgresServer, postgres_url: str) -> None:
    one = cube()
    with PostgresStore(postgres_url) as store:
        with pytest.raises(ConnectionLost, match="try again"), store.transaction() as tx:
            tx.insert([Write(one)])
            postgres.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'test1'")
        assert store.get(one.id) is None
        insert(store, one)
        assert store.get(one.id) == one


@pytest.mark.parametrize("stored", [True, False])
def test_a_commit_without_an_answer_is_looked_up(
    postgres: PostgresServer, postgres_url: str, monkeypatch: pytest.MonkeyPatch, stored: bool
) -> None:
    """The connection is cut after the server has committed, or before."""
    commit = PgDatabase.commit

    def lost(self: PgDatabase, head: Head) -> None:
        if stored:
            commit(self, head)
        self.raw.close()
        raise ConnectionLost("no answer")

    one, two = cube("one"), cube("two")
    with PostgresStore(postgres_url) as store:
        insert(store, one)
        with monkeypatch.context() as patch:
            patch.setattr(PgDatabase, "commit", lost)
            if stored:
                insert(store, two)
            else:
                with pytest.raises(ConnectionLost):
                    insert(store, two)
        assert (store.get(two.id) is not None) == stored
        assert store.verify() == []


def test_a_server_that_is_not_there(postgres: PostgresServer) -> None:
    for url, said in (
        ("postgresql://lamina:secret@127.0.0.1:1/memories", "cannot be reached"),
        (postgres.url("nowhere"), 'database "nowhere" does not exist'),
    ):
        with pytest.raises(StoreUnavailable, match=said) as caught:
            PostgresStore(url)
        assert "secret" not in str(caught.value)
    for url in ("postgresql://u:se%cret@h/d", "postgresql://u:secret@h/d?nonsense=1", "postgresql://[::1/d"):
        with pytest.raises(InvalidInput, match="give an address") as refused:
            PostgresStore(url)
        assert "cret" not in str(refused.value)
