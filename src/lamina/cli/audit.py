"""``lamina audit``: the log as evidence. Prove it, write it out with its chain, prove what was written out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from lamina.cli import output
from lamina.cli.command import STORE, Session, command


@command(STORE)
def head(session: Session) -> None:
    """Print where the log stands: a number and a hash over all of it. Keep it elsewhere; verify --head proves by it."""
    from lamina.kernel.governing import audit as log

    with session.memory() as memory:
        end = log.head(memory.store)
    result = {"head": str(end), "rows": end.seq}
    output.emit(session.json, result, lambda screen: screen.print(str(end), soft_wrap=True))


@command(STORE)
def export(
    session: Session, file: Annotated[Path, typer.Argument(metavar="FILE", help="A new file; nothing is overwritten.")]
) -> None:
    """Write the whole log to a file: ids, actors, times and reasons with their chain, and no contents."""
    from lamina.kernel.governing import audit as log

    with session.memory() as memory:
        end = log.export(memory.store, file)
    told = f"Wrote the log to {file}. Its head: {end}"
    result = {"file": str(file), "head": str(end), "rows": end.seq}
    output.emit(session.json, result, lambda screen: screen.print(output.styled(told), soft_wrap=True))


@command(STORE)
def verify(
    session: Session,
    file: Annotated[Path | None, typer.Argument(metavar="[FILE]", help="An export; default: the database.")] = None,
    sealed: Annotated[str | None, typer.Option("--head", help="What audit head printed once.")] = None,
) -> None:
    """Prove that no row of the log was changed, removed, added or moved; exit 1 and say where if one was."""
    from lamina.kernel.governing import audit as log

    kept = log.Head.parse(sealed) if sealed is not None else None
    if file is not None:
        problems = log.verify_export(file, kept)
    else:
        with session.memory() as memory:
            problems = log.verify(memory.store, kept)
    result = {"whole": not problems, "problems": problems}
    output.emit(session.json, result, lambda screen: _show(screen, problems, kept is not None))
    if problems:
        raise typer.Exit(1)


def _show(screen: Any, problems: list[str], sealed: bool) -> None:
    for problem in problems:
        screen.print(output.styled(problem, "bold red"), soft_wrap=True)
    if not problems:
        until = "up to the head you kept" if sealed else "as far as a chain can show; keep its head to prove its end"
        screen.print(output.styled(f"The log is whole, {until}.", "green"))


audit = typer.Typer(help="Prove the log, write it out, prove what was written out.", no_args_is_help=True)
audit.command("verify")(verify)
audit.command("export")(export)
audit.command("head")(head)
