"""How values read on a page: bytes, moments, numbers; and the sentences that follow a write."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

# What a page says after a write, by the ``said`` of its address: never words of the address itself.
SAID: Mapping[str, str] = {
    "added": "Remembered.",
    "nothing": "Nothing new was found in that.",
    "changed": "A new version was written; the old one is in the history.",
    "unchanged": "Nothing was changed, so no version was written.",
    "deleted": "Taken out of use. Its history is kept; restore brings it back.",
    "restored": "In use again.",
    "forgotten": "Erased everywhere: text, versions, caches, adapters and what was derived from it.",
    "moved": "Moved.",
    "accepted": "Believed from now on.",
    "archived": "Archived: no search finds it until it is restored.",
    "frozen": "Frozen: nothing changes it until it is unfrozen.",
    "unfrozen": "It can be changed again.",
    "forgotten_but": "Erased here. Files that were exported before may still hold it: remove those by hand.",
}


def number_of_bytes(count: float) -> str:
    """``1536`` is ``1.5 KiB``."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(count) < 1024:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def day(moment: datetime | str | None) -> str:
    """``12 Jun 2026``; a dash for none."""
    found = _moment(moment)
    return f"{found:%-d %b %Y}" if found else "–"


def minute(moment: datetime | str | None) -> str:
    """``12 Jun 2026, 09:30`` (UTC)."""
    found = _moment(moment)
    return f"{found.astimezone(UTC):%-d %b %Y, %H:%M}" if found else "–"


def figure(value: float | None) -> str:
    """Three significant digits, thousands apart."""
    if value is None:
        return "–"
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def count(number: int, one: str, many: str | None = None) -> str:
    """``1 memory``, ``2 memories``."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def said(code: str | None) -> str | None:
    """The sentence of ``SAID``, ``None`` for a code that there is not."""
    return SAID.get(code or "")


def _moment(moment: datetime | str | None) -> datetime | None:
    return datetime.fromisoformat(moment) if isinstance(moment, str) else moment


FILTERS: Mapping[str, Callable[..., Any]] = {
    "bytes": number_of_bytes,
    "day": day,
    "minute": minute,
    "figure": figure,
    "count": count,
}
