"""Rows for things that have a length, so that no two in a row overlap: each goes into the first row that is free."""

from __future__ import annotations

from collections.abc import Sequence


def rows(spans: Sequence[tuple[float, float]], gap: float = 8.0) -> list[int]:
    """The row of each ``(start, end)``, counted from 0. They are placed by where they begin, so the rows are as few as
    can be (the greedy colouring of an interval graph)."""
    free: list[float] = []  # where each row is free from
    found = [0] * len(spans)
    for number in sorted(range(len(spans)), key=lambda number: (spans[number], number)):
        start, end = spans[number]
        row = next((row for row, ends in enumerate(free) if ends + gap <= start), len(free))
        if row == len(free):
            free.append(end)
        free[row] = max(free[row], end)
        found[number] = row
    return found
