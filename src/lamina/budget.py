"""Byte budgets as people write them: 512MiB, 2GiB, 1.5GB, 300000."""

from __future__ import annotations

import math
import re

from lamina.errors import InvalidInput

_UNITS = {"": 1, "B": 1} | {
    f"{letter}{suffix}": int(base**power)
    for suffix, base in (("B", 1000), ("iB", 1024))
    for power, letter in enumerate("KMGT", start=1)
}
_WRITTEN = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*")
_KNOWN = {unit.lower(): factor for unit, factor in _UNITS.items()}


def parse_bytes(name: str, value: int | str) -> int:
    """``value`` in bytes, at least 1. Raises ``InvalidInput`` that names the argument ``name``."""
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return value
    written = _WRITTEN.fullmatch(value) if isinstance(value, str) else None
    factor = _KNOWN.get(written[2].lower()) if written else None
    if written is None or factor is None or not (count := math.floor(float(written[1]) * factor)):
        raise InvalidInput(f"{name}={value!r:.60}: give bytes as a positive number, or like '512MiB', '2GiB', '300MB'")
    return count


def written(count: int | float) -> str:
    """``count`` bytes for people, in binary units: ``1.5 MiB``."""
    size = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(size) < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"
