"""The table of caches in fewer bytes: one row a policy and size."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lamina.bench.report_table import Table, number


def frontier_tables(document: Mapping[str, Any]) -> list[Table]:
    """The table of ``lamina bench kv-frontier``'s document."""
    rows = document.get("rows", ())
    figures = [key for row in rows[:1] for key in row if key not in ("policy", "ratio", "times")]
    columns = ("policy", "times fewer bytes", *figures)
    cells = tuple((row["policy"], number(row["times"]), *(number(row.get(key)) for key in figures)) for row in rows)
    return [Table("Context in fewer bytes", columns, cells)] if rows else []
