"""A memory of this process, and the same behind HTTP."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hashing import HashEmbedder

from lamina import Memory
from lamina.client import Client
from lamina.server.app import create_app
from lamina.server.service import Service
from server.live_server import serving


@pytest.fixture(scope="module")
def hashed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Memory]:
    with Memory(tmp_path_factory.mktemp("hashed") / "m.db", embedder=HashEmbedder()) as memory:
        yield memory


@pytest.fixture(scope="module")
def remote(hashed: Memory) -> Iterator[Client]:
    with serving(create_app(Service(hashed))) as url, Client(url) as client:
        yield client
