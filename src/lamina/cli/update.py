"""``lamina update``: correct a memory; what it said before stays in its history."""

from __future__ import annotations

from typing import Annotated

import typer

from lamina.cli import output
from lamina.cli.command import STORE, Session, command
from lamina.cli.show import Id


@command(STORE)
def update(
    session: Session, id: Id, text: Annotated[str, typer.Argument(help="What it should say from now on.")]
) -> None:
    """Correct a memory; the old wording stays in its history."""
    with session.memory() as memory:
        result = memory.update(id, text)
    output.emit(session.json, result, lambda screen: screen.print(f"{result['message']}: version {result['version']}."))
