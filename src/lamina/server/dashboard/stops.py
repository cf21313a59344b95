"""Where the slider of the memories can stand."""

from __future__ import annotations

from datetime import datetime, timedelta

from lamina.cube.cube import Scope, now
from lamina.store.base import Filter, Store

MOST = 200
MEMORIES: list[Filter] = [{"kind": "text"}, {"semantic_type": {"ne": "entity"}}]
_DAYS = timedelta(days=7)  # a life that is longer is looked at by days


def stops(store: Store, scope: Scope) -> list[datetime]:
    """Where the slider can stand, oldest first: the moments when something changed or, of very many, evenly spaced
    days (moments, of a short life). The last stop, now, is not among them."""
    until = now()
    page = store.query(scope, {"AND": MEMORIES}, closed=True, limit=2 * MOST, newest_first=False)
    cubes = page.cubes
    changed = {at for one in cubes for at in (one.header.recorded, one.header.superseded) if at is not None}
    found = sorted({_shown(at) for at in changed if at < until - timedelta(milliseconds=1)})
    if not found or (page.cursor is None and len(found) <= MOST):
        return found
    first, span = found[0], until - found[0]
    step = span / MOST
    if span > _DAYS:
        first = first.replace(hour=23, minute=59, second=59, microsecond=999_000)
        step = timedelta(days=-(-span.days // MOST))
    return [at for at in (_shown(first + n * step) for n in range(MOST)) if at < until]


def _shown(at: datetime) -> datetime:
    """The next whole millisecond: what a field of a form can hold."""
    return at + timedelta(microseconds=-at.microsecond % 1000)
