"""The PostgreSQL store keeps the contracts of all stores, on a real server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from contracts.edges import EdgeContract
from contracts.store import Opener, StoreContract
from lamina.store.postgres import PostgresStore


class TestPostgres(StoreContract):
    @pytest.fixture
    def open_store(self, postgres_url: str) -> Opener:
        return lambda: PostgresStore(postgres_url, embedder="unit")


class TestPostgresEdges(EdgeContract):
    @pytest.fixture
    def store(self, postgres_url: str) -> Iterator[PostgresStore]:
        with PostgresStore(postgres_url, embedder="unit") as store:
            yield store
            assert store.verify() == []
