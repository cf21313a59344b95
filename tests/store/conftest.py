"""A store of either kind."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(params=["file", "server"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A new store: a file, or a database."""
    if request.param == "file":
        return str(tmp_path / "live" / "memory.db")
    url: str = request.getfixturevalue("postgres_url")
    return url
