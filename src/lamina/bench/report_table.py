"""A table of text, and numbers as people read them: what every report is made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Table:
    """Text in rows and columns; ``notes`` are sentences that belong under it."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()


def number(value: float | int | None) -> str:
    """Three significant digits, thousands apart, no exponent; a dash for what was not measured."""
    if value is None:
        return "-"
    if isinstance(value, int) or abs(value) >= 100:
        return f"{value:,.0f}"
    digits = f"{value:.3g}"
    return f"{value:.6f}".rstrip("0") if "e" in digits else digits


def cell(value: Any) -> str:
    """Any value of a result: an interval as ``low to high``."""
    if isinstance(value, list):
        return " to ".join(cell(item) for item in value)
    return number(value) if isinstance(value, int | float) or value is None else str(value)
