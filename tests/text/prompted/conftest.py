"""No test of this room uses a proxy or a real key; helpers of the room above are importable under any import mode."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent))


@pytest.fixture(autouse=True)
def _direct(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    for name in ("OPENAI_API_KEY", "LAMINA_LLM_API_KEY"):
        monkeypatch.delenv(name, raising=False)
