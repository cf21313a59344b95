"""``lamina list``: what is remembered, newest first."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from lamina.cli import output
from lamina.cli.command import OWNER, Session, command
from lamina.cli.search import AsOf, Where, condition


@command(OWNER)
def list_(
    session: Session,
    count: Annotated[int, typer.Option("-n", min=1, max=10_000, help="How many at most.")] = 20,
    kind: Annotated[str | None, typer.Option("--type", help="Only these: fact, turn, preference, plan ...")] = None,
    where: Where = None,
    as_of: AsOf = None,
) -> None:
    """List what is remembered, newest first."""
    filters = condition(where) | ({"semantic_type": kind} if kind else {}) | session.ids()
    with session.memory() as memory:
        result = memory.get_all(filters=filters, top_k=count, as_of=as_of)
    output.emit(session.json, result, lambda screen: _show(screen, result))


def _show(screen: Any, result: dict[str, Any]) -> None:
    for row in result["results"]:
        output.memory_line(screen, row)
    if not result["results"]:
        screen.print("Nothing remembered yet. Try: lamina add 'I live in Porto.'")
    if result["cursor"]:
        output.note(f"More than {len(result['results'])}: raise -n to see the rest.")
