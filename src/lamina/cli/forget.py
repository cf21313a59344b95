"""``lamina forget``: erase memories for good, after showing which ones."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lamina.cli import output
from lamina.cli.command import OWNER, Session, command
from lamina.errors import InvalidInput, NotFound

if TYPE_CHECKING:
    from lamina.memory import Memory


@command(OWNER)
def forget(
    session: Session,
    id: Annotated[str | None, typer.Argument(metavar="[ID]", help="The memory to erase.")] = None,
    about: Annotated[str | None, typer.Option(metavar="QUERY", help="Erase what a search for this finds.")] = None,
    count: Annotated[int, typer.Option("-k", min=1, help="With --about: the best how many.")] = 1,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    reason: Annotated[str, typer.Option(help="Goes into the log, which keeps no content.")] = "asked to forget",
) -> None:
    """Erase memories, the words they came from and everything taken from those. There is no way back."""
    if (id is None) == (about is None):
        raise typer.BadParameter("give an ID, or --about QUERY.")
    with session.memory() as memory:
        rows = _chosen(session, memory, id, about, count)
        if not yes and not _confirmed(session, rows):
            raise InvalidInput("nothing was erased. Answer y, or pass --yes.", code="CANCELLED")
        gone: list[str] = []
        for row in rows:
            if row["id"] not in gone:
                gone += memory.forget(row["id"], reason=reason)["forgotten"]
    result = {"forgotten": gone}
    output.emit(session.json, result, lambda screen: screen.print(f"Erased {len(gone)} memories for good."))


def _chosen(session: Session, memory: Memory, id: str | None, about: str | None, count: int) -> list[dict[str, Any]]:
    if about is not None:
        found = memory.search(about, top_k=count, filters=session.ids())["results"]
        if not found:
            raise NotFound(f"--about {about!r}: nothing found.")
        return list(found)
    row = memory.get(id or "")
    if row is None:
        raise NotFound(f"ID {id!r}: no such memory. See: lamina list")
    return [row]


def _confirmed(session: Session, rows: list[dict[str, Any]]) -> bool:
    """Show on stderr what would go, with its source, and ask."""
    screen = output.console(stderr=True)
    screen.print("To be erased, with the words they came from and all that was taken from those:")
    for row in rows:
        output.memory_line(screen, row)
        if (source := row.get("source")) and source["id"] != row["id"]:
            screen.print(output.styled(f'{"":<12} from: "{source["text"]}"', "dim"))
    if session.json and not sys.stdin.isatty():
        return False
    return typer.confirm("Erase?", err=True)
