"""``lamina retry``: read the messages that wait for a language model which could not be reached."""

from __future__ import annotations

from lamina.cli import output
from lamina.cli.command import STORE, Session, command


@command(STORE)
def retry(session: Session) -> None:
    """Read the messages that wait for the model of the pipeline."""
    with session.memory() as memory:
        result = memory.retry()
    line = f"{result['extracted']} messages read, {result['waiting']} still wait."
    output.emit(session.json, result, lambda screen: screen.print(line))
