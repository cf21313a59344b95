"""Small numbers written in English: "three", "twenty-six", "a dozen", "a couple of" -> int.

Shared by dates ("two weeks ago"), counts ("three cats") and ages. Only whole numbers up to 99 in words; larger
ones are written in digits in practice.
"""

from __future__ import annotations

import re

_ONES = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
]
_TENS = dict(
    zip(["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"], range(20, 100, 10), strict=True)
)
_WORDS = {word: value for value, word in enumerate(_ONES)} | _TENS
_VAGUE = {"a couple of": 2, "a couple": 2, "couple of": 2, "a pair of": 2, "a dozen": 12, "half a dozen": 6}

_TEEN = "|".join(sorted(_ONES, key=len, reverse=True))
NUMBER_WORD = rf"(?:(?:{'|'.join(_TENS)})(?:[- ](?:{'|'.join(_ONES[1:10])}))?|{_TEEN})"
VAGUE_NUMBER = "half a dozen|a dozen|a couple of|a couple|couple of|a pair of"
NUMBER = rf"(?:\d{{1,6}}|{VAGUE_NUMBER}|{NUMBER_WORD})"


def parse_number(text: str) -> int | None:
    """The value of a match of ``NUMBER``; ``None`` for anything else."""
    text = " ".join(text.lower().split())
    if text.isascii() and text.isdigit():
        return int(text)
    if text in _VAGUE:
        return _VAGUE[text]
    parts = re.split(r"[- ]", text)
    if not parts or any(part not in _WORDS for part in parts):
        return None
    return sum(_WORDS[part] for part in parts)
