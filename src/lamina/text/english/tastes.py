"""What somebody likes or dislikes: the whole object, limits included, so that a taste turns round only as a whole.

"I hate pizza" turns "I love pizza" round; "I don't love pizza as much as pasta" or "in the morning" does not.
"""

from __future__ import annotations

import re
from dataclasses import replace

from lamina.text.english.clause import Clause
from lamina.text.english.lexicon import words
from lamina.text.english.numbers import parse_number
from lamina.text.english.readings import BAD_OBJECT, Found
from lamina.text.english.slots import normal

_VAGUE = words("this that it these those them him her you your stuff things")
_TASTE_END = re.compile(
    r"\s*(?:[.;:!?(]| - |,(?! (?:except|unless|only|not|but not|just|if|when)\b)"
    r"|\b(?:because|so(?! (?:much|many|long))|since|although|though|which|who|but(?! (?:not|only)))\b).*$",
    re.S,
)
_TASTE_TAIL = re.compile(
    r"(?:\s+(?:any ?more|any longer|(?<!right )now|these days|nowadays|again|too|as well|a lot|so much"
    r"|very much|a bit|at all|lately|at the moment|the most|instead|either|though|recently|(?:last|this) year"
    r"|in (?:19|20)\d\d|ever))+$"
)


def likes(m: re.Match[str], clause: Clause) -> Found | None:
    """The whole object, to the end of the clause: "hiking in the rain" is not "hiking"."""
    if clause.tense == "past" and not clause.ended:
        return None  # "I loved the show": an occasion, not a taste
    value = _TASTE_TAIL.sub("", _TASTE_END.sub("", clause.rest[m.start("v") :]))
    first = value.lower().split()[0] if value.split() else "it"
    vague = _VAGUE & set(value.lower().split())
    if first in BAD_OBJECT or vague or parse_number(first) is not None or len(value.split()) > 6:
        return None
    return Found("likes", normal(value)) if normal(value) else None


def turned_to(m: re.Match[str], clause: Clause) -> Found | None:
    """A change of taste: its past tense asserts the new one ("I went off coffee")."""
    found = likes(m, replace(clause, tense="present"))
    return found and replace(found, kind="event")


def grew_to_like(m: re.Match[str], clause: Clause) -> Found | None:
    return turned_to(m, clause) if clause.flags & {"grow", "come", "began"} else None
