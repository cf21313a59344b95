"""The floors of the house: imports point down, never up, never in a circle (docs/architecture.md)."""

from __future__ import annotations

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import lamina

ROOT = Path(lamina.__file__).parent

# From the ground up. Rooms on one floor may know each other, but never in a circle.
FLOORS: list[set[str]] = [
    {"errors", "_optional", "budget", "settings", "tensors"},
    {"nn", "cube"},
    {"llm", "store", "zoo"},
    {"train", "run"},
    {"plan"},
    {"text", "activation", "parameter"},
    {"memory", "async_memory", "client"},
    {"kernel"},
    {"server", "bench", "demo", "integrations"},
    {"cli"},
]


def _modules() -> dict[str, Path]:
    names = {}
    for path in ROOT.rglob("*.py"):
        parts = path.relative_to(ROOT).with_suffix("").parts
        names[".".join(p for p in parts if p != "__init__") or "lamina"] = path
    return names


def _imports(path: Path, module: str) -> set[str]:
    """Modules of this package that ``path`` imports anywhere, also inside functions."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("lamina"):
            base = node.module.removeprefix("lamina").lstrip(".")
            found |= {f"{base}.{alias.name}".lstrip(".") for alias in node.names} | ({base} if base else set())
        elif isinstance(node, ast.Import):
            found |= {a.name.removeprefix("lamina.") for a in node.names if a.name.startswith("lamina.")}
    return found - {module}


def _floor(module: str) -> int:
    room = module.split(".")[0]
    for height, rooms in enumerate(FLOORS):
        if room in rooms:
            return height
    raise AssertionError(f"src/lamina/{room} stands on no floor: add it to FLOORS, or move it into a room")


@pytest.fixture(scope="module")
def graph() -> dict[str, set[str]]:
    modules = _modules()
    return {
        name: {i for i in _imports(path, name) if i in modules}
        for name, path in modules.items()
        if name != "lamina"  # the front page re-exports lazily
    }


def test_imports_point_down(graph: dict[str, set[str]]) -> None:
    upward = [
        f"{module} imports {other}"
        for module, others in graph.items()
        for other in others
        if _floor(other) > _floor(module)
    ]
    assert not upward, upward


def test_rooms_form_no_circle(graph: dict[str, set[str]]) -> None:
    rooms: dict[str, set[str]] = {}
    for module, others in graph.items():
        room = module.split(".")[0]
        rooms.setdefault(room, set()).update(o.split(".")[0] for o in others)
    for room, others in rooms.items():
        others.discard(room)
    try:
        list(TopologicalSorter(rooms).static_order())
    except CycleError as error:
        pytest.fail(f"rooms import each other in a circle: {' -> '.join(error.args[1])}")


def test_modules_form_no_circle(graph: dict[str, set[str]]) -> None:
    # A package's __init__ gathers its files, so it is left out: only real files count.
    packages = {m for m, path in _modules().items() if path.name == "__init__.py"}
    files = {m: {o for o in others if o not in packages} for m, others in graph.items() if m not in packages}
    try:
        list(TopologicalSorter(files).static_order())
    except CycleError as error:
        pytest.fail(f"modules import each other in a circle: {' -> '.join(error.args[1])}")


def test_a_circle_and_an_upward_import_would_be_found() -> None:
    assert _floor("cli.add") > _floor("memory") > _floor("text.base") > _floor("store.base") > _floor("cube.cube")
    with pytest.raises(CycleError):
        list(TopologicalSorter({"a": {"b"}, "b": {"a"}}).static_order())
    with pytest.raises(AssertionError, match="stands on no floor"):
        _floor("attic.thing")


def test_no_broad_except() -> None:
    """Swallowing every error hides the one that matters; ruff's BLE rule covers bare handlers, this aliases."""
    broad = []
    for name, path in _modules().items():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ExceptHandler) and (
                node.type is None
                or (isinstance(node.type, ast.Name) and node.type.id in {"Exception", "BaseException"})
            ):
                reraises = any(isinstance(inner, ast.Raise) and inner.exc is None for inner in ast.walk(node))
                if not reraises:
                    broad.append(f"{name}:{node.lineno}")
    assert not broad, broad
