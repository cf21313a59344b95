"""Mem0's first phase without a language model: from a turn to facts that stand on their own.

Mem0, arXiv 2504.19413, section 2.1, asks a model for salient facts; here grammar answers, in half a millisecond
and always the same. A turn is cut into sentences and clauses; chatter is dropped; what stays is told in the
third person with its dates resolved, and where a pattern family recognises an attribute the fact carries a slot
that the update phase can decide by. Every fact keeps the span of its quote: nothing is in it that the turn, a
name or the calendar did not give.

Who is heard: people. An assistant's turn gives only what it says of itself or promises ("I will book the
table"); system and tool messages give nothing. A message with a name is a person's, whatever its role.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Literal

from lamina.cube.cube import Claim
from lamina.text.base import Fact, Turn
from lamina.text.english import attributes, families, idioms
from lamina.text.english.clause import Clause, expand, parse
from lamina.text.english.entities import entities, keywords, names_inside
from lamina.text.english.lexicon import ADVERBS, OPENERS, RELATIONS, STOP, words
from lamina.text.english.manner import HEARD, after_remark, polarity_of, reaches_me, settle
from lamina.text.english.readings import Found
from lamina.text.english.sentences import clauses, sentences
from lamina.text.english.subjects import EMPTY_SUBJECTS, belongs_to_speaker, is_elliptic, may_own, subject_of
from lamina.text.english.third_person import rewrite
from lamina.text.time import TimeSpan, format_date, resolve

_WORD = re.compile(r"\w[\w'’@.+-]*")
# Openers that a fact can do without. "Right", "now" and the like may carry meaning at its head.
_DROPPED = sorted(OPENERS - words("right now look listen sure guess sorry actually"), key=len, reverse=True)
_OPENER = re.compile(rf"^(?:(?:{'|'.join(_DROPPED)})\b[,!.:;\s–—-]+)+", re.I)
_REACTION = re.compile(
    r"\W*(?:(?:and|but|so|i'?m|i am|we'?re|that'?s|this is|it'?s|really|very|just|wow|oh|aww?|yeah|well|hey)\b[\s,]*)*"
    r"(?:glad|happy (?:for|to hear)|proud of|sorry|congrat\w*|good (?:luck|job|for|call|idea)|well done|sounds?|looks?"
    r"|nice|awesome|amazing|great|cool|wonderful|fantastic|beautiful|lovely|incredible|impressive|inspiring|what an?"
    r"|how|thanks?|thx|enjoy|take care|keep|let'?s|let me|can'?t wait|looking forward|(?:i )?bet|best of|absolutely"
    r"|totally|definitely|no worries|no problem|you'?re|(?:i )?(?:appreciate|hope|love (?:that|this|how|your|the way)"
    r"|agree|know|understand|see|get it|admire|can (?:imagine|see|relate)))\b",
    re.I,
)
_CONTACT = re.compile(r"\b(?:e-?mail|number|phone|cell|mobile|address)\b")
_OWN_WORD = re.compile(r"\b(?:I|i|my|me|we|our|us)\b|\b(?:My|We|Our)\b")
_DEFINITE = re.compile(r"(?:the|an?|some|one|two|three|his|her|their|all|both|mum|mom|dad|grand\w+)\b")
_CONTACTS = ("phone", "email", "address")
_DATA = (*_CONTACTS, "correction", "plan.")  # known by their form, whatever the words
_PREFERENCES = ("likes", "favourite.", "diet", "regime")
_RELATIVE_DATE = re.compile(r"\d{4}")


@dataclass(frozen=True, slots=True)
class _Part:
    """A stretch of a sentence that becomes one fact, with its parse and slot if it has any."""

    start: int  # in the turn
    end: int
    clause: Clause | None
    found: Found | None
    subject: str
    implied: bool  # the speaker is meant but not said: "Moved to Rome!"
    dated: bool = False
    heard: bool = False  # gives somebody else's words, in which "I" is not the speaker


class RulesExtractor:
    """The default ``Extractor``: deterministic, offline, a few thousand turns a second on one core."""

    name = "rules"

    def extract(self, turn: Turn, context: Sequence[Turn] = ()) -> list[Fact]:
        """Facts of ``turn``; ``context`` tells who is meant by "you" (two named speakers)."""
        if turn.role in ("system", "tool"):
            return []
        reader = _Reader(turn, _other_speaker(turn, context))
        facts = [fact for start, end in sentences(turn.text) for fact in reader.read(start, end)]
        if turn.role == "assistant" and not turn.named:
            return [fact for fact in facts if _of_itself(fact, turn.speaker)]
        return facts


def _other_speaker(turn: Turn, context: Sequence[Turn]) -> str | None:
    others = {t.speaker for t in context if t.role in ("user", "assistant") and t.speaker != turn.speaker}
    return others.pop() if turn.named and len(others) == 1 else None


def _of_itself(fact: Fact, speaker: str) -> bool:
    """An assistant's own attribute, or a commitment it makes."""
    claim = fact.claim
    if claim.subject != speaker or not fact.text.startswith(speaker):
        return False
    return claim.modality == "plan" or (claim.slot is not None and claim.modality == "asserted")


