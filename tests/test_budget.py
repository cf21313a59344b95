"""Byte budgets: what people write is what is meant, and anything else is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamina.budget import parse_bytes, written
from lamina.errors import InvalidInput


@pytest.mark.parametrize(
    ("value", "expected"),
    [(1, 1), ("300", 300), ("512MiB", 512 << 20), ("2 GiB", 2 << 30), ("1.5KB", 1500), ("7b", 7), ("1gib", 1 << 30)],
)
def test_what_people_write(value: int | str, expected: int) -> None:
    assert parse_bytes("budget", value) == expected


@pytest.mark.parametrize("value", [0, -1, True, "", "0", "0.4B", "lots", "-5MiB", "5 XiB", "1e9", None, 1.5])
def test_anything_else_is_refused_by_name(value: object) -> None:
    with pytest.raises(InvalidInput, match="budget="):
        parse_bytes("budget", value)  # type: ignore[arg-type]


@given(st.integers(1, 1 << 50))
def test_what_is_written_reads_back_to_a_twentieth(count: int) -> None:
    assert parse_bytes("n", written(count)) == pytest.approx(count, rel=0.05)
