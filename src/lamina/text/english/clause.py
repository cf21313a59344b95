"""A shallow parse of one clause: who, which verb, how it is meant, and the rest.

English puts the subject first, then a chain of auxiliaries, adverbs and "want to"-like verbs, then the verb that
carries the meaning. Walking that chain once yields what the patterns need and what decides whether a fact may
replace another: tense, negation ("do not"), ending ("no longer", "used to", "stopped"), modality (a plan, a
possibility, somebody else's words). Patterns then look at the words after the verb only.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import Literal

from lamina.text.english.contractions import expand as expand
from lamina.text.english.lexicon import ADVERBS, OPENERS, PRONOUNS, words
from lamina.text.english.subject_phrase import find_subject
from lamina.text.english.verbs import BE, DO, FORMS, HAVE, MODALS, form, is_base, is_ing_verb, is_participle, lemma

Modality = Literal["asserted", "plan", "hypothetical", "reported"]
Tense = Literal["present", "past", "perfect"]


@dataclass(frozen=True, slots=True)
class Clause:
    """``subject`` as said ("I", "my sister Ana"; "" for an imperative or a fragment), ``lead`` what comes before it,
    ``verb`` a lemma, ``rest`` the words after it. ``flags``: adverbs and markers met ("now", "also", "can")."""

    subject: str
    verb: str
    rest: str
    lead: str = ""
    tense: Tense = "present"
    progressive: bool = False
    negated: bool = False
    ended: bool = False
    modality: Modality = "asserted"
    flags: frozenset[str] = field(default_factory=frozenset)


_TOKEN = re.compile(r"[\w@.+'/&#:-]*[\w/]|[^\w\s]")

_PLANS = words("want plan hope intend wish need aim try hope decide expect prepare consider dream promise")
_PASSING = words("start begin keep continue end manage get go come grow learn help")
_ENDING = words("stop quit cease")
_THINKING = words("think guess believe feel know mean say tell bet suppose remember realize realise notice admit")
_REPORTING = words("say tell claim hear mention announce report")
_DOUBT = words("if unless whether maybe perhaps suppose imagine wish possibly might hypothetically")
_AGAIN_LATER = re.compile(
    r"\b(?:now|these days|nowadays|again|instead|at the moment|right now|currently|too|as well|anymore)\b", re.I
)
_NO_MORE = re.compile(r"\b(?:any ?more|any longer)\b", re.I)
_CAN_BEGIN = PRONOUNS | ADVERBS | {"my", "our"}
_FUTURE_EVENT = words(
    "move relocate start join marry transfer switch leave quit retire fly travel go visit adopt buy get"
)


def parse(text: str) -> Clause | None:
    """The clause in ``text`` (already expanded), or ``None`` if no verb is found."""
    tokens = _TOKEN.findall(text)
    low = [token.lower() for token in tokens]
    start = _skip_openers(low)
    lead, subject, at = find_subject(tokens, low, start)
    if at < 0:
        return None
    clause = _walk(tokens, low, at)
    if clause is None:
        return None
    head = " ".join(low[:start] + lead)
    clause = replace(clause, subject=" ".join(subject).replace(" .", "."), lead=head)
    inner = _inner_clause(clause)
    if inner is not None:
        return inner
    modality: Modality = clause.modality
    if not _DOUBT.isdisjoint(low):
        modality = "hypothetical"
    elif any(word in FORMS and FORMS[word][0] in _REPORTING for word in lead):
        modality = "reported"
    return replace(clause, modality=modality)


def _skip_openers(low: list[str]) -> int:
    i = 0
    while i < len(low) and (low[i] in OPENERS or not low[i][0].isalnum()):
        i += 1
    return i if i < len(low) else 0


@dataclass(slots=True)
class _State:
    tense: Tense = "present"
    progressive: bool = False
    negated: bool = False
    ended: bool = False
    modality: Modality = "asserted"
    flags: set[str] = field(default_factory=set)


def _walk(tokens: list[str], low: list[str], i: int) -> Clause | None:
    """From the first auxiliary to the verb with the meaning."""
    state = _State()
    while i < len(low):
        step = _step(low, i, state)
        if step == 0:
            return _finish(tokens, low, i, state)
        if step < 0:
            return None
        i += step
    return None


def _modifier(low: list[str], i: int, state: _State) -> int:
    """Words of negation and manner at ``i``, noted in ``state``; 0 if there are none."""
    if low[i] in ("not", "never"):
        state.negated = True
        return 1
    if low[i : i + 2] == ["no", "longer"]:
        state.ended = True
        return 2
    if low[i] in ADVERBS:
        state.flags.add(low[i])
        return 1
    return 0


def _step(low: list[str], i: int, state: _State) -> int:
    """How many words to move on; 0 when word ``i`` is the verb, -1 when there is none."""
    word, after = low[i], low[i + 1] if i + 1 < len(low) else ""
    if skip := _modifier(low, i, state):
        return skip
    if word in MODALS:
        state.flags.add(word)
        if word in ("will", "shall", "must", "should"):
            state.modality = "plan"
        elif word not in ("can", "cannot"):
            state.modality = "hypothetical"
        return 1
    ahead = _next_word(low, i + 1)
    if word in BE:
        return _step_be(low, i, ahead, state)
    if word in HAVE:
        return _step_have(low, i, ahead, state)
    if word in DO and is_base(ahead):
        state.tense = "past" if word == "did" else state.tense
        return 1
    if word == "used" and after == "to":
        state.ended, state.tense = True, "past"
        return 2
    if word in FORMS or word in HAVE or word in DO:
        return _step_chain(low, i, state)
    return 0 if word[0].isalpha() else -1


def _next_word(low: list[str], i: int) -> str:
    while i < len(low) and (low[i] in ADVERBS or low[i] in ("not", "never") or low[i : i + 2] == ["no", "longer"]):
        i += 1 + (low[i] == "no")
    return low[i] if i < len(low) else ""


def _step_be(low: list[str], i: int, ahead: str, state: _State) -> int:
    if BE[low[i]] == "past":
        state.tense = "past"
    if ahead == "going" and low[i + 1 : i + 4][-1:] != ["going"] and "to" in low[i + 2 : i + 4]:
        place = low.index("to", i)
        if place + 1 < len(low) and is_base(low[place + 1]):
            state.modality = "plan"
            return place + 1 - i
    if ahead == "about" and low[i + 2 : i + 3] == ["to"]:
        state.modality = "plan"
        return 3
    if is_ing_verb(ahead):
        state.progressive = True
        return 1
    return 0


def _step_have(low: list[str], i: int, ahead: str, state: _State) -> int:
    if ahead == "to":
        state.modality = "plan"
        return 2 + (low[i + 1] != "to")
    if ahead == "got":
        place = low.index("got", i)
        if low[place + 1 : place + 2] == ["to"]:
            state.modality = "plan"
            return place + 2 - i
        if low[place + 1 : place + 2] and (is_participle(low[place + 1]) or low[place + 1] in ("divorced", "promoted")):
            state.tense = "perfect"
            return place - i
        state.flags.add("got")
        return 0
    if is_participle(ahead):
        state.tense = "perfect"
        return 1
    if low[i] == "had":
        state.tense = "past"
    return 0


def _step_chain(low: list[str], i: int, state: _State) -> int:
    """Verbs that only colour the next one: "want to move", "started working", "stopped smoking"."""
    base, (after, second) = lemma(low[i]), [*low[i + 1 : i + 3], "", ""][:2]
    to_verb = after == "to" and is_base(second)
    if base in _PLANS or (base in ("like", "love", "prefer") and state.modality == "hypothetical"):
        if to_verb:
            state.modality = "plan"
            return 2
        if base in ("consider",) and is_ing_verb(after):
            state.modality = "plan"
            return 1
    if base in ("think", "dream", "talk") and after in ("about", "of") and is_ing_verb(second):
        state.modality = "plan"
        return 2
    if (
        base in ("look",)
        and low[i + 1 : i + 3] == ["forward", "to"]
        and is_ing_verb(low[i + 3] if i + 3 < len(low) else "")
    ):
        state.modality = "plan"
        return 3
    if base in _ENDING and is_ing_verb(after):
        state.ended, state.tense = True, "past"
        return 1
    if base == "give" and after == "up" and is_ing_verb(second):
        state.ended, state.tense = True, "past"
        return 2
    if base in _PASSING and (
        (is_ing_verb(after) and base not in ("go", "come", "help", "get")) or (to_verb and base != "go")
    ):
        state.flags.add(base)
        if form(low[i]) == "past":
            state.flags.add("began")
        return 2 if to_verb else 1
    if base == "end" and after == "up" and is_ing_verb(second):
        return 2
    return 0


def _finish(tokens: list[str], low: list[str], i: int, state: _State) -> Clause:
    word = low[i]
    if word in BE:
        verb = "be"
        if BE[word] == "past":
            state.tense = "past"
    elif word in HAVE or (word == "got" and "got" in state.flags):
        verb = "have"
        if word == "had":
            state.tense = "past"
    elif word in DO:
        verb = "do"
        state.tense = "past" if word == "did" else state.tense
    else:
        verb = lemma(word)
        kind = form(word) or ("past" if word.endswith("ed") else "")
        if kind == "past" and state.tense == "present":
            state.tense = "past"
        state.progressive = state.progressive or kind == "ing"
    stop = i + 1
    if "got" in state.flags and verb == "have":
        stop = low.index("got", i) + 1
    while stop < len(low) and (skip := _modifier(low, stop, state)):  # "am no longer single", "am now 30"
        stop += skip
    rest = _join(tokens[stop:])
    flags = state.flags | {m.lower() for m in _AGAIN_LATER.findall(rest)}
    ended = state.ended or (state.negated and bool(_NO_MORE.search(rest)))
    modality = state.modality
    if state.progressive and state.tense == "present" and verb in _FUTURE_EVENT and "now" not in flags:
        modality = "plan"  # "I am moving to Rome next month"
    return Clause(
        subject="", verb=verb, rest=rest, tense=state.tense, progressive=state.progressive,
        negated=state.negated or ended, ended=ended, modality=modality, flags=frozenset(flags),
    )  # fmt: skip


def _join(tokens: list[str]) -> str:
    return re.sub(r" (?=[,.;:!?)])", "", " ".join(tokens))


def _inner_clause(clause: Clause) -> Clause | None:
    """What is thought or told: "I think I live here" -> "I live here"; "Tom says I ..." -> reported."""
    if clause.verb not in _THINKING and clause.verb not in ("hear", "hope", "wish", "love"):
        return None
    rest = re.sub(r"^(?:that|me|us|him|her|everyone|people) ", "", clause.rest)
    rest = re.sub(r"^that ", "", rest)
    tokens = rest.split()
    if len(tokens) < 3 or (tokens[0].lower() not in _CAN_BEGIN and not tokens[0][0].isupper()):
        return None
    inner = parse(rest)
    if inner is None or not inner.subject:
        return None
    own = clause.subject.lower() in ("i", "we")
    modality: Modality = inner.modality
    if clause.verb in ("hope", "wish") or (clause.verb in ("guess", "suppose") and clause.negated):
        modality = "hypothetical"
    elif clause.verb == "hear" or not own:
        modality = "reported" if modality == "asserted" else modality
    if clause.negated:
        modality = "hypothetical"
    return replace(inner, modality=modality, lead=clause.lead)
