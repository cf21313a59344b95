"""The bundle: many ``.cube`` files in one signed, versioned file that a stranger may hand you.

A zip archive, stored and never compressed: ``manifest.json``, ``signature.json``, then ``000000.cube`` and so on. The
manifest lists every member with its size and sha256; the signature is over the manifest's very bytes. Reading checks in
this order, and believes nothing before it is checked: limits, member names, signature, sizes, checksums, then each cube
as ``lamina.cube.file`` does. Nothing is ever extracted to a path, so no name can lead out of a folder.

Signatures are Ed25519 (``keys``): who checks a bundle cannot have made it. Each cube also bears its exporter's
watermark, which only the exporter can check; that it is the exporter's own is part of what is signed.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
import zipfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lamina.cube import file as cube_file
from lamina.cube import strict_json
from lamina.cube.cube import MemCube, new_id, now
from lamina.errors import CorruptCube, InvalidInput, NotFound, UntrustedBundle
from lamina.kernel.bundles.keys import Key, PublicKey, known

FORMAT = "lamina.bundle/2"
ALGORITHM = "Ed25519"
MAX_BYTES = 4 << 30
MAX_CUBES = 100_000
_MAX_JSON = 64 << 20
_MANIFEST, _SIGNATURE = "manifest.json", "signature.json"
_NAME = re.compile(r"\d{6}\.cube")
_ENTRY = {"name": str, "id": str, "version": int, "kind": str, "bytes": int, "sha256": str}


@dataclass(frozen=True, slots=True)
class Bundle:
    """What a checked file holds: who signed it, and ``cubes`` by their exporter's ids and headers."""

    id: str
    signer: PublicKey
    created: datetime
    destination: str | None
    cubes: tuple[MemCube, ...]


def write(
    path: str | os.PathLike[str], cubes: Sequence[MemCube], key: Key, *, destination: str | None = None, id: str = ""
) -> str:
    """Write ``cubes``, each watermarked, to ``path``, whole or not at all; the id of the bundle.

    Raises ``InvalidInput`` for none or too many, or two of one id.
    """
    if not cubes or len(cubes) > MAX_CUBES or len({cube.id for cube in cubes}) < len(cubes):
        raise InvalidInput(f"cubes: a bundle holds 1 to {MAX_CUBES} different memories, got {len(cubes)}")
    members, entries = [], []
    for number, cube in enumerate(cubes):
        data = cube_file.dumps(marked(cube, key))
        name = f"{number:06d}.cube"
        members.append((name, data))
        digest, header = hashlib.sha256(data).hexdigest(), cube.header
        entries.append(dict(zip(_ENTRY, (name, cube.id, header.version, header.kind, len(data), digest), strict=True)))
    id, signer = id or new_id(), str(key.public)
    told = {"format": FORMAT, "id": id, "created": now().isoformat(), "cubes": entries}
    manifest = strict_json.dumps(told if destination is None else told | {"destination": destination}).encode()
    sealed = {"algorithm": ALGORITHM, "key": signer, "signature": key.sign("bundle", manifest)}
    signature = strict_json.dumps(sealed).encode()
    _write(Path(path), [(_MANIFEST, manifest), (_SIGNATURE, signature), *members])
    return id


def read(path: str | os.PathLike[str], trusted: Collection[PublicKey], *, max_bytes: int = MAX_BYTES) -> Bundle:
    """The bundle at ``path``, every byte of it checked. ``trusted``: by whom it may be signed.

    Raises ``UntrustedBundle`` when it is not signed by one of them or is not what was signed; ``CorruptCube`` when it
    is no bundle, or over a limit; ``NotFound``.
    """
    try:
        with Path(path).open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size > max_bytes:
                raise CorruptCube(f"{path}: {size} bytes, over the limit of {max_bytes}")
            with zipfile.ZipFile(file) as archive:
                return _read(archive, size, trusted)
    except FileNotFoundError as error:
        raise NotFound(f"path={os.fspath(path)!r}: no such bundle") from error
    except (zipfile.BadZipFile, NotImplementedError, EOFError, RuntimeError, OSError, UnicodeError) as error:
        raise CorruptCube(f"{path}: not a bundle, or truncated: {error}") from error


def marked(cube: MemCube, key: Key) -> MemCube:
    """``cube`` with ``key``'s watermark in its header."""
    return MemCube(replace(cube.header, watermark=key.watermark(cube.id, cube.sha256)), cube.payload)


def rewriter(key: Key) -> Callable[[Path, Collection[str]], bool]:
    """Takes forgotten memories out of this key's own bundles, for ``ExportRegister.clear``; what was derived from them
    is in ``ids`` as well. False for a file that is no bundle of this key: then the file has to go."""

    def rewrite(path: Path, ids: Collection[str]) -> bool:
        try:
            bundle = read(path, [key.public])
        except (CorruptCube, UntrustedBundle):
            return False
        left = [cube for cube in bundle.cubes if cube.id not in ids]
        if left:
            write(path, left, key, destination=bundle.destination, id=bundle.id)
        return bool(left)

    return rewrite


