"""The columns of a scope's index: one row per version of a memory, everything a search asks of a header.

Rows only come (and are marked ``alive = False`` when forgotten). Times are int64 microseconds since 1970 in
UTC; ``NEVER`` stands for "no end", ``ALWAYS`` for "no beginning". Strings are kept as 64-bit hashes or as
numbers of an interned list, never as objects.

A *group* is a verbatim turn and the facts taken from it: all versions of both share one canonical row
(``group``), from which ``head`` and ``sibling`` form a chain through the members.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamina.cube.cube import MemCube, State
from lamina.store.growing import Growing

Rows = NDArray[np.int64]

NEVER = np.iinfo(np.int64).max
ALWAYS = np.iinfo(np.int64).min
PLAIN, TURN, FACT, NODE = 0, 1, 2, 3  # a node is an entity: a name that edges join, no memory to be found

_KINDS = {"entity": NODE}
_LIVE = (State.GENERATED, State.ACTIVE, State.FROZEN)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_TYPES: dict[str, Any] = {
    "key": np.int64,
    "identity": np.int64,  # hash of the cube's id
    "version": np.int32,
    "kind": np.int8,
    "alive": np.bool_,  # not forgotten
    "live": np.bool_,  # in a state that is searched: not merged, archived or deleted
    "asks": np.bool_,  # the text ends with a question
    "recorded": np.int64,
    "superseded": np.int64,
    "successor": np.int64,  # hash of superseded_by, 0 for none
    "valid_from": np.int64,
    "valid_to": np.int64,
    "expires": np.int64,
    "speaker": np.int32,  # number in ``Table.speakers``, -1 for none
    "session": np.int32,  # number in ``Table.sessions``, -1 for none
    "ordinal": np.int64,
    "source": np.int64,  # hash of the id of the turn it was taken from, or its own
    "group": np.int64,  # canonical row
    "sibling": np.int64,  # next member of the group, -1 at the end
    "head": np.int64,  # on canonical rows: the newest member
}


def hashed(text: str) -> int:
    """A 64-bit hash that is the same in every process; 0 is left for "none"."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big", signed=True) or 1


def micros(moment: datetime | None, missing: int = NEVER) -> int:
    return missing if moment is None else (moment - _EPOCH) // _MICROSECOND


