"""Shared fixtures. Models are real and loaded once per worker; every test gets its own database."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from lamina import Memory
from lamina.llm import embedder as load_embedder
from lamina.llm.base import Embedder

if TYPE_CHECKING:
    from contracts.postgres import PostgresServer

settings.register_profile("fixed", derandomize=True, deadline=None)  # the same examples on every run
settings.load_profile("fixed")


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or writes the developer's own memories or settings."""
    monkeypatch.setenv("LAMINA_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session")
def minilm() -> Embedder:
    return load_embedder("minilm")


@pytest.fixture
def memory(tmp_path: Path, minilm: Embedder) -> Iterator[Memory]:
    with Memory(tmp_path / "memory.db", embedder=minilm) as memory:
        yield memory


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """One real server for all tests that ask for it."""
    from contracts.postgres import PostgresServer

    server = PostgresServer()
    yield server
    server.stop()


@pytest.fixture
def postgres_url(postgres: PostgresServer) -> str:
    """The address of an empty store."""
    return postgres.empty_store()
