"""Killed at any moment, the store keeps every acknowledged write and no half of another."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path


def test_sixty_kills_lose_nothing(tmp_path: Path) -> None:
    numbers = killed(str(tmp_path / "m.db"), 60)
    assert numbers["lives"] > 30, "most children got to write something"
    assert numbers["forgotten"] > 20


def test_kills_of_a_client_lose_nothing_on_a_server(postgres_url: str) -> None:
    numbers = killed(postgres_url, 12)
    assert numbers["lives"] > 6
    assert numbers["forgotten"] > 0


def killed(place: str, rounds: int) -> dict[str, int]:
    script = Path(__file__).with_name("crash_rounds.py")
    run = subprocess.run(
        [sys.executable, str(script), place, str(rounds), "11"], capture_output=True, text=True, timeout=300
    )
    assert run.returncode == 0, run.stderr
    numbers = {name: int(value) for name, value in re.findall(r"(\w+)=(\d+)", run.stdout)}
    assert numbers["kills"] == rounds
    assert "['add', 'delete', 'forget', 'update']" in run.stdout
    return numbers