class Table:
    """Columns as attributes of arrays: ``table["recorded"]`` is a view, stale after ``extend``."""

    def __init__(self) -> None:
        self._columns = {name: Growing(dtype) for name, dtype in _TYPES.items()}
        self.speakers: dict[str, int] = {}
        self.sessions: dict[str, int] = {}
        self._canonical: dict[int, int] = {}  # source -> canonical row
        self._newest: dict[int, int] = {}  # identity -> row of the highest version
        self._by_key: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._columns["key"])

    def __getitem__(self, column: str) -> NDArray[Any]:
        return self._columns[column].array

    def row_of(self, key: int) -> int | None:
        return self._by_key.get(key)

    def newest(self, identity: int) -> int | None:
        """The row of the highest version of a memory (given by the hash of its id)."""
        return self._newest.get(identity)

    def extend(self, keys: list[int], cubes: list[MemCube]) -> Rows:
        """Append versions; their rows. Groups and newest versions are kept whatever the order of arrival."""
        start = len(self)
        records = [self._record(key, cube) for key, cube in zip(keys, cubes, strict=True)]
        for name, column in self._columns.items():
            column.extend([record[name] for record in records])
        rows = np.arange(start, len(self))
        for row, record in zip(rows.tolist(), records, strict=True):
            self._by_key[record["key"]] = row
            self._join(row, record["source"])
            known = self._newest.get(record["identity"])
            if known is None or self["version"][known] < record["version"]:
                self._newest[record["identity"]] = row
        return rows

    def update(self, row: int, cube: MemCube) -> None:
        """What may change in a version after it was written: how it ended."""
        header = cube.header
        self["superseded"][row] = micros(header.superseded)
        self["successor"][row] = hashed(header.superseded_by) if header.superseded_by else 0
        self["valid_to"][row] = _valid_to(cube)
        self["live"][row] = header.state in _LIVE
        self["expires"][row] = micros(header.expires)

    def bury(self, row: int) -> None:
        """Mark a forgotten version; nothing of it is found again. All versions of a memory are forgotten together."""
        self["alive"][row] = False
        if self["kind"][row] == TURN:
            self["speaker"][[row, self["group"][row]]] = -1

    def members(self, rows: Rows) -> Rows:
        """Every row of the groups that ``rows`` belong to, sorted and distinct."""
        link, found = self["head"][np.unique(self["group"][rows])], []
        while len(link):
            found.append(link)
            link = self["sibling"][link]
            link = link[link >= 0]
        return np.sort(np.concatenate(found)) if found else np.empty(0, np.int64)

    def _join(self, row: int, source: int) -> None:
        canonical = self._canonical.setdefault(source, row)
        self["group"][row] = canonical
        self["sibling"][row] = self["head"][canonical] if canonical != row else -1
        self["head"][canonical] = row
        if self["kind"][row] == TURN:  # who spoke is asked of the canonical row, which may be a fact
            self["speaker"][canonical] = self["speaker"][row]

    def _record(self, key: int, cube: MemCube) -> dict[str, int | bool]:
        header = cube.header
        said, sources = header.utterance, header.provenance.sources
        identity = hashed(cube.id)
        if said is not None:
            kind, source = TURN, identity
        elif sources:  # a note is about its turn and stands with it, but states nothing that could be superseded
            kind, source = PLAIN if header.semantic_type == "note" else FACT, hashed(sources[0].id)
        else:
            kind, source = FACT if header.claim else _KINDS.get(header.semantic_type, PLAIN), identity
        return {
            "key": key,
            "identity": identity,
            "version": header.version,
            "kind": kind,
            "alive": True,
            "live": header.state in _LIVE,
            "asks": said is not None and asks(cube.text),
            "recorded": micros(header.recorded),
            "superseded": micros(header.superseded),
            "successor": hashed(header.superseded_by) if header.superseded_by else 0,
            "valid_from": micros(header.valid_from, ALWAYS),
            "valid_to": _valid_to(cube),
            "expires": micros(header.expires),
            "speaker": -1 if said is None else self.speakers.setdefault(said.speaker, len(self.speakers)),
            "session": -1 if said is None else self._session(cube),
            "ordinal": -1 if said is None else said.ordinal,
            "source": source,
            "group": -1,
            "sibling": -1,
            "head": -1,
        }

    def _session(self, cube: MemCube) -> int:
        scope, said = cube.header.scope, cube.header.utterance
        assert said is not None
        name = repr((scope.tenant, scope.user, scope.agent, scope.run, said.session))
        return self.sessions.setdefault(name, len(self.sessions))

    # -- snapshots -------------------------------------------------------------------------------

    def save(self, folder: Path) -> None:
        """Write the columns as ``table_NAME.npy`` into ``folder``; names of speakers and sessions are not in them."""
        for name, column in self._columns.items():
            np.save(folder / f"table_{name}.npy", column.array, allow_pickle=False)

    @classmethod
    def load(cls, folder: Path, speakers: list[str], sessions: list[str]) -> Table:
        """What ``save`` wrote. Raises ``OSError`` or ``ValueError``."""
        table = cls()
        for name, dtype in _TYPES.items():
            array = np.load(folder / f"table_{name}.npy", mmap_mode="c", allow_pickle=False)
            if array.dtype != dtype or array.ndim != 1:
                raise ValueError(f"column {name} is {array.dtype}{array.shape}")
            table._columns[name] = Growing.over(array)
        if len({len(column) for column in table._columns.values()}) != 1:
            raise ValueError("columns differ in length")
        table.speakers = {name: place for place, name in enumerate(speakers)}
        table.sessions = {name: place for place, name in enumerate(sessions)}
        rows = range(len(table))
        table._by_key = dict(zip(table["key"].tolist(), rows, strict=True))
        order = np.argsort(table["version"], kind="stable")
        table._newest = dict(zip(table["identity"][order].tolist(), order.tolist(), strict=True))
        table._canonical = dict(zip(table["source"].tolist(), table["group"].tolist(), strict=True))
        return table


def asks(text: str) -> bool:
    """Whether the last sentence is a question; a closing note in brackets (such as an image caption) is not text."""
    said = text.rstrip()
    if said.endswith("]") and "[" in said:
        said = said[: said.rindex("[")].rstrip()
    return said.endswith(("?", "？"))


def _valid_to(cube: MemCube) -> int:
    """When it stops to hold, as far as that hides it.

    What happened or was said stays true when it is over. A closed version's end may have become known only when it
    was closed, so it must not hide the version from a question about the time before.
    """
    header = cube.header
    if header.semantic_type in ("event", "turn") or header.superseded is not None:
        return NEVER
    return micros(header.valid_to)