def _write(target: Path, members: Sequence[tuple[str, bytes]]) -> None:
    descriptor, temporary = tempfile.mkstemp(prefix=".bundle-", suffix=".tmp", dir=target.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
                for name, data in members:
                    archive.writestr(zipfile.ZipInfo(name), data)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(target)
    except BaseException:
        with suppress(FileNotFoundError):
            Path(temporary).unlink()
        raise


def _read(archive: zipfile.ZipFile, size: int, trusted: Collection[PublicKey]) -> Bundle:
    infos = archive.infolist()
    names = [info.filename for info in infos]
    strange = [name for name in names if name not in (_MANIFEST, _SIGNATURE) and not _NAME.fullmatch(name)]
    if strange or len(set(names)) < len(names) or not {_MANIFEST, _SIGNATURE} <= set(names):
        raise CorruptCube(f"the members are not those of a bundle: {[name[:60] for name in (strange or names)[:3]]}")
    if len(names) > MAX_CUBES + 2 or any(i.compress_type or i.file_size != i.compress_size for i in infos):
        raise CorruptCube(f"a bundle holds at most {MAX_CUBES} cubes, stored without compression")
    if sum(info.file_size for info in infos) > size:  # members that lie in one another
        raise CorruptCube("the members together are larger than the file")
    manifest = _member(archive, _MANIFEST, _MAX_JSON)
    signer = _signer(manifest, _object(_member(archive, _SIGNATURE, 4096), _SIGNATURE), trusted)
    told = _object(manifest, _MANIFEST)
    cubes = tuple(_cubes(archive, told, set(names)))
    try:
        created = datetime.fromisoformat(told["created"]).astimezone(UTC)
        return Bundle(str(told["id"]), signer, created, told.get("destination"), cubes)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise CorruptCube(f"the manifest says neither id nor time: {error}") from error


def _signer(manifest: bytes, sealed: Mapping[str, Any], trusted: Collection[PublicKey]) -> PublicKey:
    """Who signed the manifest: one of ``trusted``. Nothing of the manifest is read before that is known."""
    if "mac" in sealed:
        raise UntrustedBundle(
            "it is sealed with a secret that its readers share, an old form that proves nothing to third parties:"
            f" ask its sender for one that is signed ({ALGORITHM})"
        )
    if sealed.get("algorithm") != ALGORITHM:
        raise UntrustedBundle(f"algorithm={sealed.get('algorithm')!r:.40}: a bundle is signed with {ALGORITHM}")
    try:
        claimed = PublicKey.parse(str(sealed.get("key")))
    except InvalidInput as error:
        raise UntrustedBundle(f"the signature names no key: {error}") from error
    signer = known(claimed, trusted)
    if not signer.signed("bundle", manifest, str(sealed.get("signature"))):
        raise UntrustedBundle(f"the manifest is not what {signer.name!r} ({signer.fingerprint}) signed")
    return signer


def _cubes(archive: zipfile.ZipFile, told: Mapping[str, Any], names: set[str]) -> Iterator[MemCube]:
    entries = told.get("cubes")
    if told.get("format") != FORMAT or not isinstance(entries, list) or not all(map(_is_entry, entries)):
        raise CorruptCube(f"the manifest is not one of {FORMAT}")
    if {entry["name"] for entry in entries} != names - {_MANIFEST, _SIGNATURE} or len(entries) != len(names) - 2:
        raise UntrustedBundle("the members are not those that were signed")
    if len({entry["id"] for entry in entries}) < len(entries):
        raise CorruptCube("two members are the same memory: a bundle holds one version of each")
    for entry in entries:
        data = _member(archive, entry["name"], entry["bytes"])
        if len(data) != entry["bytes"] or hashlib.sha256(data).hexdigest() != entry["sha256"]:
            raise UntrustedBundle(f"{entry['name']} is not the cube that was signed")
        cube = cube_file.loads(data)
        header = cube.header
        if [cube.id, header.version, header.kind] != [entry["id"], entry["version"], entry["kind"]]:
            raise UntrustedBundle(f"{entry['name']} holds another memory than the manifest says")
        yield cube


def _is_entry(value: Any) -> bool:
    typed = isinstance(value, dict) and value.keys() == _ENTRY.keys()
    return (
        typed and all(type(value[name]) is kind for name, kind in _ENTRY.items()) and 0 <= value["bytes"] <= MAX_BYTES
    )


def _member(archive: zipfile.ZipFile, name: str, limit: int) -> bytes:
    """A member of at most ``limit`` bytes: what its header declares is not believed."""
    with archive.open(name) as stream:
        data = stream.read(limit + 1)
    if len(data) > limit:
        raise CorruptCube(f"{name} is larger than the {limit} bytes it may have")
    return data


def _object(data: bytes, name: str) -> dict[str, Any]:
    try:
        value = strict_json.loads(data.decode(), max_bytes=_MAX_JSON)
    except (InvalidInput, UnicodeDecodeError) as error:
        raise CorruptCube(f"{name} cannot be read: {error}") from error
    if not isinstance(value, dict):
        raise CorruptCube(f"{name} is not a JSON object")
    return value
