"""Guarded: a store (and the memory over it) as one principal may see and change it.

Every verb asks ``lamina.kernel.governance`` first. What a principal may not read does not exist for it: ``get``
answers ``None`` and writes raise ``NotFound``, exactly as for an id that was never given out, so that nobody learns
by asking what is there. What it may read but not change raises ``NotPermitted`` with the reason.

Lists are filtered inside the store's query or, where the store ranks by itself (``match``), by walking its ranking
until enough permitted ones are found: never by cutting first and filtering afterwards. Verbs that are not here are
not offered.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any, Protocol

from lamina.cube.cube import Header, MemCube, Scope, State, now
from lamina.errors import FrozenCube, NotFound, NotPermitted
from lamina.kernel.forgetting import Forgetting, reach
from lamina.kernel.governance import Action, Context, Deny, Form, Principal, check, granted, narrowed, require
from lamina.store.base import Edge, Event, Filter, Page, Store, Vector, Write
from lamina.text.base import Hit


class Searcher(Protocol):
    """What of ``lamina.memory.Memory`` a guarded search needs: ``where`` is applied before ranking."""

    def hits(self, query: str, scope: Scope, *, top_k: int = 20, where: Filter | None = None) -> list[Hit]: ...


class Guarded:
    """``store`` for ``principal``. ``searcher`` (a ``Memory``) is what ``search`` asks; ``forgetting``
    is called with ids, actor and reason once governance has agreed, also about frozen descendants, and erases
    everywhere (default: ``Forgetting`` without caches and exports)."""

    def __init__(
        self,
        store: Store,
        principal: Principal,
        *,
        searcher: Searcher | None = None,
        forgetting: Callable[[list[str], str, str], list[str]] | None = None,
    ) -> None:
        self.principal = principal
        self._store = store
        self._searcher = searcher
        self._forgetting = forgetting or self._forget_here

    # -- reading ---------------------------------------------------------------------------------

    def get(self, id: str, *, version: int | None = None) -> MemCube | None:
        """A memory the principal may read, by the rules of its newest version; ``None`` for any other."""
        newest = self._store.get(id)
        if newest is None or not check(self.principal, "read", newest):
            return None
        return newest if version is None else self._store.get(id, version=version)

    def readable(self, id: str) -> MemCube:
        """``get`` that raises ``NotFound``."""
        cube = self.get(id)
        if cube is None:
            raise NotFound(f"there is no memory {id!r}")
        return cube

    def known(self, id: str) -> MemCube:
        """A memory that the principal has the right to read, also if it expired and nobody may: to ask where it is, or
        to take it away, is not to read it. Raises ``NotFound``."""
        cube = self._store.get(id)
        if cube is None or not granted(self.principal, "read", cube):
            raise NotFound(f"there is no memory {id!r}")
        return cube

    def as_of(self, id: str, moment: datetime) -> MemCube | None:
        """The version that was current at ``moment``."""
        known = [one for one in self.versions(id) if one.header.recorded <= moment]
        last = known[-1] if known else None
        ended = last is not None and last.header.superseded is not None and last.header.superseded <= moment
        return None if ended else last

    def versions(self, id: str) -> list[MemCube]:
        """All versions, oldest first; none of a memory that may not be read."""
        return self._store.versions(id) if self.get(id) is not None else []

    def history(self, id: str) -> list[Event]:
        """The log's rows about a memory that may be read. Those of one that was forgotten name no tenant any more:
        they are in the audit's export alone."""
        return list(self._store.events(cube=id)) if self.get(id) is not None else []

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
        """``Store.query`` with the rules inside; a page of another tenant is empty."""
        if scope.tenant != self.principal.tenant:
            return Page([], None)
        allowed = narrowed(self.principal, where)
        page = self._store.query(
            scope, allowed, as_of=as_of, closed=closed, limit=limit, cursor=cursor, newest_first=newest_first
        )
        if not closed and as_of is None:
            return page
        # An old version may carry an old policy: whoever lost the right to a memory has lost its past as well.
        return Page([cube for cube in page.cubes if self.get(cube.id) is not None], page.cursor)

    def match(self, text: str, scope: Scope, *, limit: int = 100) -> list[tuple[int, float]]:
        """The best ``limit`` full-text candidates among those that may be read."""
        if scope.tenant != self.principal.tenant:
            return []
        where = narrowed(self.principal, None)
        if where is None:
            return self._store.match(text, scope, limit=limit)
        allowed = set(self._store.keys(scope, where).tolist())
        asked = limit
        while True:
            ranked = self._store.match(text, scope, limit=asked)
            found = [pair for pair in ranked if pair[0] in allowed]
            if len(found) >= limit or len(ranked) < asked:
                return found[:limit]
            asked *= 4

    def search(self, query: str, scope: Scope, *, top_k: int = 20, where: Filter | None = None) -> list[Hit]:
        """``Memory.hits`` over what may be read. Raises ``NotPermitted`` when no searcher was given."""
        if self._searcher is None:
            raise NotPermitted("this guard has no searcher; make it with Guarded(..., searcher=memory)")
        if scope.tenant != self.principal.tenant:
            return []
        return self._searcher.hits(query, scope, top_k=top_k, where=narrowed(self.principal, where))

    def edges(self, scope: Scope, ids: Sequence[str] | None = None, **options: Any) -> list[Edge]:
        """``Store.edges`` whose ends and evidence may all be read."""
        if scope.tenant != self.principal.tenant:
            return []
        found = self._store.edges(scope, ids, **options)
        named = {id for edge in found for id in (edge.source, edge.target, edge.evidence) if id is not None}
        allowed = {id for id in named if self.get(id) is not None} | {None}
        return [edge for edge in found if {edge.source, edge.target, edge.evidence} <= allowed]

    # -- changing --------------------------------------------------------------------------------

    def insert(self, write: Write) -> None:
        """A new memory, under a scope the principal could write to, in one of the states a life begins in."""
        require(self.principal, "write", write.cube)
        if write.cube.header.state not in (State.GENERATED, State.ACTIVE):
            raise NotPermitted(
                f"a memory does not begin as {write.cube.header.state.value}: see lamina.kernel.lifecycle"
            )
        with self._store.transaction() as tx:
            tx.insert([self._signed(write)])

    def update(self, cube: MemCube, vector: Vector | None = None, *, reason: str = "") -> None:
        """Store ``cube`` as the next version of its memory. Its state changes by ``lifecycle`` alone, its trust not at
        all, it becomes no less sensitive, and its policy changes only with the right to share it."""
        old = self._permitted("write", cube.id)
        kept = all(getattr(cube.header, name) == getattr(old.header, name) for name in ("state", "trust"))
        if not kept or not {*old.header.sensitivity} <= {*cube.header.sensitivity}:
            raise NotPermitted(f"an update of memory {cube.id} keeps its state, its trust and what it is sensitive for")
        if cube.header.policy != old.header.policy or cube.header.access != old.header.access:
            self._permitted("export", cube.id)
        write = self._signed(Write(cube, vector, action="update", reason=reason))
        with self._store.transaction() as tx:
            tx.revise(write, expect=cube.header.version - 1)

    def delete(self, id: str, *, reason: str = "") -> None:
        """Close a memory; it stays in history."""
        self._permitted("write", id)
        with self._store.transaction() as tx:
            tx.close(id, at=now(), actor=self.principal.name, reason=reason)

    def forget(self, id: str, *, reason: str = "asked to forget", legal_override: bool = False) -> list[str]:
        """Erase a memory and what was made of it; the ids that went. The turns it was taken from go too, if the
        principal could forget those by themselves."""
        context = Context(legal_override=legal_override)
        self._permitted("forget", id, context)
        for one in reach(self._store, [id], erasable=partial(granted, self.principal, "forget")):
            cube = self._store.get(one)
            if cube is None or cube.header.state is not State.FROZEN:
                continue
            if not check(self.principal, "forget", cube, context):
                raise FrozenCube(
                    f"forgetting {id} would erase the frozen memory {one}: unfreeze it, or override by law"
                )
        return self._forgetting([id], self.principal.name, reason)

    def export(self, id: str, *, destination: str | None = None) -> MemCube:
        """The memory, for a copy that leaves (``destination``: to whom)."""
        return self._permitted("export", id, Context(destination=destination))

    def share(self, id: str, *, destination: str) -> MemCube:
        """The memory, to be given to ``destination``."""
        return self._permitted("share", id, Context(destination=destination))

    def promote(self, id: str, to: Form) -> MemCube:
        """The memory, to be made into a cache or a weight."""
        return self._permitted("promote", id, Context(form=to))

    def demote(self, id: str) -> MemCube:
        """The memory, to be text again: for who may promote it, whatever has become of it."""
        cube = self.known(id)
        if not granted(self.principal, "promote", cube):
            raise NotPermitted(f"{self.principal.name} may not promote memory {id}, nor demote it")
        return cube

    def movable(self, id: str) -> bool:
        """Whether the policy may move it for this principal. What is gone is in nobody's way."""
        cube = self._store.get(id)
        return cube is None or granted(self.principal, "promote", cube)

    def writable(self, id: str) -> MemCube:
        """The memory, to be changed. Raises ``FrozenCube`` as well."""
        cube = self.readable(id)
        if cube.header.state is State.FROZEN:
            raise FrozenCube(f"memory {id} is frozen: unfreeze it first")
        require(self.principal, "write", cube)
        return cube

    def may_write_in(self, scope: Scope) -> None:
        """Raise ``NotPermitted`` unless memories of ``scope`` may be written."""
        verdict = check(self.principal, "write", Header(scope=scope))
        if isinstance(verdict, Deny):
            raise NotPermitted(f"{self.principal.name} may not write memories of {scope}: {verdict.reason}")

    def _permitted(self, action: Action, id: str, context: Context | None = None) -> MemCube:
        cube = self._store.get(id)
        readable = cube is not None and (
            check(self.principal, "read", cube) or (action == "forget" and check(self.principal, action, cube, context))
        )
        if cube is None or not readable:
            raise NotFound(f"there is no memory {id!r}")
        require(self.principal, action, cube, context)
        return cube

    def _signed(self, write: Write) -> Write:
        return replace(write, actor=self.principal.name)

    def _forget_here(self, ids: list[str], actor: str, reason: str) -> list[str]:
        forgetting, mine = Forgetting(self._store), partial(granted, self.principal, "forget")
        return list(forgetting.forget(ids, actor=actor, reason=reason, legal_override=True, erasable=mine).ids)
