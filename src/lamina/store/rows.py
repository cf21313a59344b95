"""A memory as a row of ``cubes``, and back."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from lamina.cube import header as header_json
from lamina.cube.cube import MemCube
from lamina.cube.payload import TensorPayload, TextPayload
from lamina.errors import InvalidInput
from lamina.store.blobs import Blobs, pack, unpack

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")

COLUMNS = (
    "key", "change", "id", "version", "kind", "semantic_type", "tenant", "user_id", "agent_id", "run_id", "state",
    "trust", "importance", "speaker", "role", "session", "ordinal", "created", "recorded", "superseded",
    "superseded_by", "valid_from", "valid_to", "ends", "expires", "subject", "slot", "text_hash", "nbytes", "blob",
    "text", "header",
)  # fmt: skip
INSERT = f"INSERT INTO cubes ({', '.join(COLUMNS)}) VALUES ({', '.join('?' * len(COLUMNS))})"
# What ``from_row`` needs.
SELECTED = "c.superseded, c.superseded_by, c.valid_to, c.blob, c.text, c.header"


def micros(moment: datetime) -> int:
    """Microseconds since 1970 in UTC. Raises ``InvalidInput`` for a time without a zone."""
    if moment.tzinfo is None:
        raise InvalidInput(f"{moment!r} has no time zone; pass a datetime with tzinfo=UTC")
    return (moment - _EPOCH) // _MICROSECOND


def moment(value: int) -> datetime:
    return _EPOCH + timedelta(microseconds=value)


def _micros(value: datetime | None) -> int | None:
    return None if value is None else micros(value)


def to_row(cube: MemCube, key: int, change: int, blobs: Blobs) -> tuple[Any, ...]:
    """Values for ``INSERT``; tensors are written to ``blobs`` first. Raises ``InvalidInput``."""
    h, payload = cube.header, cube.payload
    text, blob = _contents(cube, blobs)
    json = header_json.to_json(h)
    if "\\u0000" in json and _NUL.search(json):
        raise InvalidInput(f"the header of {h.id!r} holds a NUL character, which a database cannot search; remove it")
    said, claim, valid_to = h.utterance, h.claim, _micros(h.valid_to)
    return (
        key, change, h.id, h.version, h.kind, h.semantic_type, h.scope.tenant, h.scope.user, h.scope.agent, h.scope.run,
        h.state.value, h.trust, h.importance, said and said.speaker, said and said.role, said and said.session,
        said and said.ordinal, micros(h.created), micros(h.recorded), _micros(h.superseded), h.superseded_by,
        _micros(h.valid_from), valid_to, valid_to, _micros(h.expires), claim and claim.subject.casefold(),
        claim and claim.slot, payload.sha256, payload.nbytes, blob, text, json,
    )  # fmt: skip


def from_row(row: tuple[Any, ...], blobs: Blobs) -> MemCube:
    """The memory of a row of ``SELECTED``. Raises ``CorruptStore`` when its blob is gone or altered."""
    superseded, superseded_by, valid_to, blob, text, json = row
    header = header_json.from_json(json)
    if superseded is not None and header.superseded is None:  # closed after it was written
        header = replace(
            header,
            superseded=moment(superseded),
            superseded_by=superseded_by,
            valid_to=None if valid_to is None else moment(valid_to),
        )
    return MemCube(header, TextPayload(text) if blob is None else unpack(blobs.read(blob)))


def parents(cube: MemCube, key: int) -> set[tuple[str, int, int]]:
    """Rows of ``parents``: ids this version was made from, by lineage (1) or as quoted sources (0)."""
    made_from = {(id, key, 1) for id, _ in cube.header.lineage.derived_from}
    return made_from | {(source.id, key, 0) for source in cube.header.provenance.sources}


def _contents(cube: MemCube, blobs: Blobs) -> tuple[str | None, str | None]:
    payload, kind = cube.payload, cube.header.kind
    if isinstance(payload, TextPayload) and kind == "text":
        return payload.text, None
    if isinstance(payload, TensorPayload) and kind != "text":
        return None, blobs.write(pack(payload))
    raise InvalidInput(f"header.kind is {kind!r}, but the payload is a {type(payload).__name__}")
