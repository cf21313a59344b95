"""``lamina rhythm``: where the consolidation clock of a memory stands, and doing now what it would do in time.

Neither loads a model, but ``drain --consolidate``: only lessons need one.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from lamina.cli import output
from lamina.cli.command import STORE, Session, command
from lamina.errors import InvalidInput, NotFound

if TYPE_CHECKING:
    from lamina.kernel.memos import MemOS

Row = Mapping[str, Any]


@command(STORE)
def status(session: Session) -> None:
    """Show each level of the clock: its period, how far it has come, what waits, what it did. Writes nothing."""
    with _system(session) as system:
        levels = system.upkeep.status()
        result = {"events": system.upkeep.n, "levels": levels}
    output.emit(session.json, result, lambda screen: _show(screen, result))


@command(STORE)
def drain(
    session: Session,
    consolidate: Annotated[
        bool, typer.Option("--consolidate", help="Also teach adapters what has settled; takes minutes.")
    ] = False,
    archive_idle: Annotated[
        float | None,
        typer.Option(metavar="DAYS", help="Also archive what was neither written nor used for so long."),
    ] = None,
    trace: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A new file: one JSON line for each tick (n, level, work, ms).")
    ] = None,
) -> None:
    """Do now all that is due and all that waits: notes, moves, expiry, indexes. For nightly jobs and shutting down."""
    if archive_idle is not None and not 0 < archive_idle < timedelta.max.days:
        raise InvalidInput(f"--archive-idle {archive_idle:g}: give a positive number of days")
    ticks: list[Row] = []
    with _system(session) as system, _writing(trace) as lines, _progress(session) as told:
        system.upkeep.archive_after = timedelta.max if archive_idle is None else timedelta(days=archive_idle)
        system.upkeep.trace = lambda row: _traced(row, ticks, lines, told)
        system.upkeep.drain(consolidate=consolidate)
        result = {"events": system.upkeep.n, "ticks": ticks, "levels": system.upkeep.status()}
    output.emit(session.json, result, lambda screen: _show(screen, result))


def _system(session: Session) -> MemOS:
    """Raises ``NotFound`` where there is no memory yet: a question about its clock creates none."""
    file = session.settings().database_path
    if not isinstance(file, str) and not file.exists():
        raise NotFound(f"no memory at {str(file)!r}: add something first, or name another with --db")
    return session.memos()


@contextmanager
def _writing(file: Path | None) -> Iterator[TextIO | None]:
    if file is None:
        yield None
        return
    try:
        lines = file.open("x", encoding="utf-8")
    except OSError as error:
        raise InvalidInput(
            f"--trace {str(file)!r}: {error.strerror or error}; name a new file in a folder that exists"
        ) from error
    with lines:
        yield lines


def _traced(row: Row, ticks: list[Row], lines: TextIO | None, told: Callable[[int], None]) -> None:
    ticks.append({name: row[name] for name in ("n", "level", "work", "ms")})
    if lines is not None:
        lines.write(json.dumps(ticks[-1]) + "\n")
        lines.flush()
    told(row["level"] + 1)  # levels run upward


@contextmanager
def _progress(session: Session) -> Iterator[Callable[[int], None]]:
    """Says what is being done; yields a function to be told which level comes next."""
    screen = output.console(stderr=True)
    if session.json or not screen.is_terminal:
        yield lambda _: None
        return
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    from lamina.kernel.rhythms.upkeep import LEVELS

    columns = SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn()
    with Progress(*columns, console=screen, transient=True) as bar:
        task = bar.add_task(LEVELS[0])
        yield lambda level: bar.update(task, description=LEVELS[min(level, len(LEVELS) - 1)])


def _show(screen: Any, result: Row) -> None:
    from rich.table import Table

    did = {row["level"]: row for row in result.get("ticks", ())}
    table = Table("level", "every", "phase", "consumed", "lag", "carry", "work", "does")
    for row in result["levels"]:
        now = f" (+{did[row['level']]['work']:g})" if row["level"] in did else ""
        late = "yellow" if row["lag"] > 2 * row["period"] else ""
        table.add_row(
            f"{row['level']}",
            f"{row['period']}",
            f"{row['phase'] / (2 * math.pi):.0%}",
            f"{row['watermark']}",
            output.styled(f"{row['lag']}", late),
            f"{row['carry']:.1f}",
            f"{row['work']}{now}",
            output.styled(row["does"]),
        )
    screen.print(table)
    screen.print(
        output.styled(f"{result['events']} events were counted: memories written or changed, and calls.", "dim")
    )


rhythm = typer.Typer(help="The clock that says when memories are noted, moved, swept and taught.", no_args_is_help=True)
rhythm.command("status")(status)
rhythm.command("drain")(drain)
