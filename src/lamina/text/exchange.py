"""Memories as files: Lamina's own JSONL, and what mem0's ``get_all`` returns. Chat logs: ``chat_logs.py``.

* ``jsonl``, written by ``export_lines``: one version of a memory a line, ``{"lamina": 1, "header": ..., "text":
  ...}``, then its connections (``edge_exchange.py``); reading it back restores ids, versions, dates, provenance,
  lineage and links. Vectors are computed anew.
* ``mem0``: the JSON of mem0's ``get_all``, or its list of memories; ids and dates are kept.

Readers check everything they return and name the line or entry that is wrong. Nothing here decides what is
written together: callers hand over chunks, each of which is stored whole or not at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Literal

from lamina.cube import header as headers
from lamina.cube import strict_json
from lamina.cube.cube import Header, MemCube, Provenance, Scope
from lamina.cube.payload import TextPayload
from lamina.errors import InvalidInput
from lamina.llm.base import Embedder
from lamina.store.base import Edge, Store, Transaction, Write
from lamina.text.arguments import clean_text, identity, metadata_dict, short
from lamina.text.edge_exchange import edge_lines, read_edge, write_edges
from lamina.text.turns import to_datetime

Format = Literal["jsonl", "mem0", "chat"]
FORMAT_VERSION = 1
MAX_LINE = 32 << 20  # bytes: the longest text with every character escaped, and its header
MAX_DOCUMENT = 1 << 30  # bytes of a file that is one JSON value


@dataclass(frozen=True, slots=True)
class Counts:
    """What became of a chunk."""

    stored: int = 0
    skipped: int = 0  # already there

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.stored + other.stored, self.skipped + other.skipped)


def detect(text: str) -> Format:
    """Which format a file's text is in. Raises ``InvalidInput`` if it is none of them."""
    first = text.lstrip().partition("\n")[0]
    if first.startswith("{") and '"lamina"' in first[:40]:
        return "jsonl"
    sample = _sample(document(text))
    if "memory" in sample:
        return "mem0"
    if sample.keys() & {"role", "messages", "mapping"}:
        return "chat"
    raise InvalidInput(
        f"the file starts with {short(text[:60])}: expected Lamina's export, mem0's memories or chat messages."
    )


def _sample(value: Any) -> Mapping[str, Any]:
    """The first object of a document, where its entries' keys can be seen."""
    if isinstance(value, Mapping) and isinstance(value.get("results"), list):
        value = value["results"]
    first = value[0] if isinstance(value, list) and value else value
    return first if isinstance(first, Mapping) else {}


def document(text: str) -> Any:
    """The file as one JSON value, or as the list of the values on its lines."""
    body = text.strip()
    lines = [(number, line) for number, line in enumerate(body.split("\n"), 1) if line.strip()]
    if len(lines) > 1 and body.startswith("{") and lines[0][1].rstrip().endswith("}"):
        return [_parse(line, f"line {number}", MAX_LINE) for number, line in lines]
    return _parse(body, "the file", MAX_DOCUMENT)


def _parse(text: str, where: str, limit: int) -> Any:
    try:
        return strict_json.loads(text, max_bytes=limit)
    except InvalidInput as error:
        raise InvalidInput(f"{where}: {error}") from error


# -- Lamina's own format -------------------------------------------------------------------------


def export_lines(store: Store, scope: Scope, *, history: bool = False) -> Iterator[str]:
    """Text memories of a scope as JSON lines, oldest first; ``history`` adds closed ones and old versions."""
    cursor: str | None = None
    done: set[str] = set()
    while True:
        page = store.query(scope, {"kind": "text"}, closed=history, limit=500, cursor=cursor, newest_first=False)
        for cube in page.cubes:
            if cube.id not in done:
                done.add(cube.id)
                yield from map(cube_line, store.versions(cube.id) if history else [cube])
        if (cursor := page.cursor) is None:
            break
    yield from edge_lines(store, scope, FORMAT_VERSION, history=history)


def cube_line(cube: MemCube) -> str:
    """One memory as a line of JSON, without its line end."""
    header = strict_json.loads(headers.to_json(cube.header), max_bytes=headers.MAX_HEADER_BYTES)
    return strict_json.dumps({"lamina": FORMAT_VERSION, "header": header, "text": cube.text})


def read_jsonl(lines: Iterable[str]) -> Iterator[MemCube | Edge]:
    """The memories of an export, and the connections between them. Raises ``InvalidInput`` naming the line."""
    for number, line in enumerate(lines, 1):
        if line.strip():
            where = f"line {number}"
            try:
                yield _record(_parse(line, where, MAX_LINE))
            except InvalidInput as error:
                raise InvalidInput(str(error) if str(error).startswith(where) else f"{where}: {error}") from error


