"""Old notes learn from new ones: keywords, tags and context of a note change, the turn it is about never does.

A-MEM, arXiv 2502.12110, section 3.3. By rules: when a new turn is linked to an older one by a shared name or
attribute, the older note takes over at most two of its keyphrases that are news to it, a line "later: ...", and, if
it tells of a plan or a thing owned, a tag for a change of its state ("called off" is ``status:cancelled``).

Bounds, because notes that borrow from each other end up alike: three notes learn from one turn, a note learns at
most once an hour (by the clock of what was said), holds at most 8 keywords and 3 "later" lines, the oldest borrowed
go first; and what it takes over are words of that turn, never of its note.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from lamina.cube.cube import Header, Lineage, MemCube
from lamina.cube.payload import TextPayload
from lamina.store.analysis import terms
from lamina.text.notes.construction import day
from lamina.text.notes.linking import Link

EVOLVE = "evolve"
MAX_EVOLUTIONS = 3  # notes that learn from one new turn
MAX_KEYWORDS, MAX_LATER, DONATED = 8, 3, 2
OWN = 5  # keywords of its own that a note never gives up
PAUSE = timedelta(hours=1)
LEARNS_BY = ("same_slot", "same_entity", "same_event")
_LATER = "; later: "
_STATUS = {
    "cancelled": r"cancell?ed|called off|fell through|scrapped|abandoned|backed out|not happening",
    "moved": r"postponed|rescheduled|pushed back|put off|moved (?:it )?to|delayed",
    "finished": r"finished|completed|wrapped up|done with",
    "sold": r"sold|gave (?:it )?away|got rid of|donated|traded in",
    "lost": r"lost|stolen|broke(?: down)?|broken|ruined",
    "started": r"started|began|kicked off",
}
_STATE = {status: re.compile(rf"\b(?:{words})\b", re.I) for status, words in _STATUS.items()}
_CHANGEABLE = re.compile(
    r"plan|possession|\b(?:bought|own|got|have|going|booked|signed up|reserved|ordered|arranged)\b", re.I
)


@dataclass(frozen=True, slots=True)
class Change:
    """What a note becomes: new keywords, tags and context, taken over from the turn ``donor``."""

    keywords: tuple[str, ...]
    tags: tuple[str, ...]
    context: str
    donor: MemCube


def learners(links: Sequence[Link], donor: MemCube) -> list[Link]:
    """The links over which an older note may learn, in their order. The caller stops after three that did.

    A common word is enough only if nothing better links the donor and it tells that something changed: "the kayak
    was sold".
    """
    named = [link for link in links if link.relation in LEARNS_BY]
    changes = not named and any(rx.search(donor.text) for rx in _STATE.values())
    return [link for link in links if link.relation == "same_topic"] if changes else named


def may_learn(note: Header, donor: MemCube) -> bool:
    """Whether an hour has passed since it last changed, and the donor is newer and lives as long as the note."""
    said = donor.header.recorded
    rested = note.version == 1 or said - note.recorded >= PAUSE
    return rested and said >= note.recorded and donor.header.expires == note.expires


def learn(note: MemCube, about: str, donor: MemCube, keywords: Sequence[str], by: str) -> Change | None:
    """What ``note`` (about a turn with the text ``about``) takes over from ``donor`` and its ``keywords``.

    ``by`` is the relation that links them. ``None`` if there is nothing to learn.
    """
    known = {*terms(about), *terms(note.text), *(stem for word in note.header.keywords for stem in terms(word))}
    news = [phrase for phrase in keywords if not set(terms(phrase)) <= known]
    found = [(status, match[0].lower()) for status, rx in _STATE.items() if (match := rx.search(donor.text))]
    taken = list(dict.fromkeys([*(said for _, said in found), *news]))[:DONATED]
    changeable = _CHANGEABLE.search(" ".join((*note.header.tags, about)))
    if not taken or (by == "same_topic" and not changeable):
        return None
    own, borrowed = note.header.keywords[:OWN], note.header.keywords[OWN:]
    added = [phrase for phrase in taken if phrase not in own and phrase not in borrowed]
    room = MAX_KEYWORDS - len(own)
    kept_keywords = (*own, *(*borrowed, *added)[-room:])
    tags = note.header.tags
    if found and changeable:
        kept = [tag for tag in tags if not tag.startswith("status:")]
        tags = (*kept, f"status:{found[0][0]}")
    head, *later = note.text.split(_LATER)
    later = [*later, f"{', '.join(taken)}, {day(donor)}"][-MAX_LATER:]
    return Change(kept_keywords, tags, _LATER.join([head, *later]), donor)


def evolved(note: MemCube, change: Change, extractor: str) -> MemCube:
    """The next version of ``note``, made from the donor too: forgetting the donor erases it."""
    donor = (change.donor.id, change.donor.header.version)
    made_from = tuple(dict.fromkeys((*note.header.lineage.derived_from, donor)))
    header = replace(
        note.header,
        version=note.header.version + 1,
        recorded=change.donor.header.recorded,
        keywords=change.keywords,
        tags=change.tags,
        provenance=replace(note.header.provenance, extractor=extractor),
        lineage=Lineage(made_from, EVOLVE),
    )
    return MemCube(header, TextPayload(change.context))


def restored(note: MemCube, old: MemCube) -> MemCube:
    """The next version of ``note`` with keywords, tags and context of its version ``old``."""
    header = replace(
        old.header,
        version=note.header.version + 1,
        recorded=note.header.recorded,  # by the clock of what was said, or nothing said since could teach it
        superseded=None,
        superseded_by=None,
        lineage=Lineage(old.header.lineage.derived_from, "rollback"),
    )
    return MemCube(header, old.payload)
