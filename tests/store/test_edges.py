"""The SQLite store keeps the contract of edges, and no byte of a forgotten one stays in its files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from contracts.edges import EdgeContract, connect, edge, entities, people
from lamina.store.sqlite import SqliteStore


class TestSqliteEdges(EdgeContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[SqliteStore]:
        with SqliteStore(tmp_path / "memory.db", embedder="unit") as store:
            yield store


def test_forgetting_leaves_no_byte_of_an_edge(tmp_path: Path) -> None:
    path = tmp_path / "memory.db"
    with SqliteStore(path, embedder="unit") as store:
        alice, place = entities(store, "Alice", "Qanarytown")
        (said,) = people(store, 1)
        connect(store, edge(alice, place, "zanarylives", evidence=said.id, reason="xanaryreason"))
        with store.transaction() as tx:
            tx.forget([said.id])
    for file in tmp_path.iterdir():
        if file.is_file():
            content = file.read_bytes().lower()
            assert not any(word in content for word in (b"qanarytown", b"zanarylives", b"xanaryreason"))