def _record(value: Any) -> MemCube | Edge:
    if isinstance(value, Mapping) and value.get("lamina") == FORMAT_VERSION and "edge" in value:
        return read_edge(value["edge"])
    return _cube(value)


def _cube(value: Any) -> MemCube:
    if not isinstance(value, Mapping) or value.get("lamina") != FORMAT_VERSION:
        raise InvalidInput(f'{short(value)}: expected {{"lamina": {FORMAT_VERSION}, "header": ..., "text": ...}}.')
    header = headers.from_json(strict_json.dumps(value.get("header")))
    if header.kind != "text":
        raise InvalidInput(f"a memory of kind {header.kind!r}: JSONL carries text; use a .cube file.")
    return MemCube(header, TextPayload(clean_text("text", value.get("text"), MAX_LINE)))


# -- mem0 ----------------------------------------------------------------------------------------


def read_mem0(text: str, owner: Scope) -> Iterator[MemCube]:
    """Memories of mem0's ``get_all``. A row's own user_id, agent_id and run_id win over ``owner``'s."""
    value = document(text)
    rows = value.get("results") if isinstance(value, Mapping) else value
    if not isinstance(rows, list):
        raise InvalidInput(f"{short(value)}: expected mem0's get_all(), a list of memories.")
    for number, row in enumerate(rows, 1):
        where = f"memory {number}"
        try:
            yield _mem0_cube(row, owner)
        except InvalidInput as error:
            raise InvalidInput(f"{where}: {error}") from error


def _mem0_cube(row: Any, owner: Scope) -> MemCube:
    if not isinstance(row, Mapping) or not isinstance(row.get("memory"), str) or not row["memory"].strip():
        raise InvalidInput(f'{short(row)}: expected an object with "memory".')
    said = row.get("updated_at") or row.get("created_at")
    recorded = to_datetime(said, "created_at").astimezone(UTC) if said else datetime.now(UTC)
    given = {name: row.get(f"{name}_id") for name in ("user", "agent", "run")}
    header = Header(
        id=clean_text("id", row.get("id"), 255),
        scope=replace(owner, **{name: str(identity(f"{name}_id", value)) for name, value in given.items() if value}),
        recorded=recorded,
        provenance=Provenance(extractor="mem0"),
        trust="import",
        metadata=metadata_dict(row.get("metadata")),
    )
    return MemCube(header, TextPayload(clean_text("memory", row["memory"])))


# -- writing memories ----------------------------------------------------------------------------


def rescope(cube: MemCube | Edge, tenant: str, **ids: str | None) -> MemCube | Edge:
    """The memory under ``tenant`` (a file must not choose one) and under the ids that are not ``None``.

    An edge has no owner of its own: it belongs where its ends do.
    """
    if isinstance(cube, Edge):
        return cube
    given = {name: value for name, value in ids.items() if value is not None}
    return replace(cube, header=replace(cube.header, scope=replace(cube.header.scope, tenant=tenant, **given)))


def write_records(store: Store, embedder: Embedder, records: Sequence[MemCube | Edge], tenant: str) -> Counts:
    """Store a chunk as it came: memories in one transaction, then connections between memories of ``tenant``.

    What exists is skipped.
    """
    edges = [record for record in records if isinstance(record, Edge)]
    counts = write_cubes(store, embedder, [record for record in records if isinstance(record, MemCube)])
    return counts + Counts(*write_edges(store, edges, tenant)) if edges else counts


def write_cubes(store: Store, embedder: Embedder, cubes: Sequence[MemCube]) -> Counts:
    """Store a chunk with the headers it came with, in one transaction; versions that exist are skipped."""
    for cube in cubes:
        known = store.get(cube.id)
        if known is not None and known.header.scope != cube.header.scope:
            raise InvalidInput(
                f"memory {cube.id} is here already and belongs to another owner: import it under the owner it was"
                " exported from, or into another database."
            )
    missing = [cube for cube in cubes if store.get(cube.id, version=cube.header.version) is None]
    vectors = iter(embedder.encode([cube.text for cube in missing])) if missing else iter(())
    stored = 0
    with store.transaction() as tx:
        for cube in missing:
            write = Write(cube, next(vectors), actor="import", reason="imported")
            stored += _write(tx, write)
    return Counts(stored, len(cubes) - stored)


def _write(tx: Transaction, write: Write) -> bool:
    version = write.cube.header.version
    newest = tx.newest(write.cube.id)
    if newest is None:
        tx.insert([write])
    elif newest.header.version == version - 1:
        tx.revise(replace(write, action="update"), expect=version - 1)
    else:  # older than what is here, or with versions missing between: what is here stays as it is
        return False
    return True
