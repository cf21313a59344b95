"""``lamina add``: remember a sentence, or what comes through a pipe."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from lamina.cli import output
from lamina.cli.command import OWNER, Session, command
from lamina.errors import InvalidInput


@command(OWNER)
def add(
    session: Session,
    text: Annotated[str, typer.Argument(help="What to remember; - reads it from the standard input.")],
    at: Annotated[str | None, typer.Option(help="When it was said, ISO 8601. Default: now.")] = None,
    speaker: Annotated[str | None, typer.Option(help="Who said it. Default: the user.")] = None,
    meta: Annotated[list[str] | None, typer.Option(metavar="KEY=VALUE", help="Your own labels; repeatable.")] = None,
    no_infer: Annotated[bool, typer.Option("--no-infer", help="Keep the words, take no facts.")] = False,
) -> None:
    """Remember something: the words are kept, facts are taken and compared with what is known."""
    content = sys.stdin.read().rstrip("\n") if text == "-" else text
    message = {"role": "user", "content": content} | ({"name": speaker} if speaker else {})
    with session.memory(new=True) as memory:
        result = memory.add(message, **session.ids(), timestamp=at, metadata=labels(meta or []), infer=not no_infer)
    output.emit(session.json, result, lambda screen: _show(screen, result["results"]))


def labels(pairs: list[str]) -> dict[str, str] | None:
    """``["k=v", ...]`` as a dict. Raises ``InvalidInput`` for a pair without ``=``."""
    for pair in pairs:
        if not pair.partition("=")[0] or "=" not in pair:
            raise InvalidInput(f"--meta {pair!r}: write it as KEY=VALUE.")
    return dict(pair.split("=", 1) for pair in pairs) or None


_DONE = {"ADD": "remembered", "UPDATE": "changed", "DELETE": "ended", "NONE": "known"}


def _show(screen: Any, rows: list[dict[str, Any]]) -> None:
    for row in rows:
        line = output.styled(f"{_DONE[row['event']]:<11}", "green")
        line.append_text(output.styled(row["memory"]))
        line.append_text(output.styled(f"  ({row['semantic_type']})", "dim"))
        screen.print(line)
        if "previous_memory" in row and row["previous_memory"] != row["memory"]:
            screen.print(output.styled(f"{'':<11}was: {row['previous_memory']} - {row['reason']}", "dim"))
