"""How something is said decides what it means for a slot: in the past, in passing, besides, or by somebody else."""

from __future__ import annotations

import re

from lamina.text.english.clause import Clause
from lamina.text.english.lexicon import ADVERBS, STOP, words
from lamina.text.english.readings import Found
from lamina.text.english.slots import is_functional
from lamina.text.english.verbs import lemma

_TEMPORARY = re.compile(
    r"\b(?:until|till|for now|for the (?:week|weekend|month|summer|moment)|this week|tonight)\b", re.I
)
# A remark by its very words, or what may be one.
_REMARK = re.compile(
    r"(?P<set>by the way|btw|fyi|for the record|in case you forgot|again(?=,))\b[\s,:]+"
    r"|(?P<words>(?:[\w'’]+ ){0,4}[\w'’]+), *",
    re.I,
)
_TELLING = words("say tell mention repeat remind remember recall forget mind know stress explain")
_NOT_REMARK = words("he she they it we who if unless when whether maybe")
_STATES = ("residence", "employer", "school")
_ALSO = re.compile(r"\b(?:second|another|side|additional|part-time)\b")
# "Then Anna goes: I ...", "she was like, I ...", 'Tom said "I ...': up to where the words begin.
HEARD = re.compile(
    r"^(?P<lead>[^:\"“]{0,80}?\b(?!(?:I|i|We|we)\b|I['’]|we['’]|being |having |already )"
    r"[\w’'-]+ (?:(?:just|then|also|always|suddenly) )?"
    r"(?:goes|went|says|said|asks|asked|answers|answered|replies|replied|shouts|shouted|texted|wrote|yelled"
    r"|(?:tells|told|texted|wrote) (?:me|us|him|her|them|everyone)|(?:is|was|were|are) (?:all |just )?like))"
    r"(?:[,:]\s*[\"“'‘]?|\s*[\"“])(?=(?:I|we|We|my|My|our|Our)\b)"
)


def after_remark(text: str, start: int, end: int) -> int:
    """Where a sentence begins after a remark that only says that one is telling: "By the way, ", "As I said, ".

    Up to five function words and verbs of telling before a comma, of which one at least is such a verb; in
    "She said, I ..." and "If I recall, ..." it is more than a remark.
    """
    m = _REMARK.match(text, start, end)
    if m is None:
        return start
    if m["set"]:
        return m.end()
    low = m["words"].lower().replace("’", "'").split()
    told = [word for word in low if lemma(word) in _TELLING]
    own = low[0] not in _NOT_REMARK and (low[0] != "you" or low[1:2] == ["know"])
    plain = all(word in told or word in STOP or word in ADVERBS or "'" in word for word in low)
    return m.end() if told and own and plain else start


def settle(found: Found, clause: Clause) -> Found | None:
    """Fit the slot to tense and manner: a past state is ``former``, a second job is ``also``."""
    slot = found.slot
    if slot.split(".")[0] in ("residence", "address") and _is_visit(clause):
        return Found("stay", found.value, found.kind, found.negative)
    if (
        "can" in clause.flags
        and slot not in ("language", "skill", "likes")
        and not slot.startswith(("phone", "email", "address"))
    ):
        return None
    if slot == "likes" and clause.verb in ("stand", "bear"):
        return Found(slot, found.value, "state", True) if "can" in clause.flags and clause.negated else None
    if found.kind == "state" and not clause.ended and not slot.startswith(("phone", "email", "address")):
        bare_perfect = clause.tense == "perfect" and not clause.progressive and slot in _STATES
        dated = re.search(r"\b(?:since|for|always|now)\b", clause.rest) or clause.flags & {"now", "always"}
        if (clause.tense == "past" and "began" not in clause.flags) or (bare_perfect and not dated):
            return Found(f"former.{slot}", found.value, "done", found.negative)
    more = clause.flags & {"also", "too", "as well"} or _ALSO.search(clause.rest[:40])
    if more and is_functional(slot) and slot.split(".")[0] not in ("plan", "phone", "email", "address"):
        return Found(f"{slot}.also", found.value, found.kind, found.negative)
    return found


def _is_visit(clause: Clause) -> bool:
    """ "I'm staying at 12 Oak Street until Sunday" is no home, and says nothing about the one there is."""
    found = _TEMPORARY.search(clause.rest)
    return found is not None and (clause.verb == "stay" or found[0].lower() in ("until", "till"))


def polarity_of(found: Found, clause: Clause | None) -> bool:
    negated = clause is not None and clause.negated
    if clause is not None and clause.verb in ("stand", "bear") and found.slot == "likes":
        return False
    if found.slot == "diet" and clause is not None and clause.verb in ("eat", "touch"):
        return True  # "I don't eat meat" asserts being vegetarian
    if found.slot.startswith("former.") or found.kind == "end":
        return found.kind != "end"
    return not found.negative if not negated else (found.negative and clause is not None and clause.ended)


def reaches_me(clause: Clause) -> bool:
    """ "You'll get me on 555-0101", "write to me at a@b.org if you like": an offer, no plan and no condition."""
    return (
        clause.subject.lower() in ("you", "")
        or re.search(r"\bif you (?:want|need|like|wish)\b", clause.rest) is not None
    )
