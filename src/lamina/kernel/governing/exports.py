"""The register of what left the store: every file that was written, and whose memories are in it.

A file is registered *before* it is written, so that one left by a crash is known too. Lines are only ever appended (the
last about a file wins) and hold paths and ids, no contents. Where a file was copied to is beyond any register: a file
that is no longer where it was written is reported, never assumed to be gone.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from lamina.cube import strict_json
from lamina.errors import CorruptStore, InvalidInput

_MAX_LINE = 64 << 20
Rewrite = Callable[[Path, Collection[str]], bool]  # write the file anew without these ids; False if it cannot


@dataclass(frozen=True, slots=True)
class Export:
    """A file that was written, and the ids of the memories in it, sorted."""

    file: Path
    ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Cleared:
    """Files that hold the ids no more, and those of which that could not be made true."""

    removed: tuple[Path, ...]
    unreached: tuple[Path, ...]


class ExportRegister:
    """The register at ``path``, made when missing; several processes may append to it."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    def add(self, file: str | os.PathLike[str], ids: Collection[str]) -> None:
        """``file`` is about to hold memories ``ids``. Durable on return."""
        line = strict_json.dumps({"file": str(Path(file).absolute()), "ids": sorted(ids)}) + "\n"
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.write(descriptor, line.encode())
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def exports(self) -> list[Export]:
        """What left and holds something still, oldest first. Raises ``CorruptStore``."""
        known: dict[str, tuple[str, ...]] = {}
        lines = self.path.read_text(encoding="utf-8").split("\n") if self.path.exists() else [""]
        for number, line in enumerate(lines[:-1], 1):  # what follows the last line end was cut off by a crash
            try:
                value = strict_json.loads(line, max_bytes=_MAX_LINE)
                known[value["file"]] = tuple(value["ids"])
            except (InvalidInput, KeyError, TypeError) as error:
                raise CorruptStore(f"{self.path}: line {number} cannot be read: {error}") from error
        return [Export(Path(file), ids) for file, ids in known.items() if ids]

    def holding(self, ids: Collection[str]) -> list[Export]:
        """Exports with any of ``ids`` in them."""
        wanted = set(ids)
        return [export for export in self.exports() if wanted & set(export.ids)]

    def clear(self, ids: Collection[str], rewrite: Rewrite | None = None) -> Cleared:
        """Take ``ids`` out of every file: by ``rewrite`` if it can, else the whole file goes.

        A file that is not there any more, or cannot be removed, stays in the register and is told.
        """
        removed, unreached = [], []
        for export in self.holding(ids):
            try:
                if not export.file.exists():
                    unreached.append(export.file)
                    continue
                left = sorted(set(export.ids) - set(ids))
                if not (left and rewrite is not None and rewrite(export.file, ids)):
                    export.file.unlink()
                    left = []
                self.add(export.file, left)
                removed.append(export.file)
            except OSError:
                unreached.append(export.file)
        return Cleared(tuple(removed), tuple(unreached))


def beside(store_path: Path) -> ExportRegister:
    """The register of the store at ``store_path``."""
    return ExportRegister(store_path.with_name(f"{store_path.name}.exports"))
