"""Tables of services under load: one column a service, and how the longest run went."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lamina.bench.report_table import Table, cell, number

_APART = ("course", "failures")  # lists


def load_tables(document: Mapping[str, Any]) -> list[Table]:
    """Both tables of ``lamina bench load``'s document."""
    systems: Mapping[str, Mapping[str, Any]] = document.get("systems", {})
    if not systems:
        return []
    keys = [key for key in dict.fromkeys(key for row in systems.values() for key in row) if key not in _APART]
    rows = tuple((key, *(cell(row.get(key)) for row in systems.values())) for key in keys)
    failures = tuple(f"{name}: {said}" for name, row in systems.items() for said in row.get("failures", ())[:3])
    longest = max(systems, key=lambda name: systems[name]["measured_s"])
    return [Table("Under load", ("", *systems), rows, failures), _course(longest, systems[longest]["course"])]


def _course(name: str, parts: list[Mapping[str, float]]) -> Table:
    columns = tuple(dict.fromkeys(key for part in parts for key in part))
    rows = tuple((str(place), *(number(part.get(key)) for key in columns)) for place, part in enumerate(parts, start=1))
    return Table(f"{name}, by tenths of the time", ("tenth", *columns), rows)
