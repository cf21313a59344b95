"""Token F1 as LoCoMo's own evaluation computes it (``task_eval/evaluation.py`` of arXiv 2402.17753).

Commas go, then case, punctuation, and the words a, an, the, and; what is left is cut to Porter stems and compared as
a bag. Multi-hop answers (category 1) are lists: prediction and reference are split at commas, each part of the
reference takes its best part of the prediction, and the mean counts. Open-domain references (3) end at the first
``;``. An adversarial question (5) is right if the output says that nothing is known, in one of two phrases.

The stemmer is Porter's original of 1980; the one LoCoMo uses adds a few irregular words to it ("dying", "news").
F1 punishes a date written another way and forgives a wrong one that shares a word: it ranks systems coarsely.
"""

from __future__ import annotations

import re
import string
from collections import Counter

import Stemmer

_ARTICLES = re.compile(r"\b(a|an|the|and)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)
_UNKNOWN = ("no information available", "not mentioned")


def tokens(text: str) -> list[str]:
    """Stems of what is left of ``text``, repeats kept."""
    plain = text.replace(",", "").lower().translate(_PUNCTUATION)
    stems: list[str] = Stemmer.Stemmer("porter").stemWords(_ARTICLES.sub(" ", plain).split())
    return stems


def f1(prediction: str, reference: str) -> float:
    """Harmonic mean of token precision and recall, in [0, 1]; 0 if nothing is shared."""
    said, wanted = tokens(prediction), tokens(reference)
    shared = (Counter(said) & Counter(wanted)).total()
    if shared == 0:
        return 0.0
    precision, recall = shared / len(said), shared / len(wanted)
    return 2 * precision * recall / (precision + recall)


def f1_of_lists(prediction: str, reference: str) -> float:
    """The mean over the reference's parts of the best F1 that any part of the prediction reaches."""
    said = [part.strip() for part in prediction.split(",")]
    wanted = [part.strip() for part in reference.split(",")]
    return sum(max(f1(part, one) for part in said) for one in wanted) / len(wanted)


def says_unknown(prediction: str) -> bool:
    """Whether an output counts as right for an adversarial question."""
    return any(phrase in prediction.lower() for phrase in _UNKNOWN)


def score(prediction: str, reference: str | None, category: int) -> float:
    """LoCoMo's score of an output, in [0, 1], for a question of ``category``; ``reference`` is unused for 5."""
    if category == 5:
        return float(says_unknown(prediction))
    assert reference is not None, "only adversarial questions have no reference answer"
    if category == 1:
        return f1_of_lists(prediction, reference)
    return f1(prediction, reference.split(";")[0].strip() if category == 3 else reference)
