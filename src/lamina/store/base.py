"""The Store protocol: where cubes live. SQLite implements it embedded, PostgreSQL for a company.

Rules every store keeps (``tests/contracts/store.py`` proves them for each):

* append-only versions: ``revise`` writes version n+1 and closes n; ``close`` ends a memory and keeps it;
  only ``forget`` erases, and then everywhere: rows, vectors, full-text, blobs, derived indexes;
* a scope is mandatory: no read crosses a tenant, and filters apply *before* ranking;
* one transaction for rows, vectors, full-text and log: all or nothing, durable when it returns;
* the log is append-only, hash-chained, and holds no content;
* indexes are derived: losing one costs time, never a memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from lamina.cube.cube import MemCube, Scope

Vector = NDArray[np.float32]
Filter = Mapping[str, Any]  # see lamina.store.filters for the grammar


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a query; ``cursor`` continues it, ``None`` at the end."""

    cubes: list[MemCube]
    cursor: str | None


@dataclass(frozen=True, slots=True)
class Event:
    """A row of the log: who did what to which version, when (wall clock) and why. Never any content."""

    seq: int
    at: datetime
    actor: str
    action: str  # add, update, supersede, close, delete, forget, restore, ...
    cube: str
    version: int
    reason: str
    details: Mapping[str, Any]
    hash: str


@dataclass(frozen=True, slots=True)
class Change:
    """One version as an index needs it. ``change`` grows with every write; ``gone`` means erase it.

    A version that is closed later comes again with a larger ``change`` and the same ``key``.
    """

    change: int
    key: int  # one number per version, stable
    gone: bool
    cube: MemCube | None  # None iff gone
    vector: Vector | None


@dataclass(frozen=True, slots=True)
class Write:
    """A new cube, or a new version of one, with the vector of its text (unit norm) if it has one."""

    cube: MemCube
    vector: Vector | None = None
    actor: str = "user"
    action: str = "add"
    reason: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """A typed, directed connection between two memories of one scope, and what says so.

    Never deleted but by ``forget``: it is closed (``superseded``) by ``disconnect``, or with an end or its evidence.
    ``valid_from``/``valid_to`` say when it
    holds in the world, ``recorded``/``superseded`` when it was known. It goes when either end or its ``evidence``
    is forgotten; an ``entity`` that loses its last edge that way goes with it.
    """

    source: str  # cube id
    target: str  # cube id
    relation: str
    weight: float = 1.0  # in (0, 1]
    evidence: str | None = None  # id of the cube that says so
    reason: str = ""
    recorded: datetime
    superseded: datetime | None = None
    valid_from: datetime | None = None
    valid_to: datetime | None = None


@dataclass(frozen=True, slots=True)
class Size:
    """Cubes of a kind: how many, their bytes, and of how many memories they were made."""

    kind: str
    cubes: int
    bytes: int
    parents: int


@dataclass(frozen=True, slots=True)
class Reached:
    """A memory found by following edges: over how many, and the strongest product of weights on the way."""

    id: str
    hops: int
    weight: float
    path: tuple[str, ...]  # ids from the start to ``id``, both included


class Transaction(Protocol):
    """Writes that happen together or not at all. Reads through it see them at once."""

    def insert(self, writes: Sequence[Write]) -> None:
        """New cubes. Raises ``Conflict`` if an id exists."""

    def revise(self, write: Write, *, expect: int) -> None:
        """Version ``expect + 1`` of a cube; closes ``expect``. Raises ``Conflict`` if newest != expect, and
        ``FrozenCube`` for a frozen one unless the write's action is ``unfreeze``."""

    def close(
        self,
        id: str,
        *,
        at: datetime,
        by: str | None = None,
        valid_to: datetime | None = None,
        action: str = "delete",
        actor: str = "user",
        reason: str = "",
        details: Mapping[str, Any] | None = None,
    ) -> None:
        """End a memory: ``superseded = at``, ``superseded_by = by``; it stays in history and ``as_of``.

        ``details`` join those of the log row. Raises ``FrozenCube``.
        """

    def forget(
        self, ids: Sequence[str], *, actor: str = "user", reason: str = "", legal_override: bool = False
    ) -> list[str]:
        """Erase all versions of ``ids`` and of everything derived from them; the ids that went.

        Raises ``FrozenCube`` if a frozen memory would go, unless ``legal_override``: the law asks for it.
        """

    def note(
        self, id: str, *, action: str, actor: str = "user", reason: str = "", details: Mapping[str, Any] | None = None
    ) -> None:
        """A row of the log about a memory that is not changed by it (moved to another tier, delivered, refused).

        ``details`` must quote nothing of the memory: rows outlive it. Raises ``NotFound``.
        """

    def newest(self, id: str) -> MemCube | None:
        """The newest version as this transaction sees it, closed or not."""

    def claims(self, scope: Scope, subject: str, slot: str | None = None, *, limit: int = 64) -> list[MemCube]:
        """The newest ``limit`` open facts in exactly this scope whose claim is about ``subject`` (case-folded) and
        ``slot``, oldest first. ``slot=None`` means facts whose claim names any slot: those that rules can decide on.

        The limit bounds the cost of one more "likes": an attribute with one value has one open fact anyway, and
        of one with many the nearest are found by their vectors.
        """

    def connect(self, edges: Sequence[Edge]) -> None:
        """Store edges. An open one with the same ends, relation and evidence is closed first: edges have versions.

        Raises ``NotFound`` for an end or evidence that does not exist, ``InvalidInput`` if they are of two scopes.
        """

    def disconnect(
        self, source: str, target: str, relation: str, *, at: datetime, valid_to: datetime | None = None
    ) -> bool:
        """Close the open edges of these ends and relation, whatever their evidence; whether there were any.

        They stay for ``as_of`` and ``closed=True``. Closing a memory closes the edges that rest on it by itself.
        """

    def edges(self, ids: Sequence[str]) -> list[Edge]:
        """Open edges with one of ``ids`` as an end or as evidence, as this transaction sees them."""


