"""From what a model said to facts: who, when and which attribute are read from the sentence, and all is checked.

A model writes sentences and names the turns they rest on; it does not get to say more. The claim (subject, slot,
value) by which the update phase decides, and the dates, come from the rules that read a person's own words;
citations of turns that were not shown are dropped; what is not grounded in the turns it cites, or in those with the
turn before each (which is then cited as well: an answer rests on its question), is set aside.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from lamina.cube.cube import Claim
from lamina.text.base import Fact, Turn
from lamina.text.english.entities import entities, keywords
from lamina.text.extraction import RulesExtractor
from lamina.text.prompted.draft import Counts, Draft
from lamina.text.prompted.grounding import why_ungrounded
from lamina.text.prompted.quoting import nearest_sentence

LONGEST = 1000  # characters of one statement
# The rules read first persons. Of a third person's endings they miss some, and "the neighbour of Ana has a piano" they
# take for Ana's; a wrong slot would supersede what is true, so a claim they may have misread is none.
_ENDED = re.compile(r"\b(?:no longer|not|never|used to|quit|quits|stopped|former|formerly|ex)\b|n['’]t\b", re.I)


@dataclass(frozen=True, slots=True)
class Statement:
    """One item of an answer: a sentence, whom it is about, the numbers of the turns it rests on."""

    text: str
    about: str
    turns: tuple[int, ...]
    links: tuple[str, ...] = ()
    mended: bool = False  # something wrong was taken off already


@dataclass(frozen=True, slots=True)
class Shown:
    """What the model was shown: earlier turns (numbered from 1), then the new ones; and how its words are filed."""

    context: Sequence[Turn]
    new: Sequence[Turn]
    extractor: str
    model: str
    prompt_hash: str

    @property
    def turns(self) -> list[Turn]:
        return [*self.context, *self.new]


def drafts(statements: Iterable[Statement], shown: Shown, counts: Counts) -> tuple[Draft, ...]:
    """Each statement once, checked; counted in ``counts``."""
    kept: dict[str, Draft] = {}
    for statement in statements:
        text = " ".join(statement.text.split())[:LONGEST]
        if text and text.casefold() not in kept:
            kept[text.casefold()] = _draft(replace(statement, text=text), shown, counts)
    return tuple(kept.values())


def _draft(statement: Statement, shown: Shown, counts: Counts) -> Draft:
    turns, numbers = shown.turns, set(statement.turns)
    cited = sorted(number - 1 for number in numbers if 1 <= number <= len(turns))
    unknown = len(numbers) - len(cited)
    cites, doubt = _grounds(statement.text, cited, shown)
    mended = doubt is None and (statement.mended or unknown > 0 or cites != cited)
    counts.add(unknown_ids=unknown, quarantined=doubt is not None, repaired=mended)
    return Draft(
        fact=_fact(statement, turns[cites[-1]], shown.extractor), cites=tuple(cites), links=statement.links,
        model=shown.model, prompt_hash=shown.prompt_hash, doubt=doubt,
    )  # fmt: skip


def _grounds(text: str, cited: list[int], shown: Shown) -> tuple[list[int], str | None]:
    """The turns that ``text`` rests on, as cited or mended, and what speaks against it if anything does."""
    turns, known = shown.turns, len(shown.context)
    speakers = {turn.speaker for turn in turns}

    def doubt(places: list[int]) -> str | None:
        return why_ungrounded(text, [turns[place] for place in places], speakers)

    if not any(place >= known for place in cited):  # a slip of the pen, if the new turns do say it
        new = list(range(known, len(turns)))
        return new, "it cites none of the new turns" if doubt(new) else None
    asked = [place - 1 for place in cited if place > 0 and turns[place - 1].role != "tool"]  # a tool asks nothing
    wider = sorted({*asked, *cited})
    if (problem := doubt(cited)) is not None and doubt(wider) is None:
        return wider, None  # an answer rests on its question
    return cited, problem


def _fact(statement: Statement, turn: Turn, extractor: str) -> Fact:
    """The statement as a fact filed under ``turn``: the claim as the rules read it, the quote nearest to it."""
    about = _named(statement.about, turn)
    start, end = nearest_sentence(statement.text, turn.text)
    told = replace(turn, text=statement.text, speaker=about, role="user", named=True)
    read = RulesExtractor().extract(told)
    if len(read) == 1:
        claim = read[0].claim if _is_surely(read[0].claim, statement.text) else Claim(read[0].claim.subject)
        return replace(read[0], text=statement.text, start=start, end=end, claim=claim, extractor=extractor)
    return Fact(
        text=statement.text, start=start, end=end, semantic_type="fact", claim=Claim(about), extractor=extractor,
        entities=entities(statement.text), keywords=keywords(statement.text),
    )  # fmt: skip


def _is_surely(claim: Claim, text: str) -> bool:
    """Whether the rules' claim about a sentence in the third person can be acted on."""
    starts = re.match(rf"{re.escape(claim.subject)}(?!\w)", text, re.I) is not None
    return claim.slot is None or (
        (starts or claim.modality == "reported") and not (claim.polarity and _ENDED.search(text))
    )


def _named(about: str, turn: Turn) -> str:
    """Whom a statement is about; whoever spoke where the model says nothing, "user" or "assistant"."""
    name = " ".join(about.split())[:100]
    return turn.speaker if not name or name.casefold() in ("user", "the user", "assistant", "speaker") else name
