"""Turns as they were said, from the memories that keep them; what a memory has no field for waits in its tags.

A turn that waits for a model is tagged ``pending``. A verbatim memory does not know whether its speaker was named
in the message, nor the zone of its time stamp, and "yesterday" needs it: both are tags as well, until it is read.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, timedelta, timezone, tzinfo

from lamina.cube.cube import MemCube
from lamina.text.base import Turn

PENDING = "pending"
_NAMED = "pending/named"
_FAILED = "pending/attempts:"
_ZONE = "pending/minutes-from-utc:"


def waiting(cube: MemCube, turn: Turn) -> MemCube:
    """``cube``, which keeps ``turn``, tagged as not read yet."""
    minutes = int((turn.at.astimezone(turn.zone).utcoffset() or timedelta(0)).total_seconds() // 60)
    tags = (PENDING, *((_NAMED,) if turn.named else ()), *((f"{_ZONE}{minutes}",) if minutes else ()))
    return replace(cube, header=replace(cube.header, tags=(*cube.header.tags, *tags)))


def is_waiting(cube: MemCube) -> bool:
    return PENDING in cube.header.tags


def attempts(cube: MemCube) -> int:
    """How often its reading failed when it was taken up again."""
    return next((int(tag.removeprefix(_FAILED)) for tag in cube.header.tags if tag.startswith(_FAILED)), 0)


def postponed(cube: MemCube) -> MemCube:
    """The next version of a turn that waits: once more it could not be read."""
    tags = (*(tag for tag in cube.header.tags if not tag.startswith(_FAILED)), f"{_FAILED}{attempts(cube) + 1}")
    return replace(cube, header=replace(cube.header, version=cube.header.version + 1, tags=tags))


def done(cube: MemCube) -> MemCube:
    """The next version of a turn that was waiting: the same, without the tags."""
    tags = tuple(tag for tag in cube.header.tags if tag.partition("/")[0] != PENDING)
    return replace(cube, header=replace(cube.header, version=cube.header.version + 1, tags=tags))


def as_turn(cube: MemCube) -> Turn:
    """The turn a memory keeps. Named and zone are known while it waits, and taken as unnamed and UTC after."""
    said = cube.header.utterance
    assert said is not None
    return Turn(
        cube.text, said.speaker, said.role, cube.header.recorded, said.session, said.ordinal,
        named=_NAMED in cube.header.tags, zone=_zone(cube),
    )  # fmt: skip


def _zone(cube: MemCube) -> tzinfo:
    minutes = next((tag.removeprefix(_ZONE) for tag in cube.header.tags if tag.startswith(_ZONE)), None)
    return UTC if minutes is None else timezone(timedelta(minutes=int(minutes)))
