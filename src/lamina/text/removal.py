"""Taking memories back: corrected, deleted (kept in history), or forgotten (erased).

A fact and the verbatim turn it was taken from say the same thing twice. Whoever takes one of them back
means both, or search would bring the other one right back. So:

* deleting or correcting a *fact* retires its source turns; other facts of those turns stay;
* deleting a *turn* deletes the facts taken from it;
* forgetting either erases the turn and everything taken from it, because nothing less can be proved;
* what was closed by mistake, by a person or by a rule, can be restored; what was forgotten cannot.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from lamina.cube.cube import Claim, Header, Lineage, MemCube, Scope, now
from lamina.cube.payload import TextPayload
from lamina.llm.base import Embedder
from lamina.store.base import Filter, Store, Transaction, Write


def delete(store: Store, cube: MemCube, at: datetime) -> None:
    """Close a memory, its source turns, and the facts taken from it, in one transaction."""
    with store.transaction() as tx:
        tx.close(cube.id, at=at, reason="deleted by the user")
        retire_sources(store, tx, cube, at, reason=f"source of the deleted memory {cube.id}")
        retire_derived(store, tx, cube, at, reason=f"taken from the deleted turn {cube.id}")


def correct(store: Store, embedder: Embedder, old: MemCube, header: Header, text: str) -> None:
    """A new version of ``old`` with another wording (``header`` is to be its header, but for when and what it claims).

    What it was taken from, or what was taken from it, no longer stands; nor does what was connected because of it.
    """
    vector = embedder.encode([text])[0]
    lineage = Lineage(((old.id, old.header.version),), "update")
    claim = old.header.claim and Claim(old.header.claim.subject, old.header.claim.slot)  # a value rules cannot read
    new = MemCube(replace(header, recorded=now(), lineage=lineage, claim=claim), TextPayload(text))
    at = new.header.recorded
    with store.transaction() as tx:
        tx.revise(Write(new, vector, action="update"), expect=old.header.version)
        retire_sources(store, tx, old, at, reason="corrected by the user", by=old.id)
        retire_derived(store, tx, old, at, reason=f"turn {old.id} was corrected")
        _disconnect(tx, old.id, at)


def _disconnect(tx: Transaction, id: str, at: datetime) -> None:
    """Close the edges that rest on a memory, but for relations that another memory says as well."""
    for edge in tx.edges([id]):
        rivals = (one for one in tx.edges([edge.source]) if one.target == edge.target and one.relation == edge.relation)
        if all(id in (one.source, one.target, one.evidence) for one in rivals):
            tx.disconnect(edge.source, edge.target, edge.relation, at=at)


def restore(store: Store, cube: MemCube) -> list[MemCube]:
    """Take back the closing of a memory, and of the turns and facts that were closed with it; all that is open again.

    Each gets a new version that says and dates the same, so search treats it as if it had never been away, while
    its history keeps that it was. What superseded it stays: two answers are better than a lost one.
    """
    restored = []
    with store.transaction() as tx:
        for old in [cube, *_closed_with(store, cube)]:
            header = replace(
                old.header,
                version=old.header.version + 1,
                superseded=None,
                superseded_by=None,
                valid_to=_end_before_closing(store, old),
                lineage=Lineage(((old.id, old.header.version),), "restore"),
            )
            new = MemCube(header, old.payload)
            tx.revise(Write(new, store.vector(old.id), action="restore"), expect=old.header.version)
            restored.append(new)
    return restored


def _closed_with(store: Store, cube: MemCube) -> list[MemCube]:
    """The turns a memory was taken from and the facts taken from it, if they were closed at the same moment."""
    header = cube.header
    sources = [store.get(id) for id in _sources(store, cube)]
    page = store.query(header.scope, {"recorded": header.recorded}, closed=True, limit=1000)
    taken = [one for one in page.cubes if any(source.id == cube.id for source in one.header.provenance.sources)]
    newest = [store.get(one.id) for one in taken]
    found = {one.id: one for one in (*sources, *newest) if one is not None}
    return [one for one in found.values() if one.header.superseded == header.superseded]


def _end_before_closing(store: Store, cube: MemCube) -> datetime | None:
    """Until when it holds by its own words: an end that its successor set is taken back with the closing."""
    successor = store.get(cube.header.superseded_by) if cube.header.superseded_by else None
    since = successor and (successor.header.valid_from or successor.header.recorded)
    return None if cube.header.valid_to == since else cube.header.valid_to


def delete_all(store: Store, scope: Scope, at: datetime) -> int:
    """Close everything of a scope, expired memories too; how many were closed."""
    with store.transaction() as tx:
        ids = {cube.id for cube in everything(store, scope)}
        return sum(_retire(tx, id, at, reason="delete_all") for id in sorted(ids))


def everything(store: Store, scope: Scope, where: Filter | None = None) -> Iterator[MemCube]:
    """Every version in a scope that passes ``where``, whatever its state."""
    cursor: str | None = None
    while True:
        page = store.query(scope, where, closed=True, limit=1000, cursor=cursor)
        yield from page.cubes
        if (cursor := page.cursor) is None:
            return


def retire_derived(store: Store, tx: Transaction, cube: MemCube, at: datetime, *, reason: str) -> None:
    """Close the facts taken from a turn."""
    for id in store.derived(cube.id):
        _retire(tx, id, at, reason=reason)


def retire_sources(
    store: Store, tx: Transaction, cube: MemCube, at: datetime, *, reason: str, by: str | None = None
) -> None:
    """Close the turns a fact was taken from; ``by`` names what replaces them."""
    for id in _sources(store, cube):
        _retire(tx, id, at, reason=reason, by=by)


def _sources(store: Store, cube: MemCube) -> list[str]:
    """Every turn of the same owner that any version of a memory was taken from: a version names only some of very many.

    A turn of anybody else is no source, whatever a memory says that came from a file: who erases or corrects what is
    theirs must not reach it.
    """
    named = dict.fromkeys(s.id for one in store.versions(cube.id) for s in one.header.provenance.sources)
    return [id for id in named if (turn := store.get(id)) is None or _same_owner(turn, cube)]


def _same_owner(one: MemCube, other: MemCube) -> bool:
    mine, theirs = one.header.scope, other.header.scope
    return (mine.tenant, mine.user) == (theirs.tenant, theirs.user)


def forget(store: Store, embedder: Embedder, ids: Sequence[str], *, reason: str) -> list[str]:
    """Erase memories, the turns they rest on and all that was taken from those; the ids that went."""
    cubes = [cube for id in ids if (cube := store.get(id)) is not None]
    wanted = dict.fromkeys([*ids, *(source for cube in cubes for source in _sources(store, cube))])
    present = {id: cube.header.scope for id in wanted if (cube := store.get(id)) is not None}
    if not present:
        return []
    reached = dict.fromkeys([*present, *(child for id in present for child in store.derived(id))])
    texts = _wordings(store, set(present.values()), list(reached)) + _names_near(store, present, list(reached))
    with store.transaction() as tx:
        gone = tx.forget(list(present), reason=reason)
    embedder.forget(texts)
    return gone


def _wordings(store: Store, scopes: Iterable[Scope], ids: Sequence[str]) -> list[str]:
    """The texts of all versions of ``ids``. What is no text (a cache, an adapter) is not read: it may be large."""
    where = {"AND": [{"kind": "text"}, {"id": {"in": list(ids)}}]}
    return [
        cube.text for tenant in {scope.tenant for scope in scopes} for cube in everything(store, Scope(tenant), where)
    ]


def _names_near(store: Store, present: Mapping[str, Scope], ids: Sequence[str]) -> list[str]:
    """Names of entities that edges join with what ``ids`` say: one that loses its last edge is forgotten with them."""
    edges = [edge for scope in set(present.values()) for edge in store.edges(scope, ids, closed=True)]
    ends = [store.get(id) for id in {id for edge in edges for id in (edge.source, edge.target)}]
    return [cube.text for cube in ends if cube is not None and cube.header.semantic_type == "entity"]


def _retire(tx: Transaction, id: str, at: datetime, *, reason: str, by: str | None = None) -> bool:
    """Close a memory unless it is closed already; whether it was open."""
    cube = tx.newest(id)
    is_open = cube is not None and cube.header.superseded is None
    if is_open:
        tx.close(id, at=at, by=by, reason=reason)
    return is_open
