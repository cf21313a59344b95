"""Whether a sentence turns round what was said, with words that all were said: denials, happenings, amounts.

A sentence can be made of nothing but words of its turns and still be false. Three ways of it can be seen without
understanding: it denies where nobody denied, or asserts with a verb that was only ever denied; it tells of a happening
that ends or changes something (a sale, a death, a fire) for which no word was said; it gives to one thing the amount
of another ("2 euros for 30 lamps"). Other verbs may be paraphrased freely, and are not looked at.
"""

from __future__ import annotations

import calendar
import re
from collections.abc import Iterator

from lamina.store.analysis import STOP_WORDS, terms
from lamina.text.english.numbers import NUMBER_WORD, VAGUE_NUMBER, parse_number
from lamina.text.english.verbs import FORMS

_DENIAL = re.compile(
    r"\b(?:no|not|never|none|nobody|nothing|neither|nor|cannot|without|hardly|unable|stop(?:s|ped)?|quits?"
    r"|hates?|hated|dislikes?|disliked|refuse[sd]?|rejects?|rejected|avoid(?:s|ed)?|isnt|dont|doesnt|didnt|cant|wont"
    r"|former(?:ly)?|against|sick of|tired of|allergic|free of|fed up)\b|\b\w+n['’]t\b|\bno[- ]\w+",
    re.I,
)
_PLAINLY_DENIES = re.compile(r"\b(?:no|not|never|none|nobody|nothing|cannot)\b|\b\w+n['’]t\b", re.I)
_NEGATOR = re.compile(r"(?:not|never|cannot|\w+n['’]t|dont|doesnt|didnt)$", re.I)
_WORD = re.compile(r"\w+(?:['’]\w+)?")
_AMOUNT = re.compile(rf"\b(?:\d+(?:[.,]\d+)*|{VAGUE_NUMBER}|{NUMBER_WORD})\b", re.I)
_CALENDAR = frozenset(
    term for name in (*calendar.month_name[1:], *calendar.day_name, "am", "pm", "clock") for term in terms(name)
)
_REACH = 3  # words after an amount that say of what it is

# Of each row, one word in the turns is needed for any in the statement. Ours.
_ENDS = tuple(
    frozenset(terms(row))
    for row in (
        "sell sold sale auction",
        "burn burned burnt fire flames ashes",
        "die died dies death dead deceased passed lost funeral late buried widow widower",
        "kill killed murder murdered shot",
        "divorce divorced separated split ex exhusband exwife",
        "quit resign resigned left leave leaving retire retired notice",
        "fired sacked laid dismissed redundant job",
        "steal stole stolen theft robbed burgled thief",
        "break broke broken smashed crashed cracked fracture fractured",
        "destroy destroyed ruined wrecked demolished collapsed",
        "cancel cancelled canceled called off",
        "arrest arrested jail prison police",
        "bankrupt bankruptcy insolvent",
        "drown drowned",
    )
)
_HAPPENINGS = _ENDS + tuple(
    frozenset(terms(row))
    for row in (
        "buy bought purchase purchased got get order ordered picked acquired shopping new paid spent cost",
        "marry married wedding wed husband wife spouse honeymoon bride groom",
        "owe owes owed debt lent borrowed loan",
    )
)


def why_contradicted(text: str, said: str) -> str | None:
    """How ``text`` turns round what was ``said``, in words; ``None`` if that is not to be seen."""
    if _PLAINLY_DENIES.search(text) and not _DENIAL.search(said):
        return "it denies what nobody denied"
    if (verb := _only_denied(text, said)) is not None:
        return f"{verb!r} was only denied"
    told, given = frozenset(terms(text)), frozenset(terms(said))
    for happening in _HAPPENINGS:
        if told & happening and not given & happening:
            return f"nobody told of {min(told & happening)!r}"
    return _swapped_amount(text, said)


def denies(text: str) -> bool:
    """Whether a sentence denies something, or tells that it is over or unloved."""
    return _DENIAL.search(text) is not None


def tells_an_end(text: str) -> bool:
    """Whether a sentence denies something or tells that something is over: sold, dead, burnt, cancelled."""
    told = frozenset(terms(text))
    return denies(text) or any(told & happening for happening in _ENDS)


def _only_denied(text: str, said: str) -> str | None:
    """A verb that ``text`` asserts although every mention of it was negated; ``None`` if there is none."""
    if _DENIAL.search(text):
        return None
    words = _WORD.findall(said)
    denied: dict[str, bool] = {}
    for place, word in enumerate(words):
        for term in terms(word):
            near = any(_NEGATOR.match(each) for each in words[max(0, place - 2) : place])
            denied[term] = near and denied.get(term, True)
    verbs = (found[0] for found in _WORD.finditer(text) if found[0].lower() in FORMS)
    return next((verb for verb in verbs if any(denied.get(term, False) for term in terms(verb))), None)


def _swapped_amount(text: str, said: str) -> str | None:
    given: dict[str, set[str]] = {}
    for amount, thing in _amounts(said):
        given.setdefault(thing, set()).add(amount)
    for amount, thing in _amounts(text):
        if amount not in given.get(thing, {amount}):
            return f"{amount} is the number of something else"
    return None


def _amounts(text: str) -> Iterator[tuple[str, str]]:
    """Each amount with each word that says of what it is: up to three words after it that stand together."""
    for found in _AMOUNT.finditer(text):
        number = found[0] if found[0][0].isdigit() else str(parse_number(found[0]))
        rest = re.match(rf"(?:[\s-]+[^\W\d]+){{1,{_REACH}}}", text[found.end() :])
        for word in _WORD.findall(rest[0]) if rest else ():
            if word.lower() in STOP_WORDS or _AMOUNT.fullmatch(word):
                break
            yield from ((number.replace(",", ""), term) for term in terms(word) if term not in _CALENDAR)
