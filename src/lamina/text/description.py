"""Who or what a question describes through somebody else: "Ana's mentor", "the mentor of Ana", "my new boss".

No list of relations: any noun after a possessive, before "of NAME", or that somebody "has". Without a tagger the noun
is not told from the adjective before it or the verb after it ("Ana's new mentor work"), so up to three words are kept
in order, and who reads the question takes the first that a memory of the owner uses.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from lamina.store.analysis import STOP_WORDS
from lamina.text.english.lexicon import words
from lamina.text.english.slots import stem

_WORD = r"[^\W\d_][\w-]*"
_OWNED = re.compile(
    rf"(?:\b(?P<o>{_WORD})(?:['’]s|(?<=s)['’])|\b(?:my|our))\s+(?P<w>(?:{_WORD}\s+){{0,2}}{_WORD})", re.I
)
_OF = re.compile(rf"\b(?P<w>{_WORD}) (?:of|to|for) (?:(?:mine|me)\b|(?P<o>{_WORD}))", re.I)
_HAD = re.compile(rf"\b(?P<o>{_WORD}) (?:has|have|had) (?:an?|one) (?P<w>(?:{_WORD} ){{0,1}}{_WORD})", re.I)
_THE = re.compile(rf"\bthe (?P<w>{_WORD}) (?P<o>{_WORD}) (?:has|had|have|works?|chose|found)\b", re.I)
_BEGINNINGS = re.compile(r"\b\w")
_PATTERNS = (_OWNED, _OF, _HAD, _THE)
_NOBODY = words("what where who how when why it that this there here let he she which everyone everybody")


@dataclass(frozen=True, slots=True)
class Described:
    """``owner``: the stem of a word of the name through which it is described, ``None`` for the one who asks.
    ``words``: stems, the likeliest first."""

    owner: str | None
    words: tuple[str, ...]


def described(query: str) -> list[Described]:
    """Every description in ``query``, capital letters or not."""
    found = []
    for owner, said in _matches(query):
        stems = [stem(word) for word in re.findall(_WORD, said.lower()) if word not in STOP_WORDS]
        if stems and (owner is None or owner.lower() not in _NOBODY | STOP_WORDS):
            found.append(Described(owner and stem(owner.lower()), tuple(dict.fromkeys(stems))))
    return list(dict.fromkeys(found))


def owners(query: str) -> list[str]:
    """The words of ``query`` through which something is described, as written: names, also in lower case."""
    return list(dict.fromkeys(owner for owner, _ in _matches(query) if owner and owner.lower() not in _NOBODY))


def _matches(query: str) -> Iterator[tuple[str | None, str]]:
    for pattern in _PATTERNS:
        for start in _BEGINNINGS.finditer(query):  # matches may overlap: "my boss's mentor"
            if (m := pattern.match(query, start.start())) is not None:
                yield m.groupdict().get("o"), m["w"]
