"""Contractions in full, before a clause is parsed: "I've", "can't", "the exam's set for Monday"."""

from __future__ import annotations

import re

from lamina.text.english.verbs import is_participle

_CONTRACTIONS = [
    (re.compile(pattern, re.I), to)
    for pattern, to in (
        (r"\bwon't\b", "will not"), (r"\bcan't\b", "can not"), (r"\bcannot\b", "can not"), (r"\bshan't\b", "shall not"),
        (r"\bain't\b", "is not"), (r"n't\b", " not"), (r"'ve\b", " have"), (r"'re\b", " are"), (r"'ll\b", " will"),
        (r"\b(I)'m\b", r"\1 am"), (r"\bgonna\b", "going to"), (r"\bwanna\b", "want to"), (r"\bgotta\b", "got to"),
        (r"\b(he|she|it|that|there|here|who|what|let)'s (?=been\b|got\b)", r"\1 has "),
        (r"\b(he|she|it|that|there|here|who|what)'s\b", r"\1 is"),
    )
]  # fmt: skip
_HAD = re.compile(r"'d\b(?= (?:(?:never|always|already|just|also) )?(?P<verb>\w+))", re.I)
# "Sam's the one", "the exam's set": after a noun, 's is a verb before these; else a possessive.
_IS = re.compile(
    r"(?<=\w)'s (?=(?:an?|the|my|our|not|now|been|going|in|on|at|so|really|just|home|where|set|mine|gone|here|over|done"
    r"|moved|called|named|turning|\d+)\b)|(?<=\w)'s (?=\d)",
    re.I,
)


def expand(text: str) -> str:
    """Contractions in full, curly quotes straight, white space single."""
    text = " ".join(text.replace("’", "'").replace("‘", "'").replace("“", '"').replace("”", '"').split())
    if "'" not in text:
        return text
    for pattern, to in _CONTRACTIONS:
        text = pattern.sub(to, text)
    text = _HAD.sub(lambda m: " had" if is_participle(m["verb"].lower()) or m["verb"] == "better" else " would", text)
    return _IS.sub(" is ", text)
