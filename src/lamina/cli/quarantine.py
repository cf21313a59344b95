"""``lamina quarantine``: what was set aside because nothing bears it out, and a person's word on it."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from lamina.cli import output
from lamina.cli.command import OWNER, Session, command


@command(OWNER)
def quarantine(
    session: Session,
    accept: Annotated[str | None, typer.Option(metavar="ID", help="Believe this one.")] = None,
    reject: Annotated[str | None, typer.Option(metavar="ID", help="Take this one out.")] = None,
) -> None:
    """List statements that were set aside, or decide on one of them."""
    with session.memory() as memory:
        if accept is not None or reject is not None:
            done = memory.accept(accept) if accept is not None else memory.delete(str(reject))
            line = done.get("reason") or done["message"]
            output.emit(session.json, done, lambda screen: screen.print(output.styled(str(line))))
            return
        result = memory.quarantined(**session.ids())
    output.emit(session.json, result, lambda screen: _show(screen, result["results"]))


def _show(screen: Any, rows: list[dict[str, Any]]) -> None:
    if not rows:
        screen.print("Nothing is set aside.")
    for row in rows:
        screen.print(output.styled(f"{row['memory']}  "), output.styled(row["reason"], "yellow"))
        screen.print(output.styled(f"   {row['id']}", "dim cyan"))
