"""Where somebody lives, and what only sounds so: nobody lives in Jira, nor moves to it from Trello."""

from __future__ import annotations

import re

from lamina.text.english.clause import Clause
from lamina.text.english.lexicon import PRODUCTS, TOOLS
from lamina.text.english.readings import NAME, Found, is_name_like
from lamina.text.english.slots import normal

FROM = re.compile(NAME.replace("(?P<v>", r"\bfrom (?P<from>"))  # "moved to X from Y"
# What may stand between "moved" and "to": an object other than these is what was moved ("my savings to Zurich").
ON_THE_WAY = (
    r"(?:back|over|out|down|up|away|off|home|house|in|again|permanently|finally|all|the|way|abroad|across|country|together"
    r"|just|now|recently|countries|cities|states|flats|apartments|here|there|only|yesterday|today|last|this|week|month|year"
    r"|myself|from (?:the )?[\w.'-]+(?: [A-Z][\w.'-]*)*|my family|our family|the family|our lives|my life)"
)


def place(m: re.Match[str], clause: Clause) -> Found | None:
    value = normal(m["v"])
    came = FROM.search(clause.rest)
    if value in TOOLS or (came is not None and normal(came["from"]) in TOOLS):
        return _no_place(value, normal(came["from"]) if came else "", clause.verb)
    if not value or not is_name_like(m["v"]) or re.search(r"\bfor (?:the |a |an |\d|two|three|this|few)", clause.rest):
        return None  # "staying in Rome for a week"
    return Found("residence", value)


def _no_place(tool: str, before: str, verb: str) -> Found | None:
    """ "We moved to Jira from Trello", "I live in Emacs": what is used, if it is clear what for."""
    if before:
        return Found(f"switch.{before}", tool, "event") if verb in ("move", "relocate") else None
    category = PRODUCTS.get(tool)
    return Found(f"uses.{category}", tool, "event") if category else None
