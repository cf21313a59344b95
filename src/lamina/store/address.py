"""Addresses of stores: whether one names a server, and how it is shown."""

from __future__ import annotations

import re

_SCHEMES = ("postgresql://", "postgres://")
_PASSWORD = re.compile(r"(?<=://)([^/?#@:]*):[^/?#]*(?=@)|(?<=[?&])((?:ssl)?password)=[^&#]*", re.I)


def is_server(place: object) -> bool:
    """Whether this is the address of a server rather than a path."""
    return str(place).startswith(_SCHEMES)


def without_password(place: str) -> str:
    """An address as it may be shown; a path as it is."""
    if not is_server(place):
        return place
    return _PASSWORD.sub(lambda found: f"{found[1]}:***" if found[1] is not None else f"{found[2]}=***", place)
