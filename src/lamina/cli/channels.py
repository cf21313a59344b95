"""``lamina channels``: which attention heads of a model talk to which, and what an edit of them does to its memory.

Without options it reads the weights alone. ``--laundry`` asks the model what is missing from lists, finds the
components that matter with one gradient, edits them, asks about other lists and takes the edit back; ``--out`` keeps
the edit as a ``.cube`` file.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lamina.cli import output
from lamina.cli.command import PLAIN, Session, command
from lamina.errors import InvalidInput

if TYPE_CHECKING:
    from lamina.llm.causal import CausalLM
    from lamina.parameter.channels.components import Head
    from lamina.parameter.channels.composition import CompositionTable

_LENGTHS = (3, 4, 5)
_TAUGHT = 16  # prompts of each length that choose the components


class Kind(StrEnum):
    Q = "q"
    K = "k"
    V = "v"


@command(PLAIN)
def channels(
    session: Session,
    model: Annotated[str, typer.Argument(metavar="[MODEL]", help="As in lamina.toml, without local:.")] = "smollm2",
    kind: Annotated[Kind, typer.Option(help="Heard as queries, keys or values.")] = Kind.Q,
    reader: Annotated[
        list[str] | None, typer.Option("--reader", metavar="LAYER.HEAD", help="Only this listener; repeatable.")
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="How many channels to show.")] = 15,
    plot: Annotated[Path | None, typer.Option(dir_okay=False, metavar="FILE", help="Draw heads against heads.")] = None,
    laundry: Annotated[bool, typer.Option("--laundry", help="Mend the recall of lists, and take it back.")] = False,
    prompts: Annotated[int, typer.Option(min=5, help="Lists of each length to ask, for --laundry.")] = 24,
    each: Annotated[int, typer.Option(min=1, help="Components to double, and to silence, for --laundry.")] = 10,
    out: Annotated[Path | None, typer.Option(dir_okay=False, metavar="FILE", help="Keep the edit as a cube.")] = None,
    seed: Annotated[int, typer.Option(help="Of random directions and lists.")] = 0,
) -> None:
    """Show which attention heads of a local model talk to which; no prompt is needed."""
    from lamina.llm.causal import CausalLM

    if out is not None and not laundry:
        raise InvalidInput(f"--out {str(out)!r} keeps the edit that --laundry makes; add --laundry")
    if laundry and (plot is not None or reader):
        raise InvalidInput("--laundry asks prompts; --reader and --plot show the weights: run them apart")
    lm = CausalLM.load(model)
    if laundry:
        told = _laundry(lm, prompts, each, seed, out)
        output.emit(session.json, told, lambda screen: _show_laundry(screen, told))
        return
    from lamina.parameter.channels.composition import composition_scores

    table = composition_scores(lm, kind.value, [_head(text) for text in reader] if reader else None, seed=seed)
    if plot is not None:
        draw(table, plot)
    rows = [
        {
            "component": str(link.component),
            "reader": str(link.reader),
            "kind": kind.value,
            "score": link.score,
            "z": link.z,
            "distance": link.distance,
        }
        for link in table.top(top)
    ]
    output.emit(session.json, rows, lambda screen: _table(screen, rows))


def draw(table: CompositionTable, file: Path) -> None:
    """How far the loudest component of each head stands out to each reader: an image, or lines for one reader.

    Raises ``MissingDependency`` without matplotlib.
    """
    from lamina._optional import require

    figure = require("matplotlib.figure", "drawing channels").Figure(figsize=(7, 6), layout="constrained")
    heads = table.svd.heads
    if len(table.readers) == 1:
        image = table.heatmap(table.readers[0])
        axes = figure.add_subplot(xlabel="head that writes", ylabel="layer", title=f"heard by {table.readers[0]}")
    else:
        image = table.z.view(len(heads), heads.head_dim, -1).amax(1)
        axes = figure.add_subplot(xlabel="head that reads", ylabel="head that writes")
    drawn = axes.imshow(image.numpy(), aspect="auto", interpolation="nearest", cmap="viridis")
    figure.colorbar(drawn, label=f"highest z of a component ({table.kind})")
    figure.savefig(file)


def _head(text: str) -> Head:
    from lamina.parameter.channels.components import Head

    layer, dot, head = text.partition(".")
    if not dot or not layer.isdecimal() or not head.isdecimal():
        raise InvalidInput(f"--reader {text!r}: give LAYER.HEAD, both from 0, such as 21.5")
    return Head(int(layer), int(head))


def _laundry(lm: CausalLM, count: int, each: int, seed: int, out: Path | None) -> dict[str, Any]:
    from lamina.bench.experiments.channels import laundry_list as task
    from lamina.cube import file
    from lamina.parameter.channels.components import Component, HeadSVD
    from lamina.parameter.channels.edits import WeightDelta

    def lists(number: int, items: int, objects: tuple[str, ...]) -> list[task.Laundry]:
        return task.laundry_list(lm.tokenizer, items, number, seed, objects)

    svd = HeadSVD(lm)
    output.note("One gradient finds the components that matter ...")
    found = task.attribute_laundry(svd, [lists(_TAUGHT, n, task.TRAIN_OBJECTS) for n in _LENGTHS])
    delta = WeightDelta.of(svd, task.chosen_edits(found, each))
    asked = [lists(count, n, task.TEST_OBJECTS) for n in _LENGTHS]
    output.note("Asking about other things, before and after the edit ...")
    before = [task.ask(lm, part) for part in asked]
    with delta.applied():
        after = [task.ask(lm, part) for part in asked]
    if out is not None:
        file.write(delta.to_cube(task="laundry list"), out)
    return {
        "example": asked[0][0].text,
        "accuracy": [
            {
                "items": n,
                "before": old.accuracy,
                "after": new.accuracy,
                "before by place": list(old.by_place()),
                "after by place": list(new.by_place()),
            }
            for n, old, new in zip(_LENGTHS, before, after, strict=True)
        ],
        "edit": [{"component": str(Component(s.layer, s.head, s.k)), "alpha": s.alpha} for s in delta.scaled],
        "bytes": delta.payload.nbytes,
        "file": None if out is None else str(out),
    }


def _show_laundry(screen: Any, told: dict[str, Any]) -> None:
    screen.print(output.styled(told["example"], "dim"))
    _table(screen, told["accuracy"])
    doubled = [row["component"] for row in told["edit"] if row["alpha"] > 1]
    silenced = [row["component"] for row in told["edit"] if row["alpha"] <= 1]
    screen.print(output.styled(f"Doubled: {', '.join(doubled)}\nSilenced: {', '.join(silenced)}"))
    kept = f"; kept in {told['file']}" if told["file"] else ""
    screen.print(output.styled(f"The edit is {told['bytes']} bytes and was taken back{kept}.", "dim"))


def _table(screen: Any, rows: list[dict[str, Any]]) -> None:
    from rich.table import Table

    if not rows:
        screen.print("No head comes before this one.")
        return
    table = Table(*rows[0])
    for row in rows:
        table.add_row(*(output.styled(_cell(row[name])) for name in row))
    screen.print(table)


def _cell(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(_cell(each) for each in value)
    return f"{value:.2f}" if isinstance(value, float) else str(value)
