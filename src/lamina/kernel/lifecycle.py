"""MemLifecycle: the states of a memory, the ways between them as data, and the verbs that walk them.

MemOS: A Memory OS for AI System, arXiv 2507.03724, sections 4 and 5.2. A transition is one new version (so that
``as_of`` knows the state of any day) and one row of the log, whose details hold the old and the new state. Two
states are not written into a version: *deleted* is a memory that was closed with nothing in its place, and a
memory that another one superseded counts as *archived*.

Rules of freezing are kept by the store itself (``FrozenCube``), since every writer passes there; freezing and
unfreezing take the role ``governance``. What may never be undone, erasing, is ``lamina.kernel.forgetting``.

Unusual: a memory counts as idle by when it was last *written or used*, not by ``recorded``: conversations of last
year imported today are new here, and must not be archived tonight. Transitions keep payload and vector.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Protocol

from lamina.cube.cube import Lineage, MemCube, Scope, State, new_id, now
from lamina.errors import FrozenCube, IllegalTransition, InvalidInput, NotFound, NotPermitted
from lamina.kernel.governance import GOVERNANCE, Principal
from lamina.store.base import Edge, Filter, Store, Transaction, Vector, Write

ARCHIVE_AFTER = timedelta(days=90)  # without being written or used
_PAGE = 500
_G, _A, _M, _R, _F, _D = (
    State.GENERATED, State.ACTIVE, State.MERGED, State.ARCHIVED, State.FROZEN, State.DELETED,
)  # fmt: skip

# (from, to) -> the action its log row has. Anything else is an ``IllegalTransition``. From frozen a memory goes back
# to the state it was frozen in, and to no other.
TRANSITIONS: Mapping[tuple[State, State], str] = {
    (_G, _A): "activate",
    (_G, _M): "merge",
    (_A, _M): "merge",
    (_G, _R): "archive",
    (_A, _R): "archive",
    (_M, _R): "archive",
    (_R, _A): "restore",
    (_D, _A): "restore",  # a retraction taken back; what was forgotten is not there to be restored
    **{(state, _F): "freeze" for state in (_G, _A, _M, _R)},
    **{(_F, state): "unfreeze" for state in (_G, _A, _M, _R)},
    **{(state, _D): "retract" for state in (_G, _A, _M, _R)},
}

KERNEL = Principal(tenant="*", agent="kernel", roles=frozenset({GOVERNANCE}))  # the sweep's name in the log
LastUse = Callable[[MemCube], datetime | None]


class Read(Protocol):
    """``Store.get``: a memory, by default its newest version."""

    def __call__(self, id: str, /, *, version: int | None = None) -> MemCube | None: ...


@dataclass(frozen=True, slots=True)
class Swept:
    """Ids that a sweep closed because their time was over, and that it archived."""

    expired: list[str]
    archived: list[str]


def state_of(cube: MemCube) -> State:
    """The state of a newest version, from its header and from how it was closed."""
    header = cube.header
    if header.superseded is None:
        return header.state
    return State.DELETED if header.superseded_by is None else State.ARCHIVED


def transition(store: Store, id: str, to: State, *, actor: Principal, reason: str) -> MemCube:
    """Take a memory to the state ``to``; its newest version afterwards.

    Raises ``IllegalTransition``; ``NotPermitted`` for freezing without the role; ``FrozenCube`` for a change of a
    frozen memory; ``NotFound``.
    """
    with store.transaction() as tx:
        _move(tx, store, id, to, actor, reason)
    return _known(store.get(id), id)


def _move(tx: Transaction, store: Store, id: str, to: State, actor: Principal, reason: str) -> None:
    cube = _known(tx.newest(id), id)
    since = state_of(cube)
    action = TRANSITIONS.get((since, to))
    if since is _F and to is _D:
        raise FrozenCube(f"memory {id!r} is frozen: unfreeze it before it is retracted")
    if action is None:
        ways = sorted(other.value for state, other in TRANSITIONS if state is since)
        raise IllegalTransition(f"memory {id!r} is {since.value}: it can become {', '.join(ways)}, not {to.value}")
    if _F in (since, to) and GOVERNANCE not in actor.roles:
        raise NotPermitted(f"{actor.name} may not {action} memory {id}: it takes the role {GOVERNANCE!r}")
    if since is _F and to is not (before := _before_freezing(store, cube)):
        raise IllegalTransition(f"memory {id!r} was {before.value} when it was frozen: it goes back to that")
    told = {"from": since.value, "to": to.value}
    if to is _D:
        tx.close(id, at=now(), action=action, actor=actor.name, reason=reason, details=told)
        return
    header = replace(
        cube.header,
        version=cube.header.version + 1,
        recorded=max(now(), cube.header.recorded),
        state=to,
        superseded=None,
        superseded_by=None,
        lineage=Lineage(((id, cube.header.version),), action),
    )
    write = Write(MemCube(header, cube.payload), store.vector(id), actor.name, action, reason, told)
    tx.revise(write, expect=cube.header.version)


def _before_freezing(store: Store, cube: MemCube) -> State:
    """The state of the version before; a memory that was frozen from the start was active."""
    before = store.get(cube.id, version=cube.header.version - 1)
    return before.header.state if before is not None and before.header.state is not _F else _A


def says_the_same(store: Store, id: str, version: int) -> bool:
    """Whether ``version`` of a memory says what its newest version says and that one still stands.

    States change by new versions too: what was made of version 3 is as good after version 4 froze it. A cache or an
    adapter that names ``(id, version)`` as its parent is stale exactly when this is false.
    """
    newest = store.get(id)
    return newest is not None and still_says(newest, version, store.get)


def still_says(newest: MemCube, version: int, read: Read) -> bool:
    """``says_the_same`` for who has the newest version at hand."""
    if newest.header.superseded is not None:
        return False
    old = newest if newest.header.version == version else read(newest.id, version=version)
    return old is not None and old.sha256 == newest.sha256


def freeze(store: Store, id: str, *, actor: Principal, reason: str) -> MemCube:
    """Nothing may change it until ``unfreeze``; it may be read, copied, promoted."""
    return transition(store, id, _F, actor=actor, reason=reason)


def unfreeze(store: Store, id: str, *, actor: Principal, reason: str) -> MemCube:
    """Back to the state it was frozen in."""
    cube = _known(store.get(id), id)
    return transition(store, id, _before_freezing(store, cube), actor=actor, reason=reason)


def archive(store: Store, id: str, *, actor: Principal, reason: str) -> MemCube:
    """Out of every search that does not ask for archived memories."""
    _refuse_frozen(_known(store.get(id), id))
    return transition(store, id, _R, actor=actor, reason=reason)


def retract(store: Store, id: str, *, actor: Principal, reason: str) -> MemCube:
    """Closed; it stays in history and ``as_of``."""
    return transition(store, id, _D, actor=actor, reason=reason)


def restore(
    store: Store, id: str, *, actor: Principal, reason: str, version: int | None = None, vector: Vector | None = None
) -> MemCube:
    """An archived or retracted memory is active again; with ``version``, it says again what it said then.

    The past is not overwritten: it is written anew, as the next version. ``vector`` is that of the old text, which
    the store keeps of the newest version only. Raises ``NotFound`` for a version that is not there, ``FrozenCube``,
    ``IllegalTransition`` for a merged memory: its child speaks for it.
    """
    _refuse_frozen(_known(store.get(id), id))
    if version is None:
        return transition(store, id, _A, actor=actor, reason=reason)
    with store.transaction() as tx:
        newest, old = _known(tx.newest(id), id), _known(store.get(id, version=version), f"{id} version {version}")
        since = state_of(newest)
        to = since if since in (_G, _A, _F) else _A  # the store refuses one frozen meanwhile
        if since is not to and (since, to) not in TRANSITIONS:
            raise IllegalTransition(f"memory {id!r} is {since.value}: restore what it was merged into")
        header = replace(
            old.header,
            version=newest.header.version + 1,
            recorded=max(now(), newest.header.recorded),
            state=to,
            superseded=None,
            superseded_by=None,
            lineage=Lineage(((id, version),), "restore"),
        )
        told = {"from": since.value, "to": to.value, "version": version}
        same = old.payload == newest.payload
        known = store.vector(id) if vector is None and same else vector
        write = Write(MemCube(header, old.payload), known, actor.name, "restore", reason, told)
        tx.revise(write, expect=newest.header.version)
    return _known(store.get(id), id)


def merge(store: Store, child: MemCube, vector: Vector | None, *, actor: Principal, reason: str) -> MemCube:
    """Store ``child``, made by ``lamina.cube.merge.fuse`` of parents that its lineage names; they become *merged*.

    The child inherits their open edges to others. All in one transaction. Raises ``IllegalTransition`` when a parent
    cannot be merged, ``InvalidInput`` for a child without parents.
    """
    parents = list(dict.fromkeys(id for id, _ in child.header.lineage.derived_from))
    if not parents or child.id in parents:
        raise InvalidInput(f"child {child.id!r} names no parents in its lineage; make it with fuse(parents)")
    with store.transaction() as tx:
        for id in parents:
            cube = _known(tx.newest(id), id)
            _refuse_frozen(cube)
            if cube.header.scope != child.header.scope:
                raise InvalidInput(f"parent {id!r} belongs to {cube.header.scope!r}, the child to another scope")
        edges = tx.edges(parents)
        tx.insert([Write(child, vector, actor.name, "merge", reason, {"to": child.header.state.value})])
        for id in parents:
            _move(tx, store, id, _M, actor, reason)
        tx.connect(list(_inherited(edges, set(parents), child)))
    return child


def _inherited(edges: list[Edge], parents: set[str], child: MemCube) -> Iterator[Edge]:
    """Edges between a parent and somebody else, now of the child."""
    seen = set()
    for edge in edges:
        source = child.id if edge.source in parents else edge.source
        target = child.id if edge.target in parents else edge.target
        evidence = child.id if edge.evidence in parents else edge.evidence
        ends = (source, target, edge.relation, evidence)
        if source != target and child.id in (source, target) and ends not in seen:
            seen.add(ends)
            yield replace(edge, source=source, target=target, evidence=evidence, recorded=child.header.recorded)


def branch(
    store: Store, id: str, *, actor: Principal, reason: str, version: int | None = None, scope: Scope | None = None
) -> MemCube:
    """A copy to try something on: *generated*, version 1, of a new id; the original, frozen or not, is not touched.

    It lives in ``scope`` (default: a run of its own inside the tenant, so that no search of the owner finds it twice),
    and names the original in its lineage, so that forgetting the one reaches the other.
    """
    original = _known(store.get(id, version=version), id)
    copy = new_id()
    header = replace(
        original.header,
        id=copy,
        version=1,
        scope=scope or Scope(original.header.scope.tenant, run=f"branch:{copy}"),
        recorded=now(),
        state=_G,
        superseded=None,
        superseded_by=None,
        lineage=Lineage(((id, original.header.version),), "branch"),
    )
    if header.scope.tenant != original.header.scope.tenant:
        raise InvalidInput(f"scope={scope!r}: a branch stays in its tenant {original.header.scope.tenant!r}")
    vector = store.vector(id) if version is None else None
    with store.transaction() as tx:
        write = Write(MemCube(header, original.payload), vector, actor.name, "branch", reason, {"to": _G.value})
        tx.insert([write])
    return write.cube


def sweep(
    store: Store,
    scope: Scope,
    at: datetime,
    *,
    archive_after: timedelta = ARCHIVE_AFTER,
    last_use: LastUse | None = None,
    actor: Principal = KERNEL,
) -> Swept:
    """Close what expired by ``at`` (reason ``TTL``), archive what was idle for ``archive_after`` (or for the
    ``retention`` its header names). Frozen memories and names of the graph stay. ``last_use``: when a memory was
    used, for callers who count uses outside the header."""
    if archive_after <= timedelta(0):
        raise InvalidInput(f"archive_after={archive_after!r}: a positive time")
    changeable = [_G.value, _A.value, _M.value, _R.value]
    expired = _open(store, scope, {"expires": {"lte": at}, "state": {"in": changeable}})
    with store.transaction() as tx:
        expired = [cube for cube in expired if _as_seen(tx, cube)]
        for cube in expired:
            told = {"from": cube.header.state.value, "to": _D.value}
            tx.close(cube.id, at=at, action="retract", actor=actor.name, reason="TTL", details=told)
    kept: Filter = {"semantic_type": {"ne": "entity"}, "state": {"in": changeable[:3]}}
    early = [cube for cube in _open(store, scope, kept) if _idle(cube, _used(cube, last_use), at, archive_after)]
    idle = [cube for cube in early if _idle(cube, _written(store, cube), at, archive_after)]
    with store.transaction() as tx:
        idle = [cube for cube in idle if _as_seen(tx, cube)]
        for cube in idle:
            _move(tx, store, cube.id, _R, actor, "idle")
    return Swept([cube.id for cube in expired], [cube.id for cube in idle])


def _as_seen(tx: Transaction, cube: MemCube) -> bool:
    """Whether nobody changed it since it was read."""
    newest = tx.newest(cube.id)
    return newest is not None and newest.header == cube.header


def _open(store: Store, scope: Scope, where: Filter) -> list[MemCube]:
    """Memories that nothing closed, expired ones too."""
    condition: Filter = {"AND": [{"superseded": None}, where]}
    found, cursor = [], None
    while True:
        page = store.query(scope, condition, closed=True, limit=_PAGE, cursor=cursor, newest_first=False)
        found += page.cubes
        if (cursor := page.cursor) is None:
            return found


def _idle(cube: MemCube, last: datetime, at: datetime, archive_after: timedelta) -> bool:
    days = cube.header.retention
    return at - last >= (archive_after if days is None else timedelta(days=days))


def _used(cube: MemCube, last_use: LastUse | None) -> datetime:
    moments = (cube.header.recorded, cube.header.usage.last, last_use(cube) if last_use else None)
    return max(moment for moment in moments if moment is not None)


def _written(store: Store, cube: MemCube) -> datetime:
    """By the wall clock: when the log last mentions it."""
    return max(event.at for event in store.events(cube=cube.id))


def _refuse_frozen(cube: MemCube) -> None:
    """Only ``unfreeze`` leads out of frozen, even where the state it leads to is the one asked for."""
    if state_of(cube) is _F:
        raise FrozenCube(f"memory {cube.id!r} is frozen: unfreeze it first")


def _known(cube: MemCube | None, id: str) -> MemCube:
    if cube is None:
        raise NotFound(f"there is no memory {id!r}: it was never here, or it was forgotten")
    return cube
