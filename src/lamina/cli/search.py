"""``lamina search``: the memories that answer a question."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from lamina.cli import output
from lamina.cli.command import OWNER, Session, command
from lamina.errors import InvalidInput

Where = Annotated[str | None, typer.Option(metavar="JSON", help='A filter, such as {"semantic_type": "fact"}.')]
AsOf = Annotated[str | None, typer.Option(metavar="DATE", help="What was known then, instead of now.")]


@command(OWNER)
def search(
    session: Session,
    query: Annotated[str, typer.Argument(help="A question or some words.")],
    count: Annotated[int, typer.Option("-k", min=1, help="How many memories at most.")] = 5,
    as_of: AsOf = None,
    explain: Annotated[bool, typer.Option("--explain", help="Show what each score is made of.")] = False,
    rerank: Annotated[bool, typer.Option("--rerank", help="Let a model look again [LAMINA_RERANKER].")] = False,
    where: Where = None,
) -> None:
    """Find the memories that answer a question, best first."""
    filters = condition(where) | session.ids()
    with session.memory() as memory:
        result = memory.search(query, top_k=count, filters=filters, as_of=as_of, rerank=rerank, explain=explain)
    output.emit(session.json, result, lambda screen: _show(screen, result["results"]))


def condition(where: str | None) -> dict[str, Any]:
    """The ``--where`` option as a dict. Raises ``InvalidInput`` if it is no JSON object."""
    if where is None:
        return {}
    try:
        value = json.loads(where)
    except ValueError as error:
        raise InvalidInput(f"--where {where!r} is not JSON: {error}.") from error
    if not isinstance(value, dict):
        raise InvalidInput(f'--where {where!r}: write a JSON object such as {{"tags": "travel"}}.')
    return value


def _show(screen: Any, rows: list[dict[str, Any]]) -> None:
    if not rows:
        screen.print("Nothing found.")
    for number, row in enumerate(rows, 1):
        line = output.styled(f"{number}. ", "bold")
        line.append_text(output.styled(row["memory"]))
        line.append_text(output.styled(f"  {row['score']:.2f}", "green"))
        screen.print(line)
        if source := row.get("source"):
            said = f"{source['speaker']}, {output.date(source['timestamp'])}"
            screen.print(output.styled(f'   {said}: "{source["text"]}"' if source["id"] != row["id"] else f"   {said}"))
        for name, value in row.get("score_details", {}).items():
            screen.print(output.styled(f"   {name:<12} {value:.3f}", "dim"))
        screen.print(output.styled(f"   {row['id']}", "dim cyan"))
