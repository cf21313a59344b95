"""``lamina tiers``: what a user's memory takes, form by form."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from lamina.budget import written
from lamina.cli import output
from lamina.cli.command import OWNER, Session, command

if TYPE_CHECKING:
    from lamina.cube.cube import Scope
    from lamina.store.base import Store

_KEEPS = {"text": "read at every use", "activation": "attached, not read", "parameter": "costs nothing to use"}


@command(OWNER)
def tiers(session: Session) -> None:
    """Count memories and bytes in each form: text, caches, adapters."""
    with session.memory() as memory:
        rows = _rows(memory.store, session.scope())
    output.emit(session.json, {"tiers": rows}, lambda screen: _show(screen, rows))


def _rows(store: Store, scope: Scope) -> list[dict[str, Any]]:
    count: Counter[str] = Counter()
    size: Counter[str] = Counter()
    made_of: dict[str, set[str]] = {kind: set() for kind in _KEEPS}
    for kind in _KEEPS:
        cursor: str | None = None
        while True:
            page = store.query(scope, {"kind": kind}, limit=200, cursor=cursor)
            for cube in page.cubes:
                count[kind] += 1
                size[kind] += cube.nbytes
                made_of[kind] |= {id for id, _ in cube.header.lineage.derived_from}
            if (cursor := page.cursor) is None:
                break
    return [
        {
            "tier": kind,
            "cubes": count[kind],
            "bytes": size[kind],
            "memories": count[kind] if kind == "text" else len(made_of[kind]),
        }
        for kind in _KEEPS
    ]


def _show(screen: Any, rows: list[dict[str, Any]]) -> None:
    from rich.table import Table

    table = Table("tier", "cubes", "memories in it", "bytes", "to use it")
    for row in rows:
        table.add_row(row["tier"], f"{row['cubes']}", f"{row['memories']}", written(row["bytes"]), _KEEPS[row["tier"]])
    screen.print(table)
