"""First person to third: "I've moved, my sister hasn't" said by Anna -> "Anna has moved, Anna's sister hasn't".

So that a fact stands on its own and finds its subject by name. Verbs after "I" and "we" agree with the name; what
is inside double quotes is somebody's words and stays. "you" becomes the other speaker only when there is exactly
one. Only names, inflected verbs and expanded contractions are put in: nothing else that was not said.
"""

from __future__ import annotations

import re

from lamina.text.english.letters import UPPER
from lamina.text.english.lexicon import STOP, words
from lamina.text.english.numbers import parse_number
from lamina.text.english.verbs import FORMS, MODALS, is_participle, third_person

_ADVERB = (
    r"(?:no longer|also|always|last|first|once|just|never|now|often|only|probably|really|recently|still|then|usually"
    r"|actually|already|even|kinda|sometimes|soon|too|both|all|currently|\w+ly)"
)
_SUBJECT_VERB = (
    r"(?<![\w'’])(?P<who>%s)(?P<short>['’](?:m|re|ve|ll|d))?(?![\w'’])(?P<adverbs>(?:\s+" + _ADVERB + r"\b(?!['’]))*)"
    r"(?:(?P<space>\s+)(?P<verb>[A-Za-z]+(?:n['’]t)?)(?![\w'’]))?"
)
_I = re.compile(_SUBJECT_VERB % "I|i(?=['’\\s]\\w)|[Ww]e", re.A)
_YOU = re.compile(_SUBJECT_VERB % "[Yy]ou", re.A)
_MY = re.compile(r"(?<![\w'’])(?:[Mm]y|[Oo]ur|[Mm]e|[Uu]s|[Mm]ine|[Oo]urs|[Mm]yself|[Oo]urselves)(?![\w'’])", re.A)
_YOUR = re.compile(r"(?<![\w'’])(?:[Yy]our|[Yy]ours)(?![\w'’])", re.A)
_QUOTED = re.compile(r"(\"[^\"]*\"|“[^”]*”)")
_AUX_BEFORE = re.compile(
    r"\b(?:do|does|did|can|could|will|would|should|have|has|had|am|are|was|may|might|must|let|n['’]t)\s+$", re.I
)
_JOINED = re.compile(rf"^\W*(?:[{UPPER}][\w'’-]*|[Mm]y(?: \w+){{1,2}}) and\s+$")
_NUMERAL = re.compile(r"\b[A-Z]\w+\s+$")
_AGREE = {
    "am": "is", "are": "is", "were": "was", "have": "has", "do": "does", "don't": "doesn't", "haven't": "hasn't",
    "aren't": "isn't", "weren't": "wasn't", "wanna": "wants to", "gotta": "has to",
}  # fmt: skip
_SHORT = {"m": "is", "re": "is", "ve": "has", "ll": "will"}
_NO_VERB = words(
    "a an the my me and or but of in on at to for with if when that who which not no so as than from by because"
)
# "you" is the listener at the start of a sentence or after the speaker's own "I"; elsewhere it is anybody.
_SET_PHRASES = words("know guys all can never see could")
_ADDRESSED = re.compile(
    r"^(?:\W*(?:so|and|but|well|oh|hey|yeah|wow) ?,? ?)*\W*you|\b(?:I|[Ww]e)(?:['’]\w+)?\b[^.!?]*\byou", re.I
)
_ANYBODY = re.compile(
    r"\b(?:if|when|where|how|as|like|what|that|whatever|thank|helps?|lets?|makes?|gives?|allows?|keeps?|takes?|reminds?"
    r"|teach(?:es)?|shows?)\s+$",
    re.I,
)


def rewrite(text: str, speaker: str, other: str | None = None) -> str:
    """``text`` said by ``speaker`` in the third person; ``other`` is the one person spoken to, if known."""
    parts = _QUOTED.split(text)
    for i in range(0, len(parts), 2):  # odd parts are quotations
        part = parts[i]
        if other is not None and _ADDRESSED.search(parts[i]):
            part = _YOU.sub(lambda m: _spoken_to(m, other), part)
            part = _YOUR.sub(lambda _: f"{other}'s", part)
        part = _I.sub(lambda m: _subject(m, speaker), part)
        part = _MY.sub(lambda m: _possessive(m[0], speaker), part)
        parts[i] = part
    return "".join(parts)


def _subject(m: re.Match[str], name: str) -> str:
    before = m.string[max(0, m.start() - 40) : m.start()]
    verb = m["verb"]
    numeral = m["who"] == "I" and not m["short"] and _NUMERAL.search(before)
    if numeral and (verb is None or verb in _NO_VERB):  # "World War I in colour", not "Anna I know"
        return m[0]
    tail = (m["adverbs"] or "") + (m["space"] or "")
    if m["short"]:
        return f"{name} {_expand(m['short'][1:], verb)}{tail}{verb or ''}"
    if verb is None:
        return f"{name}{tail}"
    plain = _AUX_BEFORE.search(before) or _JOINED.search(before)
    return f"{name}{tail}{verb if plain else agree(verb)}"


def _spoken_to(m: re.Match[str], name: str) -> str:
    before = m.string[max(0, m.start() - 12) : m.start()]
    if _ANYBODY.search(before) or (m["verb"] or "").lower() in _SET_PHRASES:
        return m[0]
    object_of_verb = re.search(r"\w\s+$", before) is not None and not m["short"]
    if object_of_verb:
        return name + m[0][len(m["who"]) :]
    return _subject(m, name)


def _expand(short: str, verb: str | None) -> str:
    if short == "d":
        return "had" if verb and (is_participle(verb.lower()) or verb == "better") else "would"
    return _SHORT[short]


def agree(verb: str) -> str:
    """The form of ``verb`` that follows a name: "live" -> "lives"; past tenses and modals stay."""
    low = verb.lower().replace("’", "'")
    if low in _AGREE:
        return _AGREE[low]
    if (
        low in MODALS
        or low in _NO_VERB
        or low.endswith("n't")
        or low in ("was", "had", "did", "used", "is", "has", "does")
    ):
        return verb
    if low in FORMS:
        return third_person(low) if FORMS[low][1] == "base" else verb
    if low in STOP or low.endswith(("ed", "s", "ing")) or not verb.islower() or parse_number(low) is not None:
        return verb
    return third_person(low)


def _possessive(word: str, name: str) -> str:
    low = word.lower()
    if low in ("me", "us"):
        return name
    return "themselves" if low.endswith(("self", "selves")) else f"{name}'s"
