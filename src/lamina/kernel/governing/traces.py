"""Is it really gone? Searches every tier for what was forgotten, and probes the weights.

A text can survive as bytes (database pages, write-ahead log, blobs, saved indexes, backups of migrations, exports), as
a piece (a full-text index keeps lower-cased words without the prefix they share with their neighbour: for long words
the middle is searched as well), inside a compressed file, as a row under its id, in a cache of this process, or as
what a model has learned: an adapter must not raise the log-probability of the text over a control.

Words that other tenants say as well are theirs (``bystanders``); the report does not tell that there are any. It names
the tier, the place and the *number* of the needle, never the needle: reports are kept.
"""

from __future__ import annotations

import gzip
import json
import re
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from lamina.errors import InvalidInput
from lamina.kernel.forgetting import Cache
from lamina.kernel.governing.bystanders import held_by_others, occurrences
from lamina.kernel.governing.exports import ExportRegister
from lamina.store.base import Store
from lamina.store.snapshot import index_folder

# Mean log-probability a token, in nats, of a text: with the adapters in use, and of the control without them.
Probe = Callable[[str], tuple[float, float]]
MARGIN = 0.05  # nats a token that an adapter may give to any text; a learned sentence gains 1 and more
_BLOCK = 1 << 20
_LONG = 24  # characters of a word whose middle is searched as well
_PAGES = ("write-ahead log", "indexes")  # which repeat what rows say
_SHORTEST = 4  # characters of a needle: anything shorter is found everywhere


@dataclass(frozen=True, slots=True)
class Trace:
    """Something is left: in which tier, where (a file, an id, a cache), of which needle (its number, or the id)."""

    tier: str
    where: str
    what: str


@dataclass(frozen=True, slots=True)
class Report:
    """What was searched, bytes (or entries) by tier, and what was found. True when nothing is left."""

    searched: Mapping[str, int]
    traces: tuple[Trace, ...]

    def __bool__(self) -> bool:
        return not self.traces


def verify(
    store: Store,
    needles: Sequence[str | bytes] = (),
    ids: Sequence[str] = (),
    *,
    caches: Sequence[Cache] = (),
    exports: ExportRegister | None = None,
    probes: Mapping[str, Probe] | None = None,
    tenant: str | None = None,
) -> Report:
    """Search every tier for ``needles`` (texts, or raw bytes such as a vector) and for rows of ``ids``.

    ``tenant``: whose they were; what live rows of others hold is then no trace (default: whoever holds it, it is one).
    ``probes``: adapter (or model) to a probe of it; each is asked about every needle that is text. Raises
    ``InvalidInput`` for a needle that is too short to mean anything.
    """
    for needle in needles:
        if len(needle) < _SHORTEST:
            raise InvalidInput(f"needles: {needle!r} is shorter than {_SHORTEST}; it would be found anywhere")
    searched: Counter[str] = Counter()
    traces: list[Trace] = []
    forms = [_forms(needle) for needle in needles]
    hits: list[tuple[str, str, dict[int, int]]] = []
    for tier, path in [*_files(store), *_exported(exports)]:
        for where, stream in _contents(path):
            size, found = _search(stream, forms)
            searched[tier] += size
            hits += [(tier, where, found)] if found else []
    others = _others(store, tenant, forms) if hits and tenant is not None else [0] * len(forms)
    for tier, where, found in hits:
        known = [others[n] and (tier in _PAGES or count <= others[n]) for n, count in found.items()]
        traces += [Trace(tier, where, f"needle {n}") for n, theirs in zip(found, known, strict=True) if not theirs]
    traces += _rows(store, ids, searched)
    for cache in caches:
        searched["caches"] += 1
        traces += [Trace("caches", cache.name, id) for id in cache.holding(ids)]
    for export in exports.holding(ids) if exports else ():
        traces.append(Trace("exports", str(export.file), "registered as holding it"))
    for adapter, probe in (probes or {}).items():
        searched["adapters"] += 1
        traces += _learned(adapter, probe, needles)
    return Report(dict(searched), tuple(traces))


