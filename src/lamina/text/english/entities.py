"""Names and keyphrases of a sentence, without a tagger.

Entities: runs of capitalised words (a single word at the start of a sentence only if it is capitalised elsewhere
too), quoted titles, e-mail addresses, links, and numbers with a unit. Keywords: maximal runs of content words,
the longest and rarest-looking first, without repeating a stem.
"""

from __future__ import annotations

import re

from lamina.text.english.letters import LOWER, UPPER
from lamina.text.english.lexicon import ADVERBS, NEW_PLACES, OPENERS, STOP, words
from lamina.text.english.slots import stem

_SMALL = r"(?:of|de|del|la|the|and|&)"
_CAPITAL = rf"[{UPPER}][\w'’-]*[\w+]"
_RUN = re.compile(rf"(?<![\w'’.@/]){_CAPITAL}(?: (?:{_SMALL} )?(?:{_CAPITAL}|\d+\b))*|(?<!\w)[{UPPER}]{{2,}}\d*\b")
_QUOTED = re.compile(r"[\"“]([^\"“”]{2,60})[\"”]")
_EXACT = re.compile(
    r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+|https?://\S+|\b\d[\d.,]*\s?(?:km|kg|mg|miles?|pounds|dollars|euros|%|cm|lbs?|GB|MB)(?!\w)"
    r"|[$€£]\s?\d[\d.,]*\d|\b[A-Z]+\d+[A-Z\d]*\b"
)
_CALENDAR = words("""
monday tuesday wednesday thursday friday saturday sunday january february march april may june july august september
october november december christmas today yesterday tomorrow tonight mon tue wed thu fri sat sun
""")
_NOT_NAMES = STOP | OPENERS | ADVERBS | _CALENDAR | words("i'm i've i'll i'd im ive it's that's omg lol")
_WORD = re.compile(rf"[{UPPER}{LOWER}][\w'’-]*\w")
_INSIDE = re.compile(rf"[\w,;'’)] ([{UPPER}][\w'’-]*\w)")
MAX_KEYWORDS = 5


def entities(text: str, *, known: frozenset[str] = frozenset()) -> tuple[str, ...]:
    """Names in order of appearance, each once. ``known`` holds words seen capitalised inside other sentences."""
    found: dict[str, None] = {}
    for m in _RUN.finditer(text):
        first = m.start() == 0 or text[: m.start()].rstrip()[-1:] in ("", ".", "!", "?", '"', "“", ":")
        run = _trim(m[0], first)
        if not run or (first and " " not in run and run not in known and not run.isupper()):
            continue
        found.setdefault(run, None)
    for pattern in (_QUOTED, _EXACT):
        for m in pattern.finditer(text):
            found.setdefault(m[m.lastindex or 0].strip(), None)
    return tuple(found)


def names_inside(text: str) -> frozenset[str]:
    """Words capitalised where no sentence begins: names wherever they stand."""
    return frozenset(m[1] for m in _INSIDE.finditer(text) if m[1].lower() not in _NOT_NAMES)


def _trim(run: str, first: bool) -> str:
    """Without determiners, openers and days at either end: "But Anna", "The Lake", "Friday".

    Where no sentence begins (``first`` is false) a capital is meant: "New" in "moved to New York" is the name's.
    """
    parts = re.sub(r"['’]s\b", "", run).split()
    while parts and parts[0].lower().replace("’", "'") in _NOT_NAMES:
        if len(parts) > 1 and parts[0] == "New" and (not first or parts[1].lower() in NEW_PLACES):
            break
        parts.pop(0)
    while parts and (parts[-1].lower() in _NOT_NAMES or parts[-1] in ("of", "the", "and", "&")):
        parts.pop()
    return "" if all(part.isdigit() for part in parts) else " ".join(parts)


def keywords(text: str) -> tuple[str, ...]:
    """At most five phrases of content words, lower case, longest first."""
    phrases: list[list[str]] = [[]]
    end = 0
    for m in _WORD.finditer(text):
        word = m[0].lower().replace("’", "'").removesuffix("'s")
        if word in STOP or word in ADVERBS or text[end : m.start()].strip():
            phrases.append([])
        if word not in STOP and word not in ADVERBS and "'" not in word:
            phrases[-1].append(word)
        end = m.end()
    ranked = sorted((p[:3] for p in phrases if p), key=lambda p: (-len(p), -len(" ".join(p))))
    kept: list[str] = []
    used: set[str] = set()
    for phrase in ranked:
        stems = {stem(word) for word in phrase}
        if not stems <= used:
            used |= stems
            kept.append(" ".join(phrase))
        if len(kept) == MAX_KEYWORDS:
            break
    return tuple(kept)
