"""``lamina graph``: the entities of a memory and how they are related."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lamina.cli import output
from lamina.cli.command import OWNER, Session, command
from lamina.errors import InvalidInput

if TYPE_CHECKING:
    from lamina.text.graph import Relation
    from lamina.text.graphs.directory import Entity

Export = Annotated[
    Path | None, typer.Option("--export", metavar="FILE", help="Write it to FILE.graphml or FILE.json.", dir_okay=False)
]
AsOf = Annotated[str | None, typer.Option(metavar="DATE", help="The relations known then, instead of now.")]


@command(OWNER)
def graph(
    session: Session,
    name: Annotated[str | None, typer.Argument(help="An entity; default: all.")] = None,
    hops: Annotated[int, typer.Option(min=1, max=2, help="With NAME: how many steps away.")] = 1,
    as_of: AsOf = None,
    export: Export = None,
) -> None:
    """Show who and what a memory knows, and how they are related (pipeline mem0-graph)."""
    from lamina.text import arguments
    from lamina.text.graph import Graph
    from lamina.text.graphs.export import to_json

    if export is not None and export.suffix not in (".graphml", ".json"):
        raise InvalidInput(f"--export {str(export)!r}: give a file that ends in .graphml or .json.")
    at = arguments.moment("--as-of", as_of, end_of_day=True)
    with session.memory() as memory:
        reader, scope = Graph(memory.store), session.scope()
        if name is None:
            entities, relations = reader.entities(scope), reader.relations(scope, as_of=at)
        else:
            entities, relations = reader.neighbourhood(scope, name, hops=hops, as_of=at)
    if export is not None:
        _write(export, entities, relations)
    result = to_json(entities, relations) | ({"exported": str(export)} if export is not None else {})
    output.emit(session.json, result, lambda screen: _show(screen, result))


def _write(file: Path, entities: list[Entity], relations: list[Relation]) -> None:
    """Raises ``InvalidInput`` if the file cannot be written."""
    from lamina.text.graphs.export import to_graphml, to_json

    if file.suffix == ".json":
        text = json.dumps(to_json(entities, relations), ensure_ascii=False, indent=2) + "\n"
    else:
        text = to_graphml(entities, relations)
    try:
        file.write_text(text, encoding="utf-8", errors="replace")
    except OSError as error:
        raise InvalidInput(f"--export {str(file)!r}: {error.strerror or error}.") from error


def _show(screen: Any, result: dict[str, Any]) -> None:
    if not result["entities"]:
        screen.print("No entities yet. The pipeline mem0-graph builds them (LAMINA_PIPELINE=mem0-graph).")
    for row in result["relations"]:
        line = output.styled(row["source"], "bold")
        line.append_text(output.styled(f" {row['relation']} ", "green"))
        line.append_text(output.styled(row["target"], "bold"))
        if row["valid_from"]:
            line.append_text(output.styled(f"  since {output.date(row['valid_from'])}", "dim"))
        screen.print(line)
    shown = f"{len(result['entities'])} entities, {len(result['relations'])} relations"
    screen.print(output.styled(shown + (f", written to {result['exported']}" if "exported" in result else ""), "dim"))
