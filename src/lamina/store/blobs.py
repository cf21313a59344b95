"""Tensors on disk: a directory of files named by the sha256 of their bytes, through fsspec.

A file appears whole or not at all (temporary file, fsync, rename, fsync of the directory), is never
changed, and is checked against its name on every read. Equal tensors share one file. Files that no row
names are removed by ``collect``; a grace period protects those a writer has not committed yet.
"""

from __future__ import annotations

import hashlib
import os
import time
import uuid
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from lamina.cube import container, strict_json
from lamina.cube.codec import Codec
from lamina.cube.header import MAX_HEADER_BYTES
from lamina.cube.payload import Fingerprint, TensorPayload
from lamina.errors import CorruptCube, CorruptStore, InvalidInput, StoreUnavailable

GRACE_SECONDS = 3600.0
_TEMPORARY = ".tmp"
_fingerprint = Codec(Fingerprint)


class Blobs(Protocol):
    """Where tensors go and come from: files for SQLite, rows for PostgreSQL."""

    def write(self, data: bytes) -> str:
        """Store ``data`` durably, no later than the memory that names it; its address, the sha256."""

    def read(self, address: str) -> bytes:
        """The bytes at ``address``. Raises ``CorruptStore`` when they are missing or not what they were."""


def pack(payload: TensorPayload) -> bytes:
    """A payload without its header, so that versions with the same tensors share a blob."""
    metadata = {"fingerprint": strict_json.dumps(_fingerprint.encode(payload.fingerprint))}
    head, data = container.build(metadata, payload.tensors)
    return b"".join([head, *data])


def unpack(data: bytes) -> TensorPayload:
    try:
        parsed = container.parse(memoryview(data))
        stored = strict_json.loads(parsed.metadata["fingerprint"], max_bytes=MAX_HEADER_BYTES)
        return TensorPayload(parsed.tensors, _fingerprint.decode(stored))
    except (CorruptCube, InvalidInput, KeyError) as error:
        raise CorruptStore(f"a blob does not hold the tensors of a memory: {error}") from error


class BlobStore:
    """Content-addressed files under ``root``: ``root/ab/abcdef...``; the directory is made at first use."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def write(self, data: bytes) -> str:
        """Store ``data`` durably; its address. Raises ``StoreUnavailable`` when the disk refuses."""
        address = hashlib.sha256(data).hexdigest()
        path = self._path(address)
        try:
            if not self._files().exists(str(path)):
                self._write(data, path)
        except OSError as error:
            raise StoreUnavailable(f"{path}: {error.strerror or error}. Check rights and free space") from error
        return address

    def read(self, address: str) -> bytes:
        """The bytes at ``address``. Raises ``CorruptStore`` when they are missing or not what they were."""
        path = self._path(address)
        try:
            with self._files().open(str(path), "rb") as file:
                data: bytes = file.read()
        except FileNotFoundError as error:
            raise CorruptStore(f"{path} is missing: restore it from a backup, or forget the memory") from error
        except OSError as error:
            raise StoreUnavailable(f"{path}: {error.strerror or error}") from error
        if hashlib.sha256(data).hexdigest() != address:
            raise CorruptStore(f"{path} was altered: its bytes do not match its name. Restore it from a backup")
        return data

    def addresses(self) -> Iterator[str]:
        yield from (path.name for path, _, _ in self._list() if path.suffix != _TEMPORARY)

    def size(self) -> int:
        """Bytes on disk of all blobs."""
        return sum(size for _, size, _ in self._list())

    def collect(self, referenced: Collection[str], *, grace: float = GRACE_SECONDS) -> list[str]:
        """Remove blobs not in ``referenced`` and unfinished files, if older than ``grace`` seconds; their names.

        ``grace=0`` is for callers who hold the write lock: nobody else can be about to commit then.
        """
        oldest = time.time() - grace
        removed = []
        for path, _, modified in self._list():
            if path.name not in referenced and (not grace or modified < oldest):
                with suppress(FileNotFoundError):
                    self._files().rm_file(str(path))
                    removed.append(path.name)
        return removed

    def _write(self, data: bytes, path: Path) -> None:
        files = self._files()
        self.root.mkdir(mode=0o700, exist_ok=True)  # memories are private
        files.makedirs(str(path.parent), exist_ok=True)
        temporary = path.with_name(f"{uuid.uuid4().hex}{_TEMPORARY}")
        try:
            with files.open(str(temporary), "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            files.mv(str(temporary), str(path))  # a rename: same directory
        except BaseException:
            with suppress(FileNotFoundError):
                files.rm_file(str(temporary))
            raise
        for directory in (path.parent, self.root, self.root.parent):  # each may be new
            _sync(directory)

    def _list(self) -> Iterator[tuple[Path, int, float]]:
        """Every file: path, bytes, time of change."""
        if self.root.is_dir():
            for name, info in self._files().find(str(self.root), detail=True).items():
                yield Path(name), info["size"], info["mtime"]

    def _path(self, address: str) -> Path:
        return self.root / address[:2] / address

    def _files(self) -> Any:
        from fsspec.implementations.local import LocalFileSystem  # loaded by stores that hold tensors only

        return LocalFileSystem()


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
