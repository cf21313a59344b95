"""``lamina bench``: run the proofs. A thin door to ``lamina.bench.runner``."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from lamina.cli.command import PLAIN, Session, command


class Scale(StrEnum):
    SMOKE = "smoke"
    LAPTOP = "laptop"
    FULL = "full"


@command(PLAIN)
def bench(
    session: Session,
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="A system or a harness.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All that can run here.")] = False,
    seed: Annotated[int, typer.Option(help="Of every random number.")] = 0,
    scale: Annotated[Scale, typer.Option(help="smoke is a check, laptop the experiment.")] = Scale.LAPTOP,
    data: Annotated[Path | None, typer.Option(metavar="PATH", help="A published file, or a folder of them.")] = None,
    system: Annotated[
        list[str] | None, typer.Option(metavar="A,B", help="Memories to compare on conversations; all; repeatable.")
    ] = None,
    plot: Annotated[Path | None, typer.Option(metavar="FILE", help="Draw the one that is run.")] = None,
    answers: Annotated[int, typer.Option(min=0, help="So many questions of locomo are answered by a model.")] = 0,
    reader: Annotated[str | None, typer.Option(metavar="MODEL", help="It answers, for locomo or convomem.")] = None,
    judge: Annotated[str | None, typer.Option(metavar="MODEL", help="It judges the answers; default: nobody.")] = None,
    write: Annotated[bool, typer.Option("--write", help="Keep results, and write the report anew.")] = False,
) -> None:
    """Run proofs and print what was measured. Succeeds only if every claim holds."""
    if bool(names) == everything:
        raise typer.BadParameter("name a system (see: lamina systems) or a harness, or pass --all.")
    from lamina.bench import runner

    code = runner.run(
        None if everything else names,
        seed=seed,
        scale=scale.value,
        data=data,
        systems=system or (),
        plot=plot,
        answers=answers,
        reader=reader,
        judge=judge,
        write=write,
        json=session.json,
    )
    if code:
        raise typer.Exit(code)
