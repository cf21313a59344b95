"""Pins: which memories somebody holds ready by hand, noted apart from the caches they are held in.

A cache ends when one of its memories changes or is forgotten; that the others are wanted does not. So every pin is a
row of the store's log, about one cube for each owner in a tenant where no search looks. Rows outlive a ``forget``: they
hold ids alone, and whose they are is a digest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from lamina.cube.cube import Header, MemCube, Scope
from lamina.cube.payload import TextPayload
from lamina.kernel.migration import ACTOR
from lamina.kernel.tiering.residents import bundle_name
from lamina.store.base import Store, Write

_PIN, _UNPIN = "pin", "unpin"


def note(store: Store, scope: Scope, ids: Sequence[str], *, pinned: bool) -> None:
    """These memories of ``scope`` are held from now on, or no longer; durable when this returns."""
    if not ids:
        return
    kept = _cube(scope)
    with store.transaction() as tx:
        if tx.newest(kept) is None:
            header = Header(id=kept, scope=Scope(f"{scope.tenant}:pins"), semantic_type="procedure")
            tx.insert([Write(MemCube(header, TextPayload("what is held ready by hand")), actor=ACTOR)])
        tx.note(kept, action=_PIN if pinned else _UNPIN, actor=ACTOR, details={"ids": list(ids)})


def held(store: Store, scope: Scope) -> list[MemCube]:
    """The memories of ``scope`` that are pinned and still there, in the order they were pinned."""
    ids: dict[str, None] = {}
    for row in store.events(cube=_cube(scope)):
        for id in row.details.get("ids", ()):
            if row.action == _PIN:
                ids[id] = None
            else:
                ids.pop(id, None)
    return [cube for id in ids if (cube := store.get(id)) is not None]


def _cube(scope: Scope) -> str:
    return hashlib.sha256(f"pins of {bundle_name(scope)}".encode()).hexdigest()[:32]
