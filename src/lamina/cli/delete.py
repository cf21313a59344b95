"""``lamina delete``: take a memory out of use and keep it in history; ``lamina forget`` erases instead."""

from __future__ import annotations

from lamina.cli import output
from lamina.cli.command import STORE, Session, command
from lamina.cli.show import Id


@command(STORE)
def delete(session: Session, id: Id) -> None:
    """Take a memory out of use. It stays in history; forget erases it."""
    with session.memory() as memory:
        result = memory.delete(id)
    output.emit(session.json, result, lambda screen: screen.print(f"{result['message']}."))
