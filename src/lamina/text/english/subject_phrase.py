"""Where the subject of a clause stands, and where its verb begins.

English puts the subject first, but an adverbial may come before it, the verb's own adverbs after it ("Ana | no longer
works"), and the word before the verb may itself look like a verb ("Will works", "Hope lives").
"""

from __future__ import annotations

from lamina.text.english.lexicon import ADVERBS, PRONOUNS, WORD_NAMES
from lamina.text.english.verbs import BE, DO, FORMS, HAVE, MODALS, form


def find_subject(tokens: list[str], low: list[str], start: int) -> tuple[list[str], list[str], int]:
    """Words before the subject, the subject, and where the verb chain starts (-1: nowhere)."""
    window = range(start, min(len(low), start + 12))
    pronoun = next((i for i in window if low[i] in PRONOUNS and (low[i] != "i" or tokens[i] in "Ii")), -1)
    finite = next((i for i in window if i > start and _is_finite(low, i)), -1)
    if pronoun >= 0 and (finite < 0 or pronoun < finite):
        first = pronoun
        if pronoun - 2 >= start and low[pronoun - 1] == "and":  # "Tom and I", "my husband and I"
            first = max(start, pronoun - (3 if low[pronoun - 3 : pronoun - 2] in (["my"], ["our"]) else 2))
        return low[start:first], tokens[first : pronoun + 1], pronoun + 1
    if start < len(low) and _is_verb_first(low, start) and not _is_name_before_verb(tokens, low, start):
        return [], [], start
    if finite < 0:
        return [], [], -1
    first = _noun_phrase_start(low, start, finite)
    chain = _chain_start(low, first, finite)
    return low[start:first], tokens[first:chain], chain


def _is_finite(low: list[str], i: int) -> bool:
    """Whether word ``i`` can be the first verb after a noun subject ("my sister | lives")."""
    word = low[i]
    if BE.get(word) in ("present", "past") or word in HAVE or word in DO or word in MODALS:
        return True
    if i > 0 and low[i - 1].endswith("'s"):  # "my boyfriend's | name"
        return False
    kind = form(word)
    return kind in ("s", "past") or (kind == "base" and i > 0 and low[i - 1].endswith("s"))


def _chain_start(low: list[str], first: int, finite: int) -> int:
    """Where the verb's own adverbs begin: "Ana | no longer works", "Bob Smith | now works"."""
    at = finite
    while at - 1 > first:
        if low[at - 2 : at] == ["no", "longer"] and at - 2 > first:
            at -= 2
        elif low[at - 1] in ADVERBS or low[at - 1] in ("not", "never"):
            at -= 1
        else:
            break
    return at


def _is_name_before_verb(tokens: list[str], low: list[str], i: int) -> bool:
    """ "Will works", "Hope lives", "May is": a capital before a verb that has its ending is a name, or a noun, and
    no modal, month or verb. A present participle is a noun: "Cooking is fun" tells of no person."""
    at = i + 1
    while at < len(low) and (low[at] in ADVERBS or low[at] in ("not", "never", "no", "longer")):
        at += 1
    if not tokens[i][0].isupper() or at >= len(low) or form(low[i]) == "ing":
        return False
    if low[i] in ADVERBS or low[i] in ("been", "had", "got", "be", "am"):
        return False
    after = low[at]
    finite = after in ("is", "was", "has", "does") or form(after) == "s" or after in MODALS
    return finite or (low[i] in WORD_NAMES and form(after) == "past")


def _is_verb_first(low: list[str], i: int) -> bool:
    """A fragment without its "I" ("Moved to Rome", "Just been to Rome") or an imperative ("Call me")."""
    word = low[i]
    if word in ADVERBS and i + 1 < len(low):
        return _is_verb_first(low, i + 1)
    return word in FORMS or word in MODALS or word in ("be", "been", "had", "got", "am")


def _noun_phrase_start(low: list[str], start: int, finite: int) -> int:
    """Skip an adverbial before the noun: after the last comma, if what follows is short enough to be a subject."""
    commas = [i for i in range(start, finite) if low[i] == ","]
    if commas and low[start] not in ("my", "our") and 0 < finite - commas[-1] - 1 <= 4:
        return commas[-1] + 1
    return start
