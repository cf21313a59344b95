"""Words that make a statement hold only in part: what it says then stands beside what is known, not in its place.

"I don't eat meat on Fridays", "my ex girlfriend", "I almost quit", "in my play I am a detective": each has the slot
and a value of a real change, and is none. A missed change costs little, because search still finds the turn; a wrong
one hides what is true. So any of these words turns a supersession or an ending into an addition.
"""

from __future__ import annotations

import re

_QUALIFIED = re.compile(
    r"\b(?:almost|nearly|barely|after all|at heart|did not|didn['’]t|never mind|not!"  # it did not happen
    r"|(?<!years )(?<!year )old|former(?:ly)?|previous(?:ly)?|ex|before"  # it is over
    r"|second|another|other|spare|extra|(?<!any )more|rental|rented|borrowed|loaner"  # it is one of several
    r"|(?:business|sparring|research|study|lab|dance|training|travel|writing|gym|tennis) partner"
    r"|on the side|at work|at school|in college|in the army|in the navy|on the farm|for (?:work|school|fun|now|a while)"
    r"|for [a-z]+ing|for newsletters|this week(?:end)?|tonight|temporarily|until|while|staying|visiting"
    r"|sometimes|mostly|usually|most (?:days|mornings|evenings|nights|weekends)"
    r"|(?:on|in the) (?:mon|tues|wednes|thurs|fri|satur|sun)days"
    r"|during|in (?:the )?(?:winter|summer|spring|autumn|fall)s?|(?:half|part) (?:of )?the (?:week|year|time)"
    r"|(?:in the |on )(?:mornings?|evenings?|weekends|nights?)"
    r"|(?:people|everyone|everybody|they|some) (?:think|thinks|say|says|assume|assumes|believe|believes)"
    r"|in (?:\w+['’]s|my|this|the|a|our) (?:play|story|game|novel|book|film|movie|dream|show|role))\b"
    r"|\bnot!\s*$",
    re.I,
)
# Numbers, mail and streets that are somebody's, but not the speaker's own.
_CONTACT = re.compile(
    r"\b(?:order|case|account|invoice|reference|ticket|tracking|booking|serial|customer|member(?:ship)?|policy"
    r"|confirmation|hotel|support|gave(?! up)|written|wrote|sent|meet|meets|appointment|subscribed?)\b",
    re.I,
)
# "I have a meeting on the 25th" tells of a meeting, not of a new date for the one that is known.
_INDEFINITE = re.compile(r"\b(?:has|have|got) (?:a|an|another|some)\b", re.I)
_RESCHEDULED = re.compile(
    r"\b(?:now|moved?|moves|reschedul\w+|postponed?|pushed|chang\w+|delayed|instead|forward|back|shifted|new|actually"
    r"|correction|cancel\w+|called off|off)\b",
    re.I,
)
# Hints: enough to be replaced by something plain, not enough to replace it.
_HINTS = {
    "residence": re.compile(r"\b(?:been in|ended up)\b"),
    "employer": re.compile(
        r"^\S+(?: \S+)? (?:has |have )?(?:\w+ )?(?:hired|employ(?:s|ed)|recruited|took|taken)\b(?!.*\bnow\b)"
    ),
    "partner": re.compile(r"\b(?:is with|in love|head over heels)\b"),
    "marital": re.compile(r"\b(?:wife|husband) and\b"),
}
# "the old line is off" ends it; "my old line was" tells of the past.
_OLD_IS_OFF = re.compile(
    r"\bthe old (?:line|number|one|sim|account|mailbox|inbox|address|phone) (?:is|has been) "
    r"(?:now )?(?:off|dead|gone|closed|disconnected|cancelled)\b",
    re.I,
)
_VERSION = re.compile(r"\b(?:moved|switched) to \w+ \d")  # "moved to Windows 11" is no change of residence


def is_qualified(text: str, slot: str) -> bool:
    """Whether ``text``, which fills ``slot``, leaves room for what was known before."""
    kind = slot.partition(".")[0]
    if kind in ("phone", "email", "address") and _CONTACT.search(text):
        return True
    if kind == "plan" and _INDEFINITE.search(text) and not _RESCHEDULED.search(text):
        return True
    if kind in _HINTS and _HINTS[kind].search(text):
        return True
    if kind in ("phone", "email", "address"):
        text = _OLD_IS_OFF.sub("", text)
    return bool(_QUALIFIED.search(text) or (kind == "residence" and _VERSION.search(text)))
