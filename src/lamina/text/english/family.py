"""Pattern families: what a parsed clause says about which attribute of its subject.

A row says: after one of these verbs, a rest that begins like this fills that slot. Since ``clause.parse`` has
dealt with tense, negation, plans and endings, a row stays one short pattern, and each row serves "I live in",
"I've been living in", "my sister no longer lives in" alike. Kinds of row:

``state``  holds now; in the past tense it is a ``former.`` fact that ends nothing
``event``  brings a state about ("moved to"); its past tense asserts the state from then on
``done``   happened ("visited"); many values, never ends anything
``end``    ends the value it names ("sold my boat")
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from lamina.text.english.readings import Check, Kind


@dataclass(frozen=True, slots=True)
class Family:
    verbs: frozenset[str]
    pattern: re.Pattern[str]
    slot: str
    kind: Kind
    check: Check | None
    negative: bool


def family(
    verbs: str, slot: str, kind: Kind, *pattern: str, check: Check | None = None, negative: bool = False
) -> Family:
    return Family(frozenset(verbs.split()), re.compile("".join(pattern)), slot, kind, check, negative)
