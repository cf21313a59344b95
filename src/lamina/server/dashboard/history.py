"""What became of a memory, version by version: rows of the log in words, and the words that changed."""

from __future__ import annotations

import difflib
import json
import re
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from lamina.cube.cube import MemCube
from lamina.store.base import Event, Store

COMPARED = 20_000  # pairs of equal words that are compared of two texts: time grows with them, and more than once
COMPARED_ON_A_PAGE = 100_000
ACTIONS = {
    "add": "Recorded",
    "update": "Changed",
    "augment": "Said again, with more detail",
    "noop": "Said again",
    "evolve": "Developed",
    "supersede": "Replaced by a newer one",
    "close": "Ended",
    "delete": "Taken out of use",
    "retract": "Retracted",
    "reject": "Rejected",
    "accept": "Accepted",
    "restore": "Brought back",
    "activate": "Confirmed",
    "archive": "Archived",
    "freeze": "Frozen",
    "unfreeze": "Unfrozen",
    "merge": "Merged",
    "promote": "Moved to a faster form",
    "demote": "Moved back",
    "refuse": "Not moved",
}
Words = list[tuple[Literal["same", "ins", "del"], str]]


@dataclass(frozen=True, slots=True)
class Step:
    """A row of the log in words, and what the version it wrote changed."""

    event: Event
    title: str
    text: Words | None
    notes: Words | None


def compared(old: str, new: str) -> Words:
    """What became of the words of ``old`` in ``new``; both as they are if that would take too long to find out."""
    before, after = _words(old), _words(new)
    if _pairs(old, new) > COMPARED:
        return _whole(old, new)
    found: Words = []
    for tag, i, j, k, m in difflib.SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        if tag == "equal":
            found.append(("same", "".join(before[i:j])))
            continue
        gone, came = "".join(before[i:j]), "".join(after[k:m])
        found += [("del", gone)] if gone else []
        found += [("ins", came)] if came else []
    return found


def _whole(old: str, new: str) -> Words:
    """Both as they are."""
    parts: Words = [("del", old), ("ins", new)]
    return [part for part in parts if part[1]]


def _pairs(old: str, new: str) -> int:
    """Pairs of equal words, one of each text."""
    before, after = Counter(_words(old)), Counter(_words(new))
    return sum(count * after[word] for word, count in before.items())


def _words(text: str) -> list[str]:
    """Words and single signs with the blanks behind them, and ends of lines: together the text."""
    return re.findall(r"\w+[^\S\n]*|[^\w\s][^\S\n]*|\s", text)


def steps(store: Store, id: str, versions: Sequence[MemCube], *, last: int) -> Iterator[Step]:
    """The ``last`` rows of the log, oldest first."""
    known, written, left = {one.header.version: one for one in versions}, set[int](), COMPARED_ON_A_PAGE

    def change(old: str, new: str) -> Words:
        nonlocal left
        left -= _pairs(old, new)
        return compared(old, new) if left > 0 else _whole(old, new)

    for event in deque(store.events(cube=id), maxlen=last):
        new, old = known.get(event.version), known.get(event.version - 1)
        text: Words | None = None
        notes: Words | None = None
        if new and old and event.version not in written:
            text = change(old.text, new.text) if new.header.kind == "text" and old.sha256 != new.sha256 else None
            notes = change(notes_of(old), notes_of(new)) if old.header.metadata != new.header.metadata else None
        written.add(event.version)
        yield Step(event, ACTIONS.get(event.action, event.action), text, notes)


def notes_of(cube: MemCube) -> str:
    """Its metadata as a person edits it, empty for none."""
    return json.dumps(dict(cube.header.metadata), ensure_ascii=False, indent=2) if cube.header.metadata else ""
