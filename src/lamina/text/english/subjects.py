"""Who a clause is about: the speaker, one of theirs, a name, or nobody whose attribute it could be."""

from __future__ import annotations

import re

from lamina.text.english import attributes
from lamina.text.english.clause import Clause
from lamina.text.english.lexicon import ADVERBS, FEMALE_KIN, MALE_KIN, OPENERS, STOP, THIRD, WORD_NAMES, words
from lamina.text.english.readings import Found
from lamina.text.english.verbs import FORMS, form

EMPTY_SUBJECTS = THIRD | words("that this there these those you what everything who here")
_NO_OWNER = words("""
you there it that this these those here what everything everyone nobody somebody anybody everybody someone anyone
""")
_TOGETHER = re.compile(r"\b(?:and i|me and|i and|and me)\b")
_PARTICLES = words("de del della da di van von der den la le bin al el")
_ELLIPTIC = words("love like hate enjoy prefer miss adore need want hope can work live am")


def subject_of(owner: str, speaker: str, other: str | None, person: str | None) -> str | None:
    """Whom a clause is about, by name; ``None`` for a pronoun that nothing explains. ``other`` is whom "you" means,
    ``person`` the last one who was a subject, whom "he" or "she" means."""
    low = owner.lower()
    if low in ("i", "we", "", "me") or _TOGETHER.search(low):
        return speaker
    if low in ("he", "she"):
        kin = set((person or "").lower().split())
        return None if kin & (FEMALE_KIN if low == "he" else MALE_KIN) else person
    if low in ("you", "your"):
        return other
    if low in EMPTY_SUBJECTS or low.split()[0] in ("what", "who", "how", "which"):
        return speaker if low in ("they", "that", "it", "there", "here", "this", "these") else None
    if low.startswith(("my ", "our ")):
        return f"{speaker}'s {' '.join(owner.replace(',', '').split()[1:])}"
    return owner if _is_name(owner) else speaker


def belongs_to_speaker(found: Found, clause: Clause, owner: str, noun: str) -> bool:
    """ "My wife is Ana", "Blue is my favourite colour": the slot is the speaker's, whatever the subject."""
    if found.slot.startswith(("partner", "relative.")) and owner.lower().startswith(("my ", "our ")):
        return attributes.kin_name(clause, owner) is not None or noun.endswith("name")
    if clause.verb in ("die", "pass"):
        return True
    return noun == "" and bool(re.search(r"\b(?:my|our|home|me)\b", clause.rest)) and clause.verb == "be"


def is_elliptic(clause: Clause, text: str, spoken: bool) -> bool:
    """Whether a clause without a subject means the speaker: "Moved to Rome", "and work at a bank" after "I live".

    A base form is an order ("call me") unless it tells a feeling ("love hiking") or goes on with the speaker's.
    """
    first = next(
        (w for w in re.findall(r"[a-z']+", text.lower()) if w not in ADVERBS and w not in OPENERS and w != "not"), ""
    )
    if re.match(r"(?:me|us|you|yourself|your)\b", clause.rest):
        return False
    if spoken or first in _ELLIPTIC or first in ("been", "had", "got", "would", "could", "can"):
        return True
    return form(first) in ("past", "participle") and clause.tense != "present"


def _is_name(owner: str) -> bool:
    """ "Ana", "Ana Maria de Souza", "Dr. Smith"; not "The new guy". Will and May are names where they are subjects."""
    first, *others = owner.replace(".", "").split()
    known = first.lower() in WORD_NAMES or not (first.lower() in STOP | ADVERBS | _NO_OWNER or first.lower() in FORMS)
    return first[0].isupper() and known and all(w[0].isupper() or w in _PARTICLES for w in others)


def may_own(owner: str, clause: Clause) -> bool:
    """Whether a clause's verb tells of the speaker, one of theirs or a name: what "the new guy", "a friend of mine"
    or "they" do is nobody's attribute here, least of all the speaker's."""
    low = owner.lower()
    if low in ("i", "we", "he", "she") or low.startswith(("my ", "our ")) or _TOGETHER.search(low):
        return True
    if re.match(r"me\b", clause.rest) and low not in _NO_OWNER:  # "They made me head nurse"
        return True
    return bool(owner) and low not in _NO_OWNER and _is_name(owner)
