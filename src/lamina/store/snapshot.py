"""A scope's index on disk, so that opening a large memory does not read it all again.

``PATH-index/HASH/`` beside the database holds arrays as ``.npy`` (memory-mapped, never pickled), the vector
graph, the vocabulary, and ``meta.json`` with the change number it stands for, the database it belongs to,
and the size and a checksum of every file. It is a cache: one that is missing, torn, altered, of another
version or another database is ignored and replaced, silently.

A snapshot must not outlive a forgotten memory, whoever forgets it: it is written from an index without
graves, and taken back if the store changed while it was written (the forgetting process deletes the
folder after its commit, so one of both always sees the other).
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
import zlib
from pathlib import Path
from typing import Any, Protocol

from lamina.cube.cube import Scope
from lamina.store.base import Store
from lamina.store.lexical import LexicalIndex
from lamina.store.neighbours import Neighbours
from lamina.store.table import Table
from lamina.store.vectors import VectorIndex


class Parts(Protocol):
    """What a snapshot holds of a ``ScopeIndex``."""

    change: int
    table: Table
    vectors: VectorIndex
    words: LexicalIndex
    neighbours: Neighbours

    def __len__(self) -> int: ...


_FORMAT = 1
_BLOCK = 1 << 20  # bytes read at a time


def folder(store: Store, scope: Scope) -> Path | None:
    """Where the snapshot of ``scope`` lives; ``None`` for a store that is no file."""
    base = _base(store)
    name = hashlib.blake2b(repr((scope.tenant, scope.user, scope.agent, scope.run)).encode(), digest_size=16)
    return base / name.hexdigest() if base else None


def save(index: Parts, store: Store, target: Path) -> bool:
    """Write ``index`` (hold its lock), replacing what is there; False if it could not, or must not, be kept."""
    try:
        target.parent.mkdir(exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix="new-", dir=target.parent))
    except OSError:
        return False
    try:
        for part in (index.table, index.vectors, index.words, index.neighbours):
            part.save(work)
        meta = {
            "format": _FORMAT,
            "change": index.change,
            "rows": len(index),
            "store": _identity(store, 1),
            "log": [logged := store.stats()["events"], _identity(store, logged)],
            "speakers": list(index.table.speakers),
            "sessions": list(index.table.sessions),
            "files": {path.name: _checksum(path) for path in sorted(work.iterdir())},
        }
        (work / "meta.json").write_text(json.dumps(meta), encoding="utf-8")
        remove(target)
        work.rename(target)
    except OSError:  # disk full, or another process was faster: the memories are safe elsewhere
        shutil.rmtree(work, ignore_errors=True)
        return False
    if store.last_change() != index.change:
        remove(target)
        return False
    return True


def load(index: Parts, store: Store, source: Path) -> bool:
    """Fill an empty index from a snapshot (``sync`` must follow); False, and nothing changed, if it is not usable."""
    try:
        meta = json.loads((source / "meta.json").read_text(encoding="utf-8"))
        if (meta["format"], meta["store"]) != (_FORMAT, _identity(store, 1)) or meta["change"] > store.last_change():
            return False
        seq, last = meta["log"]
        if _identity(store, seq) != last:  # an older copy of the database, which went another way since
            return False
        if {path.name: _checksum(path) for path in source.iterdir() if path.name != "meta.json"} != meta["files"]:
            return False
        table = Table.load(source, meta["speakers"], meta["sessions"])
        parts = VectorIndex.load(source), LexicalIndex.load(source), Neighbours.load(source)
        if {len(table), *(len(part) for part in parts)} != {meta["rows"]}:
            return False
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError):
        return False
    index.table, index.change = table, meta["change"]
    index.vectors, index.words, index.neighbours = parts
    return True


def remove(target: Path) -> None:
    shutil.rmtree(target, ignore_errors=True)


def remove_all(store: Store) -> None:
    """Delete every snapshot of a store."""
    if base := _base(store):
        shutil.rmtree(base, ignore_errors=True)


def index_folder(database: Path) -> Path:
    """Where the snapshots of all scopes of a database live."""
    return database.with_name(f"{database.name}-index")


def _base(store: Store) -> Path | None:
    path = getattr(store, "path", None)
    return index_folder(path) if isinstance(path, Path) else None


def _identity(store: Store, seq: int) -> str:
    """The hash of an event, which covers all before it: the first tells databases apart, the last their copies."""
    event: Any = next(iter(store.events(since=seq - 1, limit=1)), None)
    return "" if event is None else str(event.hash)


def _checksum(path: Path) -> list[int]:
    """Size and CRC-32: against torn writes and bad disks, not against malice."""
    value = size = 0
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            value, size = zlib.crc32(block, value), size + len(block)
    return [size, value]