class Store(Protocol):
    def as_tenant(self, tenant: str | None) -> Store:
        """The same store for one tenant alone (``None``: for all), where the database itself keeps tenants apart."""

    def transaction(self) -> AbstractContextManager[Transaction]:
        """Begin a write; commits (durably) on exit, rolls back on an exception."""

    def get(self, id: str, *, version: int | None = None) -> MemCube | None:
        """The newest version (closed or not), or a given one; ``None`` when unknown."""

    def owner(self, id: str) -> Scope | None:
        """Whose the newest version is, without reading what it holds; ``None`` when unknown."""

    def versions(self, id: str) -> list[MemCube]:
        """All versions, oldest first."""

    def query(
        self,
        scope: Scope,
        where: Filter | None = None,
        *,
        as_of: datetime | None = None,
        closed: bool = False,
        limit: int = 100,
        cursor: str | None = None,
        newest_first: bool = True,
    ) -> Page:
        """Cubes of a scope that were open at ``as_of`` (default: are open now); ``closed=True``: all."""

    def keys(self, scope: Scope, where: Filter) -> NDArray[np.int64]:
        """Keys of all versions in a scope that pass a filter: the mask for an indexed search."""

    def changes(self, scope: Scope, since: int = 0) -> Iterator[Change]:
        """Every version of a text in a scope written, closed or forgotten after ``since``, in order of ``change``.

        This is what indexes are made of; tensors have neither words nor vectors, and are not read for it.
        """

    def last_change(self) -> int:
        """The newest change number in the store: one cheap read, so that an index knows it is fresh."""

    def load(self, keys: Sequence[int]) -> list[MemCube]:
        """Cubes by key, in the order asked."""

    def vector(self, id: str) -> Vector | None:
        """The vector of the newest version."""

    def match(self, text: str, scope: Scope, *, limit: int = 100) -> list[tuple[int, float]]:
        """Full-text candidates among open versions: ``(key, score)``, best first. A finder, not a ranker."""

    def derived(self, id: str) -> list[str]:
        """Ids of open memories whose lineage names ``id`` as a parent."""

    def edges(
        self,
        scope: Scope,
        ids: Sequence[str] | None = None,
        *,
        relations: Sequence[str] | None = None,
        as_of: datetime | None = None,
        closed: bool = False,
    ) -> list[Edge]:
        """Edges within a scope with one of ``ids`` as an end or as evidence (default: all of them).

        Open now or at ``as_of``; with ``closed=True`` whatever became of them.
        """

    def reach(
        self,
        scope: Scope,
        ids: Sequence[str],
        *,
        hops: int = 2,
        relations: Sequence[str] | None = None,
        as_of: datetime | None = None,
        limit: int = 100,
    ) -> list[Reached]:
        """What open edges lead to from ``ids``, in either direction: nearest, then strongest first.

        Of a memory with very many edges the strongest are followed.
        """

    def events(self, *, cube: str | None = None, since: int = 0, limit: int | None = None) -> Iterator[Event]:
        """The log, oldest first."""

    def scopes(self, tenant: str) -> list[tuple[Scope, int]]:
        """Every distinct scope of a tenant with the number of its open cubes."""

    def sizes(self, scope: Scope) -> list[Size]:
        """How much is open now in a scope, for each kind of which there is any; counted where it lies, nothing read."""

    def stats(self) -> Mapping[str, Any]:
        """Counts and bytes, for ``lamina doctor``."""

    def verify(self) -> list[str]:
        """Integrity problems found (database, hash chain, blobs), empty when sound."""

    def close(self) -> None: ...
