"""How an update changes the text of a memory: append, merge or overwrite, all of it or one labelled line.

MemOS, arXiv 2507.03724, section 4.2 (the Update interface: append, merge, overwrite; partial writes by label). A label
is what stands before the first colon of a line ("address: 14 Elm Street"); its parts are separated by semicolons.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

from lamina.errors import InvalidInput
from lamina.text.english.sentences import sentences

Mode = Literal["append", "merge", "overwrite"]


def changed(old: str, told: str, mode: Mode, label: str | None = None) -> str:
    """The new text. Raises ``InvalidInput`` for an empty ``told`` or a label that no line could have."""
    told = told.strip()
    if not told:
        raise InvalidInput("text is empty: an update needs words; to take a memory out of use, archive or retract it")
    if label is None:
        return _whole(old, told, mode)
    if not label.strip() or ":" in label or "\n" in label:
        raise InvalidInput(f"label={label!r:.60}: pass a word or two without a colon or a line break")
    return _line(old, " ".join(told.split()), mode, label.strip())


def _whole(old: str, told: str, mode: Mode) -> str:
    if mode == "overwrite":
        return told
    if mode == "append":
        return f"{old}\n{told}"
    new = _unsaid(
        [told[start:end] for start, end in sentences(told)], [old[start:end] for start, end in sentences(old)]
    )
    return "\n".join([old, *new])


def _line(old: str, told: str, mode: Mode, label: str) -> str:
    """Every other line stays as it is, to the byte."""
    lines = old.split("\n")
    for number, line in enumerate(lines):
        name, colon, value = line.partition(":")
        if colon and name.strip().casefold() == label.casefold():
            has = [part.strip() for part in value.split(";") if part.strip()]
            new = [part.strip() for part in told.split(";") if part.strip()]
            added = _unsaid(new, has) if mode == "merge" else new
            parts = new if mode == "overwrite" else has + added
            lines[number] = line if parts == has else f"{name}: {'; '.join(parts)}"
            return "\n".join(lines)
    return "\n".join([*lines, f"{label}: {told}"])


def _unsaid(new: Sequence[str], known: Sequence[str]) -> list[str]:
    """What of ``new`` is not said in ``known`` already, word for word but for case and punctuation; each once."""
    said = {_plain(one) for one in known}
    kept = []
    for one in new:
        if _plain(one) not in said:
            said.add(_plain(one))
            kept.append(one)
    return kept


def _plain(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.casefold()))
