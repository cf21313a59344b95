"""``lamina tiers``: what a user's memory takes, form by form."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from lamina.budget import written
from lamina.cli import output
from lamina.cli.command import OWNER, Session, command

_KEEPS = {"text": "read at every use", "activation": "attached, not read", "parameter": "costs nothing to use"}


@command(OWNER)
def tiers(session: Session) -> None:
    """Count memories and bytes in each form: text, caches, adapters."""
    from lamina.kernel.tiering.census import census

    with session.memory() as memory:
        rows = [asdict(count) for count in census(memory.store, session.scope())]
    output.emit(session.json, {"tiers": rows}, lambda screen: _show(screen, rows))


def _show(screen: Any, rows: list[dict[str, Any]]) -> None:
    from rich.table import Table

    table = Table("tier", "cubes", "memories in it", "bytes", "to use it")
    for row in rows:
        table.add_row(row["tier"], f"{row['cubes']}", f"{row['memories']}", written(row["bytes"]), _KEEPS[row["tier"]])
    screen.print(table)
