"""``lamina migrate-store``: everything from a file into a PostgreSQL database."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from lamina._optional import require
from lamina.cli import output
from lamina.cli.command import PLAIN, Session, command
from lamina.errors import InvalidInput, NotFound

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lamina.store.moving import Progress

_FILE = "sqlite://"


@command(PLAIN)
def migrate_store(
    session: Session,
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="A file, or sqlite:///PATH.")],
    target: Annotated[str, typer.Argument(metavar="TARGET", help="An empty database: postgresql://USER@HOST/NAME.")],
) -> None:
    """Copy all memories with their history from a file to a PostgreSQL server, and prove that nothing is missing.

    Stopped half-way, it is continued by running it again. The file is not changed.
    """
    from pathlib import Path

    from lamina.store.address import is_server, without_password

    path = Path(source.removeprefix(_FILE)).expanduser()
    if is_server(source) or not is_server(target):
        raise InvalidInput(
            f"{without_password(source)!r} to {without_password(target)!r}: move a file to postgresql://"
        )
    if not path.is_file():
        raise NotFound(f"SOURCE {str(path)!r}: there is no such file.")
    for package in ("psycopg", "psycopg_pool"):
        require(package, "lamina migrate-store")
    from lamina.store.moving import move_between

    with _progress(session) as progress:
        moved = move_between(str(path), target, progress=progress)
    place = without_password(target)
    told = f"Moved {moved.rows['cubes']} versions, {moved.rows['vectors']} vectors, {moved.rows['edges']} edges and"
    told = f"{told} {moved.rows['log']} rows of the log to {place}. Checksums agree."
    result = {"target": place, "rows": moved.rows, "log_head": moved.log_head}
    output.emit(session.json, result, lambda screen: screen.print(output.styled(told), soft_wrap=True))


@contextmanager
def _progress(session: Session) -> Iterator[Progress]:
    """Rows so far on stderr, where somebody looks at it."""
    screen = output.console(stderr=True)
    if session.json or not screen.is_terminal:
        yield lambda _table, _rows: None
        return
    from rich.progress import Progress as Bar
    from rich.progress import SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.completed} rows, {task.description}"), TimeElapsedColumn())
    with Bar(*columns, console=screen, transient=True) as bar:
        task = bar.add_task("", total=None)
        yield lambda table, rows: bar.update(task, advance=rows, description=table)
