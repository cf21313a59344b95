"""The log as evidence: proved in place, exported with its chain, proved again where nothing of Lamina is left.

MemOS: A Memory OS for AI System, arXiv 2507.03724, section 5 (audit of MemGovernance). Every row of the log carries the
sha256 of all rows before it (``lamina.store.log``), so a row that was changed, removed, added, moved or repeated
breaks the chain. A chain cannot show that its *end* is missing, nor that somebody with the whole file forged all of it
anew: whoever must be able to prove that keeps ``head(store)``, 32 bytes and a number, somewhere else.

The export is one JSON line a row, then a line with the number of rows and the last hash. Lines are canonical and
compared as bytes: not even a space may change. It holds ids, actors, times and reasons, never contents.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lamina.cube import strict_json
from lamina.errors import InvalidInput, NotFound
from lamina.store.base import Event, Store
from lamina.store.log import GENESIS, Row, details_json, problems
from lamina.store.rows import micros

FORMAT = 1
_MAX_LINE = 1 << 20  # bytes
_KEYS = [*Row._fields]


@dataclass(frozen=True, slots=True)
class Head:
    """Where the log stood: its last row and the hash over everything up to it. Keep it elsewhere."""

    seq: int
    hash: str

    def __str__(self) -> str:
        return f"{self.seq}:{self.hash}"

    @classmethod
    def parse(cls, text: str) -> Head:
        """What ``str(head)`` wrote. Raises ``InvalidInput``."""
        seq, _, hash = text.strip().partition(":")
        if not (seq.isascii() and seq.isdigit()) or len(hash) != 64 or set(hash) - set("0123456789abcdef"):
            raise InvalidInput(f"head={text!r:.90}: pass what head() gave, a number, a colon and 64 hex digits")
        return cls(int(seq), hash)


def head(store: Store) -> Head:
    """The end of the log as it is now."""
    rows = int(store.stats()["events"])
    last = list(store.events(since=max(0, rows - 1)))
    return Head(last[-1].seq, last[-1].hash) if last else Head(0, GENESIS)


def verify(store: Store, sealed: Head | None = None) -> list[str]:
    """What is wrong with the log of ``store``, empty when it is whole; with ``sealed``, also that it still holds
    everything up to that head. Reads the raw rows; writers wait meanwhile."""
    found = [problem for problem in store.verify() if problem.startswith("log")]
    return found or _against(sealed, _hash_at(store, sealed.seq) if sealed else None)


def export(store: Store, path: str | os.PathLike[str]) -> Head:
    """Write the whole log to ``path`` (a new file, readable by its owner only); its head.

    Raises ``InvalidInput`` if the file exists: evidence is not overwritten.
    """
    target, end, rows = Path(path), Head(0, GENESIS), 0
    try:
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as error:
        raise InvalidInput(f"path={os.fspath(path)!r} exists; an export never overwrites another") from error
    with os.fdopen(descriptor, "w", encoding="utf-8", newline="\n") as file:
        for event in store.events():
            file.write(_line(_row(event)) + "\n")
            end, rows = Head(event.seq, event.hash), rows + 1
        file.write(_trailer(end, rows) + "\n")
        file.flush()
        os.fsync(file.fileno())
    return end


def verify_export(path: str | os.PathLike[str], sealed: Head | None = None) -> list[str]:
    """What is wrong with an export, empty when every byte is as it was written; ``sealed`` as for ``verify``, taken
    when or before it was exported."""
    try:
        data = Path(path).read_bytes()
    except FileNotFoundError as error:
        raise NotFound(f"path={os.fspath(path)!r}: no such export") from error
    *lines, rest = data.split(b"\n")
    if rest or not lines:
        return ["export: it does not end with a line end: its end is missing"]
    rows: list[Row] = []
    try:
        rows += [_parse(line, number) for number, line in enumerate(lines[:-1], 1)]
    except InvalidInput as error:
        return [f"export: {error}"]
    end = Head(rows[-1].seq, rows[-1].hash) if rows else Head(0, GENESIS)
    found = [problem.replace("log:", "export:") for problem in problems(rows)]
    if not found and lines[-1] != _trailer(end, len(rows)).encode():
        found = ["export: the last line does not say how many rows there are and how they end"]
    hashes = {row.seq: row.hash for row in rows}
    return found or _against(sealed, hashes.get(sealed.seq) if sealed else None)


def _against(sealed: Head | None, found: str | None) -> list[str]:
    if sealed is None or sealed == Head(0, GENESIS) or found == sealed.hash:
        return []
    if found is None:
        return [f"log: it ends before row {sealed.seq}, which was sealed: rows are missing at its end"]
    return [f"log: row {sealed.seq} is not the one that was sealed: the log was written anew"]


def _hash_at(store: Store, seq: int) -> str | None:
    events: Iterable[Event] = store.events(since=seq - 1, limit=1) if seq else ()
    return next((event.hash for event in events if event.seq == seq), None)


def _row(event: Event) -> Row:
    details = details_json(event.details)
    return Row(
        event.seq, micros(event.at), event.actor, event.action, event.cube, event.version, event.reason, details,
        event.hash,
    )  # fmt: skip


def _line(row: Row) -> str:
    return strict_json.dumps(row._asdict())


def _trailer(end: Head, rows: int) -> str:
    return strict_json.dumps({"lamina.audit": FORMAT, "rows": rows, "head": str(end)})


def _parse(line: bytes, number: int) -> Row:
    """A row whose line is exactly as it would be written."""
    try:
        value: Any = strict_json.loads(line.decode(), max_bytes=_MAX_LINE)
    except (InvalidInput, UnicodeDecodeError) as error:
        raise InvalidInput(f"line {number} cannot be read: {error}") from error
    if not isinstance(value, dict) or list(value) != _KEYS or not all(_typed(value)):
        raise InvalidInput(f"line {number} is not a row of the log")
    row = Row(**value)
    if _line(row).encode() != line:
        raise InvalidInput(f"line {number} is not written as it was")
    return row


def _typed(value: dict[str, Any]) -> Iterator[bool]:
    for name, item in value.items():
        yield type(item) is (int if name in ("seq", "at", "version") else str)