class _Reader:
    """Reads the sentences of one turn; remembers whom "she" may mean."""

    def __init__(self, turn: Turn, other: str | None) -> None:
        self._turn = turn
        self._other = other
        self._anchor = turn.at.astimezone(turn.zone)
        self._small = turn.text == turn.text.lower()
        self._names = names_inside(turn.text)
        self._person: str | None = None

    def read(self, start: int, end: int) -> list[Fact]:
        start = after_remark(self._turn.text, start, end)
        sentence = self._turn.text[start:end]
        if sentence.rstrip("\"'”’)").endswith("?"):
            return []
        spans = resolve(sentence, self._anchor)
        heard = HEARD.match(sentence)
        parts = [self._heard(sentence, start, end)] if heard else self._parts(sentence, start)
        if spans:
            parts = [replace(part, dated=any(_within(s, part, start) for s in spans)) for part in parts]
        return [self._fact(part, spans, start) for part in parts if self._worth(part)]

    def _parts(self, sentence: str, offset: int) -> list[_Part]:
        """Clauses with a slot stand alone; the others stay together as they were said."""
        parts: list[_Part] = []
        spoken = False  # an earlier clause of this sentence had the speaker as its subject
        for low, high in clauses(sentence):
            part = self._part(sentence[low:high], offset + low, offset + high, spoken)
            spoken = spoken or (part.clause is not None and part.clause.subject.lower() in ("i", "we")) or part.implied
            last = parts[-1] if parts else None
            if last is not None and last.found is None and part.found is None:
                parts[-1] = _Part(last.start, part.end, last.clause, None, last.subject, last.implied)
            else:
                parts.append(part)
        return parts

    def _heard(self, sentence: str, start: int, end: int) -> _Part:
        """Direct speech stays whole: whose "I" it holds is for no pattern to say."""
        clause = parse(expand(sentence[: HEARD.match(sentence).end()]))  # type: ignore[union-attr]
        owner, _ = attributes.split_subject(clause.subject if clause is not None else "")
        subject = self._subject(owner) if owner else None
        return _Part(start, end, clause, None, subject or self._turn.speaker, False, heard=True)

    def _part(self, text: str, start: int, end: int, spoken: bool) -> _Part:
        expanded = expand(text)
        clause = parse(expanded)
        if clause is None:
            found = attributes.contact(expanded, "")
            return _Part(start, end, None, found, self._turn.speaker, False)
        implied = not clause.subject and is_elliptic(clause, expanded, spoken)
        owner, noun = attributes.split_subject("I" if implied else clause.subject)
        subject = self._subject(owner)
        found = self._find(clause, expanded, owner, noun) if subject else attributes.contact(expanded, noun)
        told = idioms.by_wording(expanded, clause) if found is None or not found.slot.startswith(_DATA) else None
        if told is not None:
            found = settle(told, clause)
        if told is not None or (found is not None and belongs_to_speaker(found, clause, owner, noun)):
            subject = self._turn.speaker
        self._remember(owner, subject)
        return _Part(start, end, clause, found, subject or self._turn.speaker, implied)

    def _find(self, clause: Clause, expanded: str, owner: str, noun: str) -> Found | None:
        found = (
            attributes.correction(expanded)
            or attributes.contact(expanded, noun or clause.subject.lower(), owned=_CONTACT.search(noun) is not None)
            or (attributes.kin_name(clause, owner) if noun in ("", "name") else None)
            or attributes.death(clause)
            or attributes.by_noun(clause, owner, noun, self._anchor)
        )
        if found is None and noun == "" and may_own(owner, clause):
            found = families.by_verb(_capitalised(clause) if self._small else clause)
        if found is None or (clause.negated and found.slot.endswith(".also")):
            return None
        return settle(found, clause)

    def _subject(self, owner: str) -> str | None:
        return subject_of(owner, self._turn.speaker, self._other, self._person)

    def _remember(self, owner: str, subject: str | None) -> None:
        """ "My sister Ana called. She moved to Rome.": she is the last person who was the subject."""
        low = owner.lower()
        if low.startswith("my ") and any(w in RELATIONS for w in low.split()):
            self._person = subject
        elif subject not in (None, self._turn.speaker, self._person):
            self._person = None

    def _worth(self, part: _Part) -> bool:
        """The quality gate: something is stated, by words that carry content."""
        if part.found is not None:
            return True
        text = self._turn.text[part.start : part.end]
        tokens = [t.lower().replace("’", "'").strip(".").removesuffix("'s") for t in _WORD.findall(text)]
        content = [t for t in tokens if t not in STOP and t not in OPENERS and t not in ADVERBS and "'" not in t]
        found_names = [n for n in entities(text, known=self._names) if not self._is_participant(n)]
        named = bool(found_names) or any(t.isdigit() for t in tokens)
        if not named and not part.dated and _REACTION.match(text):
            return False  # says how it feels to hear the other's news
        clause = part.clause
        if clause is None:
            return len(content) >= 3 and named
        subject = clause.subject.lower()
        if not subject and not part.implied:
            return False  # an imperative, or "Sounds great"
        if subject == "you" and self._other is None:
            return False
        own = part.implied or _OWN_WORD.search(text) is not None
        if subject in EMPTY_SUBJECTS:
            return len(content) >= (3 if named else 4) and (own or named)
        if not (own or named or part.dated or _DEFINITE.match(subject)):
            return False  # about nobody in particular: "Exams are hard", "Being outside helps"
        return len(content) >= (2 if named else 3)

    def _is_participant(self, name: str) -> bool:
        """Whether a name is one of the two who talk ("Thanks, Mel!"), so that it tells nothing new."""
        return any(who is not None and who.startswith(name) for who in (self._turn.speaker, self._other))

    def _fact(self, part: _Part, spans: list[TimeSpan], offset: int) -> Fact:
        text = self._turn.text[part.start : part.end]
        inside = [s for s in spans if _within(s, part, offset)]
        told = _with_dates(text, [(s, offset + s.char_start - part.start) for s in inside])
        opener = _OPENER.match(told)
        if opener and opener.end() < len(told):
            told = told[opener.end() :]
        if part.implied:
            told = "I " + told[0].lower() + told[1:]
        told = told.strip(" ,;:-–—")
        said = HEARD.match(told)
        cut = said.end() if part.heard and said else len(told)
        told = rewrite(told[:cut], self._turn.speaker, self._other) + told[cut:]
        modality = _modality(part)
        valid_from, valid_to = _validity(part, inside)
        found = part.found
        polarity = not (part.clause is not None and part.clause.negated)
        if found is not None:
            polarity = polarity_of(found, part.clause)
        claim = Claim(part.subject, found.slot if found else None, found.value if found else None, polarity, modality)
        return Fact(
            text=told[:1].upper() + told[1:], start=part.start, end=part.end,
            semantic_type=_semantic_type(part, modality), claim=claim, valid_from=valid_from, valid_to=valid_to,
            entities=entities(text, known=self._names), keywords=keywords(text),
        )  # fmt: skip


