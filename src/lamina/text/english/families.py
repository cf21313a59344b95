"""Find the slot that a parsed clause fills: the rows of its verb, tried in order."""

from __future__ import annotations

import re

from lamina.text.english.clause import Clause
from lamina.text.english.families_life import LIFE
from lamina.text.english.families_things import THINGS
from lamina.text.english.family import Family
from lamina.text.english.lexicon import STOP
from lamina.text.english.limits import is_limited
from lamina.text.english.readings import Found
from lamina.text.english.slots import normal

# The order matters where two rows of a verb fit: "I'm a nurse" comes after everything else that one can be.
FAMILIES: tuple[Family, ...] = LIFE + THINGS

_MANNERED = ("employer", "residence")  # "I don't work full-time at ..." denies the time, not the place

_BY_VERB: dict[str, tuple[Family, ...]] = {}
for _row in FAMILIES:
    for _verb in _row.verbs:
        _BY_VERB[_verb] = (*_BY_VERB.get(_verb, ()), _row)


def by_verb(clause: Clause) -> Found | None:
    """The first family of the clause's verb whose pattern fits the words after it."""
    for family in _BY_VERB.get(clause.verb, ()):
        m = family.pattern.search(clause.rest)
        if m is None:
            continue
        found = family.check(m, clause) if family.check else Found(family.slot, normal(m["v"]))
        if found is not None and found.value != "" and not _is_limited(family, found, m, clause):
            return Found(
                found.slot,
                found.value,
                family.kind if found.kind == "state" else found.kind,
                family.negative or found.negative,
            )
    return None


def _is_limited(family: Family, found: Found, m: re.Match[str], clause: Clause) -> bool:
    """Whether the words deny or end only a part of what they name. Tastes carry their limits in their value;
    a language is looked up in the words."""
    if found.slot in ("likes", "language"):
        return False
    meatless = found.slot == "diet" and clause.verb in ("eat", "touch", "give", "cut") and found.value == "vegetarian"
    if not (clause.negated or meatless or "end" in (family.kind, found.kind)):
        return False
    happened = clause.ended or (not clause.negated and clause.tense != "present") or found.kind == "end"
    mannered = family.kind == "state" and family.slot in _MANNERED
    between = clause.rest[: m.start("v")] if mannered else ""
    extra = [word for word in re.findall(r"[\w'-]+", between) if word not in STOP]
    tail = clause.rest[m.end() :]
    if clause.verb in ("sell", "donate", "give"):
        tail = re.sub(r" (?:to|on|through|via) .*", "", tail)  # who has it now
    return bool(extra) or is_limited(clause, tail, happened=happened)
