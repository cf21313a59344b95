"""Whether a denial or an ending is said without limits, so that it can close what it denies.

"I'm not allergic to nuts in small amounts", "I don't have a cat carrier", "I don't love my job today", "at home I
don't speak German": each repeats the words of something true and denies less than all of it. So what stands after
the denied value, and before the subject, must be empty but for words that take nothing back: "any more", "at all",
a reason, and for something that happened its date. Everything else limits, whatever it is: a missed ending costs
little, because search still finds the turn; a wrong one hides what is true.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime

from lamina.text.english.clause import Clause
from lamina.text.english.lexicon import OPENERS, words
from lamina.text.english.verbs import FORMS
from lamina.text.time import resolve

_ANY_DAY = datetime(2024, 1, 3, 12, tzinfo=UTC)  # only whether words name a date matters here, not which
_HARMLESS = re.compile(
    r"\b(?:any ?more|any longer|now|these days|nowadays|at all|either|at the moment|right now|currently|again|finally"
    r"|though|too|very much|for good|permanently|completely|altogether|as of|of late|lately|last night"
    r"|for (?:about |only |just )?[$€£]?\d[\d.,]*k?(?: (?:euros?|dollars?|pounds?|bucks))?"
    r"|after (?:[\w-]+ ){1,3}(?:years?|months?|weeks?|decades?))\b",
    re.I,
)
# After these the clause goes on to why, or to something else; what is denied has been said in full.
_REASON = re.compile(
    r"(?:(?:[,;:(–—]|\s-\s)\s*|\s+)(?:because|since|so|but (?:i|we)\b|and (?=(?P<verb>[a-z]+)\b)"
    r"|to (?=(?P<purpose>[a-z]+)\b)).*$",
    re.S | re.I,
)
_REMARK = re.compile(
    r"(?:\s*[,;:(–—]|\s-\s)(?!\s*(?:only|not|except|unless|just|if|when|at|in|on|for|with|but|though|although|outside|apart"
    r"|aside|other|or|as|while|during|anyway)\b).*$",
    re.S | re.I,
)
_LINK = words("in on at by from since back early late around sometime the of")
_PARTIAL = words(
    "always usually only just often both all mostly mainly even fully officially literally simply originally truly"
    " exactly sometimes"
)


def is_limited(clause: Clause, tail: str, *, happened: bool) -> bool:
    """Whether ``clause`` denies only part of the value that ``tail`` follows; ``happened``: it tells of an event."""
    if not happened and (clause.flags & _PARTIAL or (clause.tense != "present" and not re.search(r"\bsince\b", tail))):
        return True  # "I don't always ...", "I haven't smoked today": not the habit
    lead = re.sub(r"\b\w+ly\b", "", clause.lead)  # "unfortunately"
    return leaves_room(lead, dated=happened) or leaves_room(tail, dated=happened)


def leaves_room(text: str, *, dated: bool) -> bool:
    """Whether ``text``, the words around a value, says more than that and since when (``dated``: or on which day)."""
    text = _REMARK.sub("", _without_reason(text, happened=dated))
    for span in reversed(resolve(text, _ANY_DAY)):
        of_event = dated and span.granularity not in ("hour", "minute", "part")
        if span.relation == "since" or (of_event and span.relation == "at"):
            text = f"{text[: span.char_start]} {text[span.char_end :]}"
    left = re.findall(r"[\w']+", _HARMLESS.sub(" ", text).lower())
    return any(word not in _LINK and word not in OPENERS for word in left)


def _without_reason(text: str, *, happened: bool) -> str:
    m = _REASON.search(text)
    if m is None or (m["verb"] or m["purpose"] or "go") not in FORMS or (m["purpose"] and not happened):
        return text
    return text[: m.start()]
