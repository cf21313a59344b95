"""Text to index terms: words, lower case, without English stop words, cut to their Porter2 stems.

M. F. Porter's second English stemmer (Snowball, "english"), through PyStemmer. A word keeps letters and
digits of any script; ``'s`` goes. Chinese and Japanese are written without spaces, so a run of their
characters becomes its overlapping pairs, as usual for an index without a dictionary.
"""

from __future__ import annotations

import re
import threading
import unicodedata
from functools import lru_cache

import Stemmer

# Function words: articles, pronouns, prepositions, conjunctions, auxiliaries, question words, and what is
# left of their contractions. They carry grammar, not content, and so do not count as matches.
_FUNCTION_WORDS = (
    "a about after again all also am an and any are aren as at be because been before being but by can could couldn "
    "d did didn do does doesn doing don down during each for from further had hadn has hasn have haven having he "
    "her here hers herself him himself his how i if in into is isn it its itself just ll m may me might mine more "
    "most must my myself no nor not now of off on once only or other our ours ourselves out over own re s same "
    "shall she should shouldn so some such t than that the their theirs them themselves then there these they this "
    "those through to too under until up ve very was wasn we were weren what when where which while who whom whose "
    "why will with won would wouldn you your yours yourself yourselves "
)
STOP_WORDS = frozenset(_FUNCTION_WORDS.split())

_CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_POSSESSIVE = re.compile(r"['’]s\b")
_TOKEN = re.compile(rf"[{_CJK}]+|[^\W_{_CJK}]+")
_IS_CJK = re.compile(rf"[{_CJK}]")

_local = threading.local()  # a stemmer is not safe to share between threads


@lru_cache(maxsize=65_536)
def _stem(word: str) -> str:
    stemmer = getattr(_local, "stemmer", None)
    if stemmer is None:
        stemmer = _local.stemmer = Stemmer.Stemmer("english")
    return str(stemmer.stemWord(word))


def terms(text: str) -> list[str]:
    """Index terms of ``text`` in order, repeats kept."""
    found: list[str] = []
    for token in _TOKEN.findall(_POSSESSIVE.sub("", unicodedata.normalize("NFKC", text).casefold())):
        if _IS_CJK.match(token):
            found.extend(token[place : place + 2] for place in range(max(1, len(token) - 1)))
        elif token not in STOP_WORDS:
            found.append(_stem(token))
    return found
