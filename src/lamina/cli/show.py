"""``lamina show``: everything about one memory."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from lamina.cli import output
from lamina.cli.command import STORE, Session, command
from lamina.errors import NotFound

Id = Annotated[str, typer.Argument(metavar="ID", help="The memory's id, as list and search print it.")]


@command(STORE)
def show(session: Session, id: Id) -> None:
    """Show everything known about one memory."""
    with session.memory() as memory:
        row = memory.get(id)
    if row is None:
        raise NotFound(f"ID {id!r}: no such memory. See: lamina list")
    output.emit(session.json, row, lambda screen: _show(screen, row))


def _show(screen: Any, row: dict[str, Any]) -> None:
    for name, value in row.items():
        if value is not None:
            line = output.styled(f"{name:<15}", "dim")
            line.append_text(output.styled(str(value)))
            screen.print(line)