def _within(span: TimeSpan, part: _Part, offset: int) -> bool:
    return part.start <= offset + span.char_start and offset + span.char_end <= part.end


def _capitalised(clause: Clause) -> Clause:
    """For people who never press shift: content words may be names."""
    return replace(clause, rest=" ".join(w if w in STOP else w[:1].upper() + w[1:] for w in clause.rest.split()))


Modality = Literal["asserted", "plan", "hypothetical", "reported"]


def _modality(part: _Part) -> Modality:
    if part.heard:
        return "reported"
    if part.found is not None and part.found.slot.startswith("plan."):
        return "plan"
    if part.clause is None:
        return "asserted"
    if part.found is not None and part.found.slot.startswith(_CONTACTS) and reaches_me(part.clause):
        return "asserted"
    return part.clause.modality


def _semantic_type(part: _Part, modality: Modality) -> str:
    slot = part.found.slot if part.found else ""
    if slot.startswith(_PREFERENCES):
        return "preference"
    planned = modality == "plan" and (part.clause is None or part.clause.tense == "present")
    if planned or slot.startswith("plan."):
        return "plan"
    if (
        part.clause is not None
        and part.clause.tense == "past"
        and (part.found is None or part.found.kind in ("done", "end"))
    ):
        return "event"
    return "fact"


def _validity(part: _Part, spans: list[TimeSpan]) -> tuple[datetime | None, datetime | None]:
    """When a fact holds: a state from its date on, an event in its interval; "until" and "since" as they say.

    A date of birth holds always.
    """
    if part.found is not None and part.found.slot == "birth":
        return None, None
    lasting = (
        part.found is not None
        and part.found.kind in ("state", "event", "end")
        and not part.found.slot.startswith("plan.")
    )
    for span in spans:
        start, end = span.start.astimezone(UTC), span.end.astimezone(UTC)
        if span.relation in ("since", "for"):
            return start, None
        if span.relation == "until":
            return None, end
        if span.relation == "at":
            return (start, None) if lasting else (start, end)
    return None, None


def _with_dates(text: str, spans: list[tuple[TimeSpan, int]]) -> str:
    """Relative expressions with their date in brackets: "last week (week of 1 May 2023)"."""
    for span, start in sorted(spans, key=lambda pair: -pair[1]):
        end = start + span.char_end - span.char_start
        if not _RELATIVE_DATE.search(span.text):
            text = f"{text[:end]} ({format_date(span)}){text[end:]}"
    return text
