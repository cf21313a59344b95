"""The ``.cube`` file: one memory as a safetensors container, checksummed, never pickled.

Metadata of the container: ``sha256``, ``format``, ``header`` (``lamina.cube.header``) and, for tensors,
``fingerprint``. Text is a ``U8`` tensor named ``text``. The checksum always stands at the same place,
right behind the opening bytes ``MAGIC``, and is taken over the *whole file* with its own 64 digits
read as zeros: there is no byte, not even of padding, that may change unnoticed. It detects accidents;
it does not prove who wrote the file. It is the sha256 of the sha256 of each block of ``BLOCK_BYTES``, so that
all cores check a large file at once: of a cached prefix, checking is a third of the time that loading takes.

Files are replaced, never rewritten, so a reader keeps the version it opened. Files over
``MAP_BYTES`` are memory-mapped copy-on-write: tensors cost no memory until they are used.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import reprlib
import stat
import tempfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from lamina.cube import container, header, strict_json
from lamina.cube.codec import Codec
from lamina.cube.cube import MemCube
from lamina.cube.payload import Fingerprint, Payload, TensorPayload, TextPayload
from lamina.cube.tensor import TensorView
from lamina.errors import CorruptCube, InvalidInput, NotFound, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from typing_extensions import Buffer

FORMAT = "lamina.cube/1"
MAGIC = b'{"__metadata__":{"sha256":"'  # at byte 8, behind the length of the container's header
MAX_BYTES = 16 << 30
MAX_TEXT_BYTES = 64 << 20  # text is copied, not mapped: it needs a bound of its own
MAP_BYTES = 1 << 20
BLOCK_BYTES = 1 << 20
_DIGEST = slice(container.LENGTH_BYTES + len(MAGIC), container.LENGTH_BYTES + len(MAGIC) + 64)
_ZEROS = "0" * 64
_fingerprint = Codec(Fingerprint)


def dumps(cube: MemCube) -> bytes:
    """``cube`` as the bytes of a ``.cube`` file.

    Raises ``InvalidInput`` naming what cannot be written: a header field, text with a lone surrogate,
    a kind that does not match the payload, or a size that ``loads`` would refuse.
    """
    return b"".join(_pieces(cube))


def loads(data: Buffer, *, max_header_bytes: int = container.MAX_HEADER_BYTES) -> MemCube:
    """The cube in ``data``, the bytes of a whole ``.cube`` file. Tensors are views into immutable ``bytes``;
    anything a caller could still change is copied first. Raises ``CorruptCube`` saying what is wrong.
    """
    try:
        raw = memoryview(data)
    except TypeError as error:
        raise InvalidInput(f"data must be the bytes of a .cube file, got {type(data).__name__}") from error
    return _parse(raw if isinstance(data, bytes) else memoryview(bytes(raw)), max_header_bytes)


def write(cube: MemCube, path: str | os.PathLike[str]) -> None:
    """Write ``cube`` to ``path``, readable by its owner only; an existing file is replaced.

    Atomic and durable: readers see the old file or the new one, a crash leaves one of the two, and the
    data is on the disk on return. Raises ``InvalidInput`` as ``dumps`` does, before touching the disk,
    or for a bad path; ``StoreUnavailable`` when the disk refuses. No temporary file is left behind.
    """
    pieces = _pieces(cube)
    target = Path(path)
    if not target.name:
        raise InvalidInput(f"path {os.fspath(path)!r} names no file; give the path of a .cube file")
    with _disk(target, "write"):
        descriptor, temporary = tempfile.mkstemp(prefix=".cube-", suffix=".tmp", dir=target.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.writelines(pieces)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, target)  # noqa: PTH105 - Path.replace would hide that this is the atomic step
        except BaseException:
            with suppress(FileNotFoundError):
                os.unlink(temporary)  # noqa: PTH108
            raise
        _sync_directory(target.parent)


def read(
    path: str | os.PathLike[str],
    *,
    max_bytes: int = MAX_BYTES,
    max_header_bytes: int = container.MAX_HEADER_BYTES,
) -> MemCube:
    """The cube in the file at ``path``, every byte verified. Tensors of a large file stay on the disk
    until they are used; writing to them never reaches the file.

    Raises ``CorruptCube`` for a file that is altered, hostile or over a limit; ``NotFound`` when there
    is none; ``InvalidInput`` for a directory or device; ``StoreUnavailable`` when it cannot be read.
    """
    with _disk(path, "read"):
        # O_NONBLOCK: opening a named pipe must not wait for somebody to write to it.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise InvalidInput(f"path {os.fspath(path)!r} is not a regular file; give the path of a .cube file")
            if status.st_size > max_bytes:
                raise CorruptCube(f"{os.fspath(path)}: {status.st_size} bytes, over the limit of {max_bytes}")
            if status.st_size > MAP_BYTES:
                raw = memoryview(mmap.mmap(descriptor, 0, access=mmap.ACCESS_COPY))
            else:
                raw = memoryview(bytearray(file.read(status.st_size)))
    try:
        return _parse(raw, max_header_bytes)
    except CorruptCube as error:
        raise CorruptCube(f"{os.fspath(path)}: {error}") from error


def _pieces(cube: MemCube) -> list[bytes | memoryview]:
    """The file as a list of buffers, so that large tensors are never joined into a second copy."""
    metadata = {"sha256": _ZEROS, "format": FORMAT, "header": header.to_json(cube.header)}
    payload = cube.payload
    _check_kind(cube.header.kind, payload)
    if isinstance(payload, TensorPayload):
        metadata["fingerprint"] = strict_json.dumps(_fingerprint.encode(payload.fingerprint))
        tensors = dict(payload.tensors)
    else:
        text = payload.encode()
        if len(text) > MAX_TEXT_BYTES:
            raise InvalidInput(f"text takes {len(text)} bytes, over the limit of {MAX_TEXT_BYTES}; split the cube")
        tensors = {"text": TensorView.from_bytes("U8", (len(text),), text)}
    head, data = container.build(metadata, tensors)
    sealed = head[: _DIGEST.start] + _digest([head, *data]).encode() + head[_DIGEST.stop :]
    return [sealed, *data]


def _parse(raw: memoryview, max_header_bytes: int) -> MemCube:
    if len(raw) < _DIGEST.stop:
        raise CorruptCube(f"the file is truncated: {len(raw)} bytes are too few for a cube")
    if raw[container.LENGTH_BYTES : _DIGEST.start] != MAGIC:
        raise CorruptCube("not a .cube file: the opening bytes are another format's")
    parsed = container.parse(raw, max_header_bytes=max_header_bytes)
    found = bytes(raw[_DIGEST])
    wanted = _digest([raw[: _DIGEST.start], _ZEROS.encode(), raw[_DIGEST.stop :]])
    if found != wanted.encode():
        raise CorruptCube(f"the checksum does not match: the file says {found!r}, its bytes give {wanted}")
    return _cube(parsed)


def _cube(parsed: container.Container) -> MemCube:
    """Meaning of a container whose bytes are known to be as they were written."""
    metadata = parsed.metadata
    if metadata.get("format") != FORMAT:
        raise CorruptCube(f"format {reprlib.repr(metadata.get('format'))} is unknown; this version reads {FORMAT!r}")
    if metadata.keys() - {"fingerprint"} != {"sha256", "format", "header"}:
        got = reprlib.repr(list(metadata))
        raise CorruptCube(f"metadata must hold sha256, format, header and perhaps fingerprint, got {got}")
    try:
        parsed_header = header.from_json(metadata["header"])
        payload = _payload(parsed)
        _check_kind(parsed_header.kind, payload)
    except InvalidInput as error:
        raise CorruptCube(f"the content is not a memory: {error}") from error
    return MemCube(parsed_header, payload)


def _payload(parsed: container.Container) -> Payload:
    if "fingerprint" in parsed.metadata:
        stored = strict_json.loads(parsed.metadata["fingerprint"], max_bytes=header.MAX_HEADER_BYTES)
        return TensorPayload(parsed.tensors, _fingerprint.decode(stored))
    view = parsed.tensors.get("text")
    if view is None or len(parsed.tensors) != 1 or view.dtype != "U8" or len(view.shape) != 1:
        raise CorruptCube("a cube without fingerprint must hold one U8 vector named 'text' and nothing else")
    if view.nbytes > MAX_TEXT_BYTES:
        raise CorruptCube(f"text takes {view.nbytes} bytes, over the limit of {MAX_TEXT_BYTES}")
    try:
        return TextPayload(str(view.data, "utf-8"))
    except UnicodeDecodeError as error:
        raise CorruptCube(f"text is not UTF-8: {error.reason} at byte {error.start}") from error


def _check_kind(kind: str, payload: Payload) -> None:
    if (kind == "text") != isinstance(payload, TextPayload):
        raise InvalidInput(f"header.kind is {kind!r}, but the payload is a {type(payload).__name__}")


def _digest(pieces: Iterable[bytes | memoryview]) -> str:
    blocks = list(_blocks(pieces))
    if len(blocks) == 1:
        leaves = [_leaf(blocks[0])]
    else:
        with ThreadPoolExecutor(os.cpu_count()) as pool:  # hashing lets go of the interpreter
            leaves = list(pool.map(_leaf, blocks))
    return hashlib.sha256(b"".join(leaves)).hexdigest()


def _leaf(block: list[memoryview]) -> bytes:
    digest = hashlib.sha256()
    for part in block:
        digest.update(part)
    return digest.digest()


def _blocks(pieces: Iterable[bytes | memoryview]) -> Iterator[list[memoryview]]:
    """The stream of ``pieces`` cut every ``BLOCK_BYTES``, each block in its parts."""
    block: list[memoryview] = []
    room = BLOCK_BYTES
    for piece in pieces:
        rest = memoryview(piece).cast("B")
        while len(rest) >= room:
            yield [*block, rest[:room]]
            rest, block, room = rest[room:], [], BLOCK_BYTES
        if rest:  # how a stream comes in pieces must not show
            block.append(rest)
            room -= len(rest)
    if block:
        yield block


@contextmanager
def _disk(path: str | os.PathLike[str], verb: str) -> Iterator[None]:
    """Turn what the operating system says about ``path`` into our errors."""
    try:
        yield
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotFound(f"cannot {verb} path {os.fspath(path)!r}: {error.strerror}; check its directory") from error
    except IsADirectoryError as error:
        raise InvalidInput(f"cannot {verb} path {os.fspath(path)!r}: it is a directory; give a file") from error
    except OSError as error:
        raise StoreUnavailable(
            f"cannot {verb} path {os.fspath(path)!r}: {error.strerror}; check rights and free space"
        ) from error
    except ValueError as error:
        if isinstance(error, InvalidInput):
            raise
        raise InvalidInput(f"path {os.fspath(path)!r} is not one the system can take: {error}") from error


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
