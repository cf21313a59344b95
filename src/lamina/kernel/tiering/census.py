"""How much is kept in each form: what ``lamina tiers`` and the dashboard show."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from lamina.cube.cube import MemCube, Scope
from lamina.store.base import Store

FORMS: tuple[Literal["text", "activation", "parameter"], ...] = ("text", "activation", "parameter")


@dataclass(frozen=True, slots=True)
class Count:
    """``cubes`` of a form, their bytes, and how many different memories are in them."""

    tier: str
    cubes: int
    bytes: int
    memories: int


def census(store: Store, scope: Scope) -> list[Count]:
    """What is open in ``scope``, form by form."""
    return [_count(store, scope, form) for form in FORMS]


def _count(store: Store, scope: Scope, form: str) -> Count:
    count, size, made_of = 0, 0, set[str]()
    for cube in _open(store, scope, form):
        count, size = count + 1, size + cube.nbytes
        made_of |= {id for id, _ in cube.header.lineage.derived_from}
    return Count(form, count, size, count if form == "text" else len(made_of))


def _open(store: Store, scope: Scope, form: str) -> Iterator[MemCube]:
    cursor: str | None = None
    while True:
        page = store.query(scope, {"kind": form}, limit=200, cursor=cursor)
        yield from page.cubes
        cursor = page.cursor
        if cursor is None:
            return
