"""``lamina restore``: take back a deletion, or a supersession that was wrong."""

from __future__ import annotations

from lamina.cli import output
from lamina.cli.command import STORE, Session, command
from lamina.cli.show import Id


@command(STORE)
def restore(session: Session, id: Id) -> None:
    """Bring a deleted or superseded memory back, with what was closed with it."""
    with session.memory() as memory:
        result = memory.restore(id)
    output.emit(session.json, result, lambda screen: screen.print(f"{result['message']}."))
