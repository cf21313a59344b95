"""``import lamina`` is cheap for everybody: no torch, no heavy package, whatever is installed.

What is asserted is *which* modules load, not seconds: a list can be trusted on any machine.
"""

from __future__ import annotations

import subprocess
import sys

HEAVY = {"torch", "transformers", "tokenizers", "openai", "usearch", "dateparser", "sklearn", "scipy", "matplotlib"}


def _loaded_after(code: str) -> set[str]:
    program = f"{code}\nimport sys; print('\\n'.join(m for m in sys.modules if '.' not in m))"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(run.stdout.split())


def test_import_lamina_loads_nothing_heavy() -> None:
    loaded = _loaded_after("import lamina")
    assert not loaded & (HEAVY | {"numpy", "pydantic", "typer"})


def test_the_front_door_loads_no_torch() -> None:
    loaded = _loaded_after("from lamina import Memory, MemCube, AsyncMemory")
    assert not loaded & {"torch", "transformers", "tokenizers", "openai"}


def test_opening_a_memory_loads_no_torch(tmp_path: object) -> None:
    loaded = _loaded_after(f"from lamina import Memory; Memory({str(tmp_path)!r} + '/m.db').close()")
    assert not loaded & {"torch", "transformers"}


def test_the_command_line_starts_without_the_rooms() -> None:
    assert not _loaded_after("import lamina.cli") & (HEAVY | {"numpy"})


def test_every_public_name_resolves() -> None:
    _loaded_after("import lamina\nfor name in lamina.__all__: getattr(lamina, name)")
