"""Find the slot that a parsed clause fills: the rows of its verb, tried in order."""

from __future__ import annotations

from lamina.text.english.clause import Clause
from lamina.text.english.families_life import LIFE
from lamina.text.english.families_things import THINGS
from lamina.text.english.family import Family
from lamina.text.english.readings import Found
from lamina.text.english.slots import normal

# The order matters where two rows of a verb fit: "I'm a nurse" comes after everything else that one can be.
FAMILIES: tuple[Family, ...] = LIFE + THINGS

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
        if found is not None and found.value != "":
            return Found(
                found.slot,
                found.value,
                family.kind if found.kind == "state" else found.kind,
                family.negative or found.negative,
            )
    return None
