"""``lamina history``: every change of one memory, with the reason for each."""

from __future__ import annotations

from typing import Any

from lamina.cli import output
from lamina.cli.command import STORE, Session, command
from lamina.cli.show import Id


@command(STORE)
def history(session: Session, id: Id) -> None:
    """Show every change of a memory, oldest first, and why it was made."""
    with session.memory() as memory:
        rows = memory.history(id)
    output.emit(session.json, {"results": rows}, lambda screen: _show(screen, rows))


def _show(screen: Any, rows: list[dict[str, Any]]) -> None:
    for row in rows:
        line = output.styled(f"{output.date(row['updated_at']):<12} {row['action']:<10} ", "dim")
        line.append_text(output.styled(row["new_memory"] or f"ended: {row['old_memory']}"))
        screen.print(line)
        if row["reason"]:
            screen.print(output.styled(f"{'':<23} {row['reason']}", "dim"))
