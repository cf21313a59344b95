"""A backup back into a new store, without what was forgotten after it was made.

All of it happens in a hidden folder: the backup is proved and copied, requests of newer logs are carried out
(``lamina.store.forgotten``), which rewrites every file (``lamina.store.erasure``), and the result is proved. Only then
it becomes a store: a file by renaming, a PostgreSQL database by ``lamina.store.moving``, so that what was forgotten
never reaches the server, its write-ahead log or its replicas. A store that exists is never written over.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lamina.cube import strict_json
from lamina.errors import CorruptStore, InvalidInput, StoreUnavailable
from lamina.store.address import is_server
from lamina.store.backup import DATABASE, manifest, verify
from lamina.store.forgotten import ACTOR, REASON, Request, carry_out
from lamina.store.sqlite import SqliteStore

_REMAINS = ("", "-wal", "-shm", "-journal", ".blobs", "-index")
_NOTE = ".forgetting-"
_MAX_NOTE = 64 << 20


@dataclass(frozen=True, slots=True)
class Restored:
    """How many versions are there again; ids that were forgotten on the way, and of keys that were revoked."""

    versions: int
    forgotten: tuple[str, ...]
    revoked: tuple[str, ...]


def restore(backup: Path, target: str, requests: Iterable[Request]) -> Restored:
    """Make the store at ``target`` (a path where no store is, or an empty database) of ``backup`` and ``requests``.

    Raises ``CorruptStore`` for a backup that is not as it was written, ``InvalidInput`` where something is already,
    ``StoreUnavailable`` (full disk). Nothing is at ``target`` then, but what a server has received in part, which
    opens for nobody.
    """
    if problems := verify(backup):
        raise CorruptStore(f"{backup}: {problems[0]}. Use another backup; nothing was restored")
    path = None if is_server(target) else Path(target).expanduser().absolute()
    if path is not None:
        _refuse_remains(path)
    try:
        with _staging(path) as folder:
            database = folder / (path.name if path is not None else DATABASE)
            _copy(backup, database)
            restored = _cleaned(database, requests)
            if path is None:
                from lamina.store.moving import move_between

                move_between(str(database), target)
            else:
                _place(database, path)
    except OSError as error:
        raise StoreUnavailable(f"{target if path else 'staging'}: {error.strerror or error}. Free space and try "
                               "again") from error  # fmt: skip
    return restored


def _refuse_remains(path: Path) -> None:
    for end in _REMAINS:
        there = path.with_name(f"{path.name}{end}")
        if os.path.lexists(there):
            raise InvalidInput(
                f"{there} exists: a backup is restored where no store is. Move or remove what is left of the old one "
                f"({path} and {path.name}.blobs, -wal, -shm, -index), or restore to another path"
            )


@contextmanager
def _staging(path: Path | None) -> Iterator[Path]:
    """A folder that goes; of a file on the same disk, so that what is in it can be renamed, and under a name by which
    the next restore finds and removes what a killed one left."""
    if path is None:
        with tempfile.TemporaryDirectory(prefix="lamina-restoring-") as temporary:
            yield Path(temporary)
        return
    folder = path.with_name(f".{path.name}.restoring")
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(mode=0o700, parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _copy(backup: Path, database: Path) -> None:
    """Every file under its new name, readable by its owner only."""
    for name in manifest(backup)["files"]:
        copy = database.parent / f"{database.name}{name.removeprefix(DATABASE)}"
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(backup / name, copy)
    for one in database.parent.rglob("*"):
        one.chmod(0o700 if one.is_dir() else 0o600)


def _cleaned(database: Path, requests: Iterable[Request]) -> Restored:
    """Without what was forgotten later, or was being forgotten when the backup was made."""
    notes = sorted(database.parent.glob(f"*{_NOTE}*"))
    begun = [id for note in notes for id in strict_json.loads(note.read_text("utf-8"), max_bytes=_MAX_NOTE)["ids"]]
    with SqliteStore(database) as store:
        gone, revoked = carry_out(store, requests)
        with store.transaction() as tx:
            gone += tx.forget(begun, actor=ACTOR, reason=REASON, legal_override=True)
        if problems := store.verify():
            raise CorruptStore(f"the restored store is not sound: {problems[0]}. Use another backup")
        versions = store.stats()["versions"]
    for note in notes:
        note.unlink()
    return Restored(versions, tuple(sorted(gone)), tuple(revoked))


def _place(database: Path, path: Path) -> None:
    """By renaming; the database comes last, so that its being there means that all of it is."""
    for one in database.parent.rglob("*"):
        _sync(one)
    for one in sorted(database.parent.iterdir(), key=lambda one: one == database):
        one.rename(path.with_name(one.name))
    _sync(path.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
