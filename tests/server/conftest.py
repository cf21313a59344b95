"""The operator's service, without keys."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from live_server import serving

from lamina import Memory
from lamina.server.app import create_app
from lamina.server.service import Service


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with Memory(Path(tmp_path_factory.mktemp("server")) / "m.db") as memory:
        yield Service(memory)


@pytest.fixture(scope="module")
def client(service: Service) -> Iterator[httpx.Client]:
    """The operator's client: no keys yet."""
    with serving(create_app(service)) as url, httpx.Client(base_url=url, timeout=60) as client:
        yield client
