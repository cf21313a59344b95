"""Which machine a number was measured on: enough to compare by, nothing that tells whose it is.

No host name, no user, no path, no address: results are published.
"""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path
from typing import Any


def machine() -> dict[str, Any]:
    """Processor, usable cores, memory in GiB, Python, operating system, and torch's version if it is loaded."""
    found: dict[str, Any] = {
        "cpu": _processor(),
        "cores": _cores(),
        "ram_gib": _memory_gib(),
        "python": platform.python_version(),
        "os": f"{platform.system()} {platform.machine()}",
    }
    if torch := sys.modules.get("torch"):
        found["torch"] = str(torch.__version__)
    return found


def _processor() -> str:
    listing = Path("/proc/cpuinfo")
    if listing.exists():
        for line in listing.read_text().splitlines():
            if line.startswith("model name"):
                return " ".join(line.partition(":")[2].split())
    return platform.processor() or platform.machine()


def _cores() -> int:
    """Cores this process may use, which in a container are fewer than there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _memory_gib() -> float | None:
    if not hasattr(os, "sysconf") or "SC_PHYS_PAGES" not in os.sysconf_names:
        return None
    return round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1)
