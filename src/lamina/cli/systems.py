"""``lamina systems``: the papers in the library, what is claimed of each, and what was measured."""

from __future__ import annotations

from typing import Any

from lamina.cli import output
from lamina.cli.command import PLAIN, Session, command


@command(PLAIN)
def systems(session: Session) -> None:
    """List the papers in the library with their claims, and what was measured for each."""
    from lamina.bench.catalog import overview

    rows = overview()
    output.emit(session.json, rows, lambda screen: _show(screen, rows))


def _show(screen: Any, rows: list[dict[str, Any]]) -> None:
    from rich.table import Table

    from lamina.bench.report import number

    if not rows:
        screen.print("No systems are registered.")
        return
    table = Table("system", "claim", "ours", "baseline", "ratio", "holds", "date")
    for row in rows:
        verdict = {True: "yes", False: "NO", None: "stale" if row["stale"] else "-"}[row["holds"]]
        cells = (
            row["system"],
            row["claim"],
            number(row["ours"]),
            number(row["baseline"]),
            "-" if row["ratio"] is None else f"{number(row['ratio'])}x",
            verdict,
            row["date"] or "-",
        )
        table.add_row(*(output.styled(cell) for cell in cells))
    screen.print(table)
    screen.print(output.styled("Run one with: lamina bench NAME", "dim"))
