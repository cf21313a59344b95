"""The SQLite store keeps the contract of all stores."""

from __future__ import annotations

from pathlib import Path

import pytest

from contracts.store import Opener, StoreContract
from lamina.store.sqlite import SqliteStore


class TestSqlite(StoreContract):
    @pytest.fixture
    def open_store(self, tmp_path: Path) -> Opener:
        return lambda: SqliteStore(tmp_path / "memory.db", embedder="unit")
