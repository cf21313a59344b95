"""The tables of architectures in one trunk: one a task, the best first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lamina.bench.report_table import Table, number

_COLUMNS = ("block", "right answers", "least-most", "tail", "steps", "parameters", "state B", "B read a token", "CPU s")


def architecture_tables(document: Mapping[str, Any]) -> list[Table]:
    """The tables of ``lamina bench architectures``'s document."""
    rows = document.get("rows", ())
    tasks = dict.fromkeys(row["task"] for row in rows)
    return [Table(task, _COLUMNS, _cells([row for row in rows if row["task"] == task])) for task in tasks]


def _cells(rows: list[Mapping[str, Any]]) -> tuple[tuple[str, ...], ...]:
    ordered = sorted(rows, key=lambda row: -row["right"])
    return tuple(
        (
            row["arm"],
            number(row["right"]),
            f"{row['least']:.2f}-{row['most']:.2f}",
            number(row.get("tail")),
            number(row["steps"]),
            f"{row['parameters']:,}",
            f"{row['state_bytes']:,}",
            f"{row['bytes_read_per_token']:,}",
            number(row["cpu_seconds"]),
        )
        for row in ordered
    )
