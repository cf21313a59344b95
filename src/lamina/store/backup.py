"""Backups: a folder that appears whole or not at all, and says by itself whether it is what was written.

``FOLDER/2026-06-12T030000.417Z/`` holds ``memory.db`` (also of a PostgreSQL server: ``lamina.store.copying``), its
tensors, what stood beside it, and ``backup.json``: which store it is of and the end of its log, and size and sha256 of
every file. It is written under a hidden name, proved (``verification``), forced to the disk and renamed; what a killed
backup left is removed by the next. Beside the backups lies the journal of what was forgotten
(``lamina.store.forgotten``), which each backup brings up to date.

A store is named by the hash of the first row of its log (``"store"``; ``null`` while the log is empty: no name yet).
Several stores may be backed up into one folder: each keeps and removes its own alone, and of ``null`` nobody any.

Checksums show accidents. Whoever can write here can write checksums too: keep the end of the log (``log_head``) or the
backups where the service cannot write.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import sqlite3
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lamina.cube import strict_json
from lamina.errors import CorruptStore, InvalidInput, NotFound, StoreUnavailable
from lamina.store import copying, forgotten, verification
from lamina.store.address import is_server
from lamina.store.connection import connect, mapped
from lamina.store.log import GENESIS

FORMAT = 1
DATABASE, MANIFEST = "memory.db", "backup.json"
# Of what stands beside a file: copies that left it, subscriptions, the clock of upkeep, erasures that are under way.
BESIDE = (".exports", ".rhythm", ".subscription-*", ".forgetting-*")
_NAME = re.compile(r"\d{4}-\d\d-\d\dT\d{6}\.\d{3}Z")
_HASH = re.compile(r"[0-9a-f]{64}")
_UNFINISHED = ".unfinished-"
_MAX_MANIFEST = 256 << 20
_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class Backup:
    """A finished backup; ``store`` names whose, ``log_head`` is the end of its log, a number and a hash; ``journal``
    is what was brought up to date beside it (``None``: an empty log), ``removed`` older ones of the store went."""

    folder: Path
    store: str | None
    rows: dict[str, int]
    bytes: int
    log_head: str
    journal: Path | None = None
    removed: tuple[Path, ...] = ()


def create(source: str, folder: Path, *, keep: int | None = None) -> Backup:
    """Back the store at ``source`` (a file, or ``postgresql://...``) up into a new folder under ``folder``.

    Writers go on. ``keep``: of the store's backups in ``folder`` only so many of the newest stay; those of a store that
    was empty stay all, since whose they are cannot be told. Raises
    ``InvalidInput``, ``NotFound``, ``CorruptStore`` when the copy is not sound, ``StoreUnavailable`` (full disk,
    another backup runs).
    """
    if keep is not None and keep < 1:
        raise InvalidInput(f"keep={keep}: keep 1 backup or more")
    with _alone(folder):
        work = folder / f"{_UNFINISHED}{uuid.uuid4().hex}"
        work.mkdir(mode=0o700)
        try:
            _copy(source, work / DATABASE)
            kept = forgotten.keep(source, folder)
            done = _seal(work)
            target = folder / _name()
            work.rename(target)
            _sync(folder)
        except OSError as error:
            raise StoreUnavailable(f"{folder}: {error.strerror or error}. Check rights and free space") from error
        finally:
            shutil.rmtree(work, ignore_errors=True)
        old = [one for one in backups(folder) if _is_of(one, done["store"])][:-keep] if keep else []
        for path in old:
            _remove(path)
    size = sum(size for size, _ in done["files"].values())
    return Backup(target, done["store"], done["rows"], size, done["log"], kept.journal, tuple(old))


def backups(folder: Path) -> list[Path]:
    """The finished backups in ``folder``, oldest first."""
    return sorted(path for path in folder.iterdir() if _NAME.fullmatch(path.name) and (path / MANIFEST).is_file())


def _is_of(backup: Path, store: str | None) -> bool:
    """Not when it cannot be told: what may be another's is neither counted nor removed."""
    try:
        return store is not None and manifest(backup)["store"] == store
    except (CorruptStore, StoreUnavailable):
        return False


def manifest(backup: Path) -> dict[str, Any]:
    """What ``backup.json`` says. Raises ``NotFound``, ``CorruptStore``, ``StoreUnavailable`` (of a newer Lamina)."""
    path = backup / MANIFEST
    if not path.is_file():
        there = backups(backup) if backup.is_dir() else []
        hint = f"; the newest of {len(there)} in it is {there[-1]}" if there else ""
        raise NotFound(f"{str(backup)!r} is no finished backup: there is no {MANIFEST} in it{hint}")
    try:
        said = strict_json.loads(path.read_text(encoding="utf-8"), max_bytes=_MAX_MANIFEST)
        if said["lamina.backup"] != FORMAT:
            raise StoreUnavailable(f"{path}: of format {said['lamina.backup']!r}; this Lamina reads {FORMAT}: upgrade")
        files = {name: (size, digest) for name, (size, digest) in said["files"].items()}
        store = said["store"]
    except (InvalidInput, UnicodeDecodeError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise CorruptStore(f"{path} cannot be read: {error}. Use another backup") from error
    if any(Path(name).is_absolute() or ".." in Path(name).parts for name in files) or DATABASE not in files:
        raise CorruptStore(f"{path} names files that no backup has. Use another backup")
    if store is not None and not (isinstance(store, str) and _HASH.fullmatch(store)):
        raise CorruptStore(f"{path} does not say of which store it is. Use another backup")
    return {**said, "files": files}


def expect(backup: Path, store: str) -> None:
    """Refuse a backup of another store than the one whose name begins with ``store`` (8 characters or more). Raises
    ``InvalidInput``; what ``manifest`` raises."""
    if not re.fullmatch(r"[0-9a-f]{8,64}", wanted := store.lower()):
        raise InvalidInput(
            f"store={store[:80]!r}: give 8 or more of the 64 characters that lamina backup create prints"
        )
    whose = manifest(backup)["store"]
    if whose is None or not whose.startswith(wanted):
        said = f"of store {whose[:16]}" if whose else "of a store that was empty"
        raise InvalidInput(f"{backup} is {said}, not of {wanted[:16]}. Choose a backup of that store")


def verify(backup: Path) -> list[str]:
    """What is wrong with a backup, empty when every byte is as it was written and the log's chain ends where it did."""
    said = manifest(backup)
    there = {path.relative_to(backup).as_posix() for path in backup.rglob("*") if path.is_file()} - {MANIFEST}
    problems = [f"{name} is not of this backup" for name in sorted(there - set(said["files"]))]
    for name, expected in said["files"].items():
        if name not in there:
            problems.append(f"{name} is missing")
        elif _measured(backup / name) != expected:
            problems.append(f"{name} was altered (its size or sha256 differs)")
    return problems or _log_problems(backup / DATABASE, said["store"], said["log"])


def _copy(source: str, target: Path) -> None:
    if is_server(source):
        from lamina.store.postgres import PostgresStore

        with PostgresStore(source, connections=2) as store:
            copying.copy_server(store, target)
        return
    path = Path(source).expanduser()
    # Read before the memories are: an erasure that begins later is in the journal, and in the next backup.
    beside = {one.name.removeprefix(path.name): one.read_bytes() for end in BESIDE for one in
              path.parent.glob(f"{_literal(path.name)}{end}")}  # fmt: skip
    copying.copy_file(path, target)
    for end, data in beside.items():
        copy = target.with_name(f"{target.name}{end}")
        copy.touch(mode=0o600)
        copy.write_bytes(data)


def _seal(work: Path) -> dict[str, Any]:
    """Prove the copy, write down what it is, and force all of it to the disk."""
    database = work / DATABASE
    with mapped(database), closing(connect(database)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        problems = list(verification.problems(connection, copying.tensors_of(database)))
        connection.execute("ROLLBACK")
        rows = {table: connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in ("cubes", "log")}
        (schema,) = connection.execute("PRAGMA user_version").fetchone()
        store, head = _ends(connection)
    if problems:
        raise CorruptStore(f"the store is not sound, and no backup was made: {problems[0]}. lamina doctor tells all")
    files = {}
    for path in sorted(path for path in work.rglob("*") if path.is_file()):
        path.chmod(0o600)
        files[path.relative_to(work).as_posix()] = _measured(path)
        _sync(path)
    said = {"lamina.backup": FORMAT, "made": datetime.now(UTC).isoformat(timespec="seconds"), "schema": schema}
    said |= {"store": store, "log": head, "rows": rows, "files": files}
    told = work / MANIFEST
    told.write_text(json.dumps(said, indent=1), encoding="utf-8")
    for path in (told, *(path for path in work.rglob("*") if path.is_dir()), work):
        path.chmod(0o700 if path.is_dir() else 0o600)
        _sync(path)
    return said


def _ends(connection: sqlite3.Connection) -> tuple[str | None, str]:
    """Which store it is, and where its log ends."""
    first = connection.execute("SELECT hash FROM log WHERE seq = 1").fetchone()
    last = connection.execute("SELECT seq, hash FROM log ORDER BY seq DESC LIMIT 1").fetchone() or (0, GENESIS)
    return first and first[0], f"{last[0]}:{last[1]}"


def _log_problems(database: Path, store: str | None, head: str) -> list[str]:
    """Read without so much as a lock: a backup may lie on a medium that cannot be written."""
    uri = f"{database.absolute().as_uri()}?mode=ro&immutable=1"
    with mapped(database), closing(sqlite3.connect(uri, uri=True)) as connection:
        problems = list(verification.chain(connection.execute))
        whose, end = _ends(connection)
    if not problems and whose != store:
        return [f"log: it is not of the store that {MANIFEST} names"]
    return problems or ([] if end == head else [f"log: it does not end with {head}"])


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One backup at a time; what killed ones left goes."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = (folder / ".lock").open("w")
    except OSError as error:
        raise StoreUnavailable(f"{folder}: {error.strerror or error}. Choose a folder that may be written") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StoreUnavailable(f"{folder}: another backup is being made there; wait for it") from error
        for left in folder.glob(f"{_UNFINISHED}*"):
            shutil.rmtree(left)
        yield


def _name() -> str:
    """The time in UTC: names sort by age."""
    at = datetime.now(UTC)
    return f"{at:%Y-%m-%dT%H%M%S}.{at.microsecond // 1000:03d}Z"


def _remove(backup: Path) -> None:
    """Half of a backup must not look like one: first its name goes."""
    hidden = backup.with_name(f"{_UNFINISHED}{uuid.uuid4().hex}")
    backup.rename(hidden)
    shutil.rmtree(hidden)


def _literal(name: str) -> str:
    return re.sub(r"([\[?*])", r"[\1]", name)


def _measured(path: Path) -> tuple[int, str]:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return path.stat().st_size, digest


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