def _rows(store: Store, ids: Sequence[str], searched: Counter[str]) -> Iterator[Trace]:
    for id in ids:
        searched["rows"] += 1
        if store.get(id) is not None or store.derived(id) or store.vector(id) is not None:
            yield Trace("rows", "a memory, a vector, or something derived", id)
    if ids:
        with store.transaction() as tx:
            edges = tx.edges(ids)
        yield from (Trace("rows", "an edge", edge.source) for edge in edges)
    if store.stats().get("erasing") is not None:
        yield Trace("database", "erasure", "traces wait for other readers to end")


def _learned(adapter: str, probe: Probe, needles: Sequence[str | bytes]) -> Iterator[Trace]:
    for number, needle in enumerate(needles):
        if isinstance(needle, str):
            with_it, control = probe(needle)
            if with_it - control > MARGIN:
                yield Trace("adapters", adapter, f"needle {number}")


def _others(store: Store, tenant: str, forms: Sequence[Sequence[bytes]]) -> list[int]:
    path: Path | None = getattr(store, "path", None)
    return [0] * len(forms) if path is None else held_by_others(path, tenant, forms)


def _files(store: Store) -> Iterator[tuple[str, Path]]:
    """Every file of the store, by tier."""
    base: Path | None = getattr(store, "path", None)
    if base is None:
        return
    tiers = {"": "database", "-wal": "write-ahead log", "-shm": "write-ahead log", ".blobs": "blobs"}
    index = index_folder(base)
    beside = [path for path in base.parent.iterdir() if path.name.lstrip(".").startswith(base.name)]
    for root in sorted({*beside, index} if index.exists() else beside):
        tier = "indexes" if root == index else tiers.get(root.name.removeprefix(base.name), "beside")
        for path in [root] if root.is_file() else sorted(root.rglob("*")):
            if path.is_file():
                yield tier, path


def _exported(exports: ExportRegister | None) -> Iterator[tuple[str, Path]]:
    for export in exports.exports() if exports else ():
        if export.file.is_file():
            yield "exports", export.file


def _contents(path: Path) -> Iterator[tuple[str, BinaryIO]]:
    """The file as it is, and what is packed in it."""
    with path.open("rb") as file:
        yield str(path), file
        file.seek(0)
        magic = file.read(4)
    if magic[:2] == b"\x1f\x8b":
        with gzip.open(path) as unpacked:
            yield f"{path} (unpacked)", cast(BinaryIO, unpacked)
    elif magic == b"PK\x03\x04" and zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                with archive.open(name) as member:
                    yield f"{path}!{name}", cast(BinaryIO, member)


def _forms(needle: str | bytes) -> list[bytes]:
    """What to look for, lower-cased ASCII: the text in the encodings it may be kept in, and pieces of long words."""
    if isinstance(needle, bytes):
        return [needle.lower()]
    forms = {needle.encode(code) for code in ("utf-8", "utf-16-le", "utf-16-be")} | {json.dumps(needle)[1:-1].encode()}
    forms |= {word[8:_LONG].encode() for word in re.findall(r"\w+", needle.casefold()) if len(word) >= _LONG}
    return sorted({form.lower() for form in forms})


def _search(stream: BinaryIO, forms: Sequence[Sequence[bytes]]) -> tuple[int, dict[int, int]]:
    """Bytes read, and by the numbers of the needles found, whatever their case, how often."""
    overlap = max((len(form) for some in forms for form in some), default=1) - 1
    size, tail, found = 0, b"", Counter[int]()
    try:
        while block := stream.read(_BLOCK):
            size += len(block)
            data = tail + block.lower()
            for number, some in enumerate(forms):
                found[number] += occurrences(data, some, after=len(tail))
            tail = data[-overlap:] if overlap else b""
    except (zlib.error, EOFError, zipfile.BadZipFile, gzip.BadGzipFile):
        pass  # not what its first bytes say: as raw bytes it is searched anyway
    return size, {number: count for number, count in found.items() if count}
