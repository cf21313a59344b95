"""How wide a text will be, without a font at hand: never too little, so that what is placed by it does not overlap.

Widths are those of DejaVu Sans, the widest of the faces that the pages ask for, rounded up by kind of character.
"""

from __future__ import annotations

import unicodedata

SIZE = 12.0  # px of the letters in all drawings
_NARROW, _WIDE = frozenset("iljtfrI.,:;'|!()[]/\\ -’‘"), frozenset("mwMWOQG@%&—…→+=<>~")
_NARROW_EM, _LOWER_EM, _UPPER_EM, _WIDE_EM, _FULL_EM = 0.42, 0.65, 0.78, 1.0, 1.3


def plain(text: str) -> str:
    """One line: white space of all kinds is one space, and nothing that is no character."""
    return " ".join("".join(c if c.isprintable() or c.isspace() else "" for c in text).split())


def width(text: str, size: float = SIZE) -> float:
    """At most so many pixels wide."""
    return size * sum(map(_em, text))


def shorten(text: str, most: float, size: float = SIZE) -> str:
    """``text`` in at most ``most`` pixels, with an ellipsis for what is cut; empty where not even that fits."""
    text = plain(text[:2000])
    if width(text, size) <= most:
        return text
    room = most - width("…", size)
    if room < 0:
        return ""
    kept = 0
    for character in text:
        room -= size * _em(character)
        if room < 0:
            break
        kept += 1
    return text[:kept].rstrip() + "…"


def wrap(text: str, most: float, lines: int, size: float = SIZE) -> tuple[str, ...]:
    """``text`` in at most ``lines`` lines of ``most`` pixels, broken between words where that can be; the last ends in
    an ellipsis if there is more."""
    words, found = plain(text[:2000]).split(" "), list[str]()
    while words and len(found) < lines - 1:
        taken = 1
        while taken < len(words) and width(" ".join(words[: taken + 1]), size) <= most:
            taken += 1
        if width(words[0], size) > most:
            break  # one word longer than a line: it is cut, in the last
        found.append(" ".join(words[:taken]))
        words = words[taken:]
    return (*found, shorten(" ".join(words), most, size)) if words else tuple(found)


def _em(character: str) -> float:
    if character in _NARROW:
        return _NARROW_EM
    if character in _WIDE:
        return _WIDE_EM
    if character.isascii():
        return _UPPER_EM if character.isupper() else _LOWER_EM
    if unicodedata.combining(character) or unicodedata.category(character) in ("Mn", "Me"):
        return 0.0
    return _FULL_EM if unicodedata.east_asian_width(character) in "WF" or ord(character) > 0xFFFF else _WIDE_EM
