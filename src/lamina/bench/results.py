"""Result files: one ``results/NAME.json`` a proof, written whole or not at all.

In a checkout of the project they live in its ``results`` folder and the report in ``docs/results.md``;
anywhere else both are in ``./results``.
"""

from __future__ import annotations

import json
import os
import tempfile
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lamina.errors import InvalidInput, StoreUnavailable

Document = dict[str, Any]


def checkout(start: Path | None = None) -> Path | None:
    """The nearest folder from ``start`` (default: the working directory) upward that holds this project."""
    here = (start or Path.cwd()).resolve()
    for folder in (here, *here.parents):
        project = folder / "pyproject.toml"
        if project.is_file() and _project_name(project) == "lamina":
            return folder
    return None


def results_folder(start: Path | None = None) -> Path:
    """Where result files are: ``results`` of the checkout, else of the working directory."""
    return (checkout(start) or start or Path.cwd()) / "results"


def report_file(start: Path | None = None) -> Path:
    """Where the report on all results is written."""
    root = checkout(start)
    return root / "docs" / "results.md" if root else results_folder(start) / "results.md"


def read(name: str, folder: Path) -> Document | None:
    """A stored result, ``None`` if there is none. Raises ``InvalidInput`` for a file that is no result."""
    file = folder / f"{name}.json"
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise InvalidInput(
            f"{file.name} is not JSON ({error}): delete it and run lamina bench {name} --write"
        ) from error
    if not isinstance(document, dict) or not (document.get("system") or document.get("bench")):
        raise InvalidInput(f"{file.name} is no result of a proof: delete it and run lamina bench {name} --write")
    return document


def read_all(folder: Path) -> dict[str, Document]:
    """Every stored result by name, in order of name."""
    names = sorted(file.stem for file in folder.glob("*.json"))
    return {name: document for name in names if (document := read(name, folder)) is not None}


def write(name: str, document: Mapping[str, Any], folder: Path) -> Path:
    """Store a result atomically; the file it is in. Raises ``StoreUnavailable``."""
    text = json.dumps(document, ensure_ascii=False, indent=2, allow_nan=False) + "\n"
    return replace_text(folder / f"{name}.json", text)


def replace_text(file: Path, text: str) -> Path:
    """Put ``text`` into ``file`` in one step, so that no reader ever sees half of it."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        handle, part = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}-")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as stream:
                stream.write(text)
            Path(part).chmod(0o644)
            Path(part).replace(file)
        except BaseException:
            Path(part).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise StoreUnavailable(f"cannot write {file.name} ({error.strerror}): check the folder's rights") from error
    return file


def holds(document: Mapping[str, Any]) -> bool:
    """Whether every claim of a result holds; a harness without claims only has to have run."""
    return all(claim["holds"] for claim in document.get("claims", ()))


def _project_name(file: Path) -> str | None:
    try:
        name = tomllib.loads(file.read_text(encoding="utf-8")).get("project", {}).get("name")
    except (OSError, ValueError):
        return None
    return name if isinstance(name, str) else None
